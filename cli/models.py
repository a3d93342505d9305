"""Which model a name means: a shipped one, or a checkpoint folder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lutern.model_ref.checkpoint import Checkpoint, Tokenizer, load_checkpoint, load_tokenizer
from lutern.model_ref.errors import LuternError

SHIPPED = ("demo", "demo-small")


@dataclass(frozen=True)
class Model:
    """A checkpoint and its tokenizer."""

    name: str
    checkpoint: Checkpoint
    tokenizer: Tokenizer


def open_model(name: str) -> Model:
    """Load ``demo``, ``demo-small`` or a folder in the published format."""
    folder = Path(name)
    if name in SHIPPED:
        folder = Path(str(resources.files("lutern.firmware") / "models" / name))
    elif not folder.is_dir():
        raise LuternError(
            f"there is no model {name}; give one of {', '.join(SHIPPED)}, or a folder with config.json and "
            "model.safetensors."
        )
    model = Model(name, load_checkpoint(folder), load_tokenizer(folder))
    if model.tokenizer.vocab_size > model.checkpoint.config.vocab_size:
        raise LuternError(
            f"the tokenizer of {name} has {model.tokenizer.vocab_size} tokens, but the model knows "
            f"{model.checkpoint.config.vocab_size}; give the tokenizer that the model was trained with."
        )
    return model
