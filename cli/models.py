"""Which model a name means: a shipped one, a checkpoint folder, or an image file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from lutern.cli.output import printable
from lutern.firmware.image import OpenImage, open_image
from lutern.model_ref.checkpoint import Checkpoint, Tokenizer, load_checkpoint, load_tokenizer
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.tokenizer import TOKENIZER_FILE
from lutern.model_ref.weight_files import file_for_folder, not_a_folder

SHIPPED = ("demo", "demo-small")


@dataclass(frozen=True)
class Model:
    """A checkpoint and its tokenizer."""

    name: str
    checkpoint: Checkpoint
    tokenizer: Tokenizer


def open_model(name: str) -> Model:
    """Load ``demo``, ``demo-small`` or a folder in the published format."""
    checkpoint = open_checkpoint(name)
    return Model(name, checkpoint, _tokenizer_of(checkpoint))


@dataclass(frozen=True)
class Network:
    """A model of which everything but the config is made when asked for; an image has no ``checkpoint``."""

    name: str
    config: ModelConfig
    checkpoint: Checkpoint | None
    weights: Callable[[], IntegerWeights]
    tokenizer: Callable[[], Tokenizer]
    embedding_bits: int = WIDE_BITS
    synthetic: str = ""  # how random weights were made; every figure measured on such a model says so


def open_network(name: str) -> Network:
    """Load what ``open_model`` loads, or an image file."""
    if Path(name).is_file():
        image = open_image_file(name)

        def of_image() -> Tokenizer:
            tokenizer = Tokenizer.from_json(image.tokenizer_json, f"{name}: {TOKENIZER_FILE}", image.conventions)
            return tokenizer.limit_to(image.config.vocab_size)

        return Network(name, image.config, None, image.weights, of_image, image.embedding_bits, image.synthetic)
    checkpoint = open_checkpoint(name)
    return Network(
        name,
        checkpoint.config,
        checkpoint,
        lambda: integer_weights(checkpoint),
        lambda: _tokenizer_of(checkpoint),
        synthetic=checkpoint.synthetic,
    )


def _tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    return load_tokenizer(checkpoint.folder).limit_to(checkpoint.config.vocab_size)


def open_checkpoint(name: str) -> Checkpoint:
    """Open a shipped model or a folder, and say what was read otherwise than one might expect."""
    checkpoint = load_checkpoint(checkpoint_folder(name))
    for note in checkpoint.notes:
        say(f"{name}: {note}")
    return checkpoint


def open_image_file(name: str) -> OpenImage:
    """Open an image, say what its checkpoint's reader said; a file of a checkpoint is refused as that."""
    reason = file_for_folder(Path(name))
    if reason:
        raise LuternError(reason)
    image = open_image(name)
    for note in image.notes:
        say(f"{name}: {note}")
    return image


@cache
def say(note: str) -> None:
    """Print a note, beside the output and once, however often a command opens a model."""
    print(printable(f"note: {note}"), file=sys.stderr)


def checkpoint_folder(name: str) -> Path:
    """Folder of a shipped model's name or of a path."""
    folder = Path(name)
    if name in SHIPPED:
        return Path(str(resources.files("lutern.firmware") / "models" / name))
    if not folder.is_dir():
        if folder.is_file() and file_for_folder(folder) is None:
            open_image(folder)
            raise LuternError(f"{name} is an image already; give the checkpoint folder that it was made from.")
        raise LuternError(
            not_a_folder(name)
            or f"there is no model {name}; give one of {', '.join(SHIPPED)}, or a folder with config.json and "
            "model.safetensors."
        )
    return folder
