"""A small checkpoint whose tokens are the space and the letters, for tests that write text."""

from __future__ import annotations

from pathlib import Path

from lutern.model_ref.checkpoint import Checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer

LETTERS = " abcdefghijklmnopqrstuvwxyz"
CONFIG = ModelConfig(vocab_size=len(LETTERS), hidden_size=32, num_hidden_layers=2, intermediate_size=48)
"""A network that fits into every preset."""
SEED = 9


def letters_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token for each of LETTERS."""
    return Tokenizer(character_tokenizer(LETTERS))


def save_letters(
    folder: Path, config: ModelConfig = CONFIG, *, seed: int = SEED, checkpoint: Checkpoint | None = None
) -> Path:
    """Save ``checkpoint``, or random weights of ``config``, with the tokenizer of LETTERS. Return ``folder``."""
    checkpoint = checkpoint or random_checkpoint(config, seed)
    save_checkpoint(folder, checkpoint.config, checkpoint.tensors)
    (folder / "tokenizer.json").write_text(letters_tokenizer().to_json())
    return folder
