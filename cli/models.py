"""Opens models for commands, and prints each note of the reader once."""

from __future__ import annotations

import sys
from functools import cache

from lutern.api import models
from lutern.api.machines import largest_shipped
from lutern.api.models import SHIPPED, Model, checkpoint_folder
from lutern.cli.output import printable
from lutern.firmware.image import OpenImage
from lutern.hw.config import HwConfig
from lutern.measure.bench import LARGE, LARGE_MEMORY
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint


def open_model(name: str) -> Model:
    """Open a model, and print its notes."""
    model = models.load(name)
    say_notes(name, model.notes)
    return model


def open_checkpoint(name: str) -> Checkpoint:
    """Open a shipped model or a folder, and print its notes."""
    checkpoint = models.open_checkpoint(name)
    say_notes(name, checkpoint.notes)
    return checkpoint


def open_image_file(name: str) -> OpenImage:
    """Open an image, and print the notes of its checkpoint's reader."""
    image = models.open_image_file(name)
    say_notes(name, image.notes)
    return image


MODEL_HELP = (
    f"demo, demo-small, demo-large, a checkpoint folder, or an image; default: {SHIPPED[0]}, or {SHIPPED[1]} if the "
    f"machine does not hold {SHIPPED[0]}."
)


def default_model(config: HwConfig | None) -> str:
    """Return the default model of a command: the largest shipped model that the machine holds."""
    return (largest_shipped(config) if config else None) or SHIPPED[0]


def say_notes(name: str, notes: tuple[str, ...]) -> None:
    """Print the notes, which say what was read in an unexpected way."""
    for note in notes:
        say(f"{name}: {note}")


@cache
def say(note: str) -> None:
    """Print a note on standard error once, even if a command opens the model several times."""
    print(printable(f"note: {note}"), file=sys.stderr)


def find_shape(model: str, size: str) -> tuple[str, ModelConfig]:
    """Return the name and the shape of a published size or, if ``size`` is empty, of a model."""
    if not size:
        return model, open_model(model).config
    if size.lower() not in PUBLISHED:
        raise LuternError(f"there is no size {size}; choose one of {', '.join(PUBLISHED)}.")
    return size.upper(), PUBLISHED[size.lower()]


def machine_and_weights(config: HwConfig, model: str) -> tuple[HwConfig, IntegerWeights]:
    """Return a machine and the weights of a model. For ``random`` weights, the memories of the machine are enlarged."""
    if model != "random":
        return config, open_model(model).weights
    return config.with_(**LARGE_MEMORY.get(config.name, {})), integer_weights(random_checkpoint(LARGE, seed=1))


__all__ = [
    "MODEL_HELP",
    "SHIPPED",
    "Model",
    "checkpoint_folder",
    "default_model",
    "find_shape",
    "machine_and_weights",
    "open_checkpoint",
    "open_image_file",
    "open_model",
    "say",
]
