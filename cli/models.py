"""Which model a name means: a shipped one, a checkpoint folder, or an image file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import tokenizers

from lutern.firmware.image import Image, read_image
from lutern.model_ref.checkpoint import Checkpoint, Tokenizer, load_checkpoint, load_tokenizer
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantize import IntegerWeights, integer_weights

SHIPPED = ("demo", "demo-small")


@dataclass(frozen=True)
class Model:
    """A checkpoint and its tokenizer."""

    name: str
    checkpoint: Checkpoint
    tokenizer: Tokenizer


def open_model(name: str) -> Model:
    """Load ``demo``, ``demo-small`` or a folder in the published format."""
    folder = _folder(name)
    model = Model(name, load_checkpoint(folder), load_tokenizer(folder))
    if model.tokenizer.vocab_size > model.checkpoint.config.vocab_size:
        raise LuternError(
            f"the tokenizer of {name} has {model.tokenizer.vocab_size} tokens, but the model knows "
            f"{model.checkpoint.config.vocab_size}; give the tokenizer that the model was trained with."
        )
    return model


@dataclass(frozen=True)
class Network:
    """A model of which everything but the config is made when asked for; an image has no ``checkpoint``."""

    name: str
    config: ModelConfig
    checkpoint: Checkpoint | None
    weights: Callable[[], IntegerWeights]
    tokenizer: Callable[[], Tokenizer]


def open_network(name: str) -> Network:
    """Load what ``open_model`` loads, or an image file."""
    if Path(name).is_file():
        image = read_image(name)
        return Network(name, image.weights.config, None, lambda: image.weights, lambda: _tokenizer(image, name))
    folder = _folder(name)
    checkpoint = load_checkpoint(folder)
    return Network(name, checkpoint.config, checkpoint, lambda: integer_weights(checkpoint),
                   lambda: open_model(name).tokenizer)


def _tokenizer(image: Image, name: str) -> Tokenizer:
    try:
        return Tokenizer(tokenizers.Tokenizer.from_str(image.tokenizer_json))
    except Exception as error:  # the library raises bare Exception for every malformed file
        raise LuternError(f"{name} holds no tokenizer that the tokenizers library reads; write it again.") from error


def _folder(name: str) -> Path:
    """Folder of a shipped model's name or of a path."""
    folder = Path(name)
    if name in SHIPPED:
        return Path(str(resources.files("lutern.firmware") / "models" / name))
    if not folder.is_dir():
        raise LuternError(
            f"there is no model {name}; give one of {', '.join(SHIPPED)}, or a folder with config.json and "
            "model.safetensors."
        )
    return folder
