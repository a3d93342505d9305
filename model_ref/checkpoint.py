"""Checkpoint folders in the published format, in and out.

    DIR/config.json         shape of the network (config.py)
    DIR/model.safetensors   every tensor of the published names, float32, float16 or bfloat16
    DIR/tokenizer.json      what the tokenizers library reads (tokenizer.py)

Large models are stored in shards: ``model.safetensors.index.json`` then says which file of the folder has which tensor
(weight_files.py).

Opening a folder first checks the bounds of the config, then compares names, types and shapes of all tensors with it; a
tensor that the network does not use is refused. Values are read only when a tensor is asked for, one at a time and
memory-mapped; a tensor with values that are not finite is refused then. Only safetensors is read, never a pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.config import ModelConfig, read_values
from lutern.model_ref.container import Container, Entry, write_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.output_files import write_whole
from lutern.model_ref.ternarise import one_magnitude
from lutern.model_ref.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer
from lutern.model_ref.weight_files import (
    CONFIG_FILE,
    INDEX_FILE,
    WEIGHTS_FILE,
    find_weights,
    no_weights,
    not_a_folder,
    refuse_adapter,
)

__all__ = [
    "CONFIG_FILE",
    "INDEX_FILE",
    "WEIGHTS_FILE",
    "Checkpoint",
    "LazyTensors",
    "Tokenizer",
    "load_checkpoint",
    "load_tokenizer",
    "save_checkpoint",
]

SYNTHETIC = "lutern_synthetic"
"""Key of a file's metadata that marks random weights; its value says how they were made."""
MAY_BE_ZERO = ("model.lower_bounds",)
_WRITABLE: dict[str, tuple[str, Any]] = {
    "float32": ("F32", np.float32),
    "float16": ("F16", np.float16),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model's config, its tensors by published name (float32, not quantised) and the folder they came from.

    synthetic
        how random weights were made; empty for trained ones.
    notes
        where the reading differs from that of the published code, one sentence each; the commands print them.
    assumed
        what the files leave open, and what they hold that the network does not use; `lutern inspect` prints it.
    files
        the files that hold the weights.
    """

    config: ModelConfig
    tensors: Mapping[str, NDArray[np.float32]]
    folder: Path
    synthetic: str = ""
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


class LazyTensors(Mapping[str, NDArray[np.float32]]):
    """Tensors of a checkpoint by name, float32; each access reads, checks and converts one, and keeps nothing.

    ``places`` gives the file of each tensor and its name there. An access raises ``LuternError`` if the tensor holds
    NaN, infinity or nothing but zeros.
    """

    def __init__(self, places: Mapping[str, tuple[Container, str]]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        file, _ = self._places[name]
        values = self.stored(name).astype(np.float32)
        if not np.isfinite([values.min(), values.max()]).all():  # both are NaN if one element is
            raise LuternError(f"{file.path}: {name} holds NaN or infinity; give a checkpoint with finite weights.")
        if name not in MAY_BE_ZERO and not values.any():
            raise LuternError(f"{file.path}: {name} holds nothing but zeros; give a trained checkpoint.")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def entry(self, name: str) -> Entry:
        """Return the type and shape of a tensor as stored."""
        file, stored = self._places[name]
        return file.entries[stored]

    def stored(self, name: str) -> NDArray[Any]:
        """Return a tensor as stored, memory-mapped and unchecked."""
        file, stored = self._places[name]
        return file.map(stored)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Open a checkpoint folder: check that every tensor is there, and its type and shape. Values are read later.

    Raises ``LuternError`` if the folder is not a checkpoint of the config's network.
    """
    name, folder = str(folder), Path(folder)
    if not folder.is_dir():
        wanted = f"give a checkpoint folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        raise LuternError(not_a_folder(name) or f"there is no folder {name}; {wanted}.")
    try:
        if not os.path.lexists(folder / CONFIG_FILE):
            raise LuternError(_no_config(folder))
        values = read_values(folder / CONFIG_FILE)
        config = ModelConfig.from_dict(values)
        weights = find_weights(folder, config)
        if os.path.lexists(folder / TOKENIZER_FILE):
            refuse_foreign(folder / TOKENIZER_FILE, "tokenizer")
    except OSError as error:
        raise LuternError(f"{folder} cannot be read ({error.strerror}); give a folder that you may read.") from error
    tensors = LazyTensors(weights.places)
    synthetic = next((text for file in weights.files if (text := file.metadata.get(SYNTHETIC, ""))), "")
    return Checkpoint(
        config,
        tensors,
        folder,
        synthetic,
        (*weights.notes, *_ternary_note(config, tensors)),
        (*config.assumptions(values), *weights.assumed),
        tuple(file.path for file in weights.files),
    )


def _no_config(folder: Path) -> str:
    """Return the reason, as a sentence, why a folder without a config is no checkpoint."""
    refuse_adapter(folder)
    if (folder / WEIGHTS_FILE).exists() or (folder / INDEX_FILE).exists():
        return f"{folder} has no {CONFIG_FILE}; copy it from the folder that the weights come from."
    return no_weights(folder)


def _ternary_note(config: ModelConfig, tensors: LazyTensors) -> list[str]:
    """Return the note that matrices are ternary already; of the other matrices, only a few elements are read."""
    known = [name for name in config.projections if one_magnitude(tensors.stored(f"{name}.weight")) is not None]
    if not known:
        return []
    return [
        f"{len(known)} of {len(config.projections)} matrices are ternary already (one magnitude and zeros), and that "
        "magnitude is their scale; the published code would scale them again, by their share of weights other than zero"
    ]


def save_checkpoint(
    folder: str | Path, config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]], dtype: str = "bfloat16"
) -> None:
    """Write config and tensors, rounded to ``dtype`` to nearest even; each file appears whole or not at all.

    Raises ``LuternError`` if names or shapes are not the config's, or if a file cannot be written.
    """
    if dtype not in _WRITABLE:
        raise LuternError(f"checkpoints are not written as {dtype}; choose one of {', '.join(_WRITABLE)}.")
    shapes = config.tensor_shapes
    if set(tensors) != set(shapes):
        name = sorted(set(tensors) ^ set(shapes))[0]
        problem = "is missing" if name in shapes else "is not a tensor of this model"
        raise LuternError(f"the checkpoint cannot be written: {name} {problem}; give exactly the config's tensors.")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise LuternError(
                f"the checkpoint cannot be written: {name} has shape {list(tensors[name].shape)}, but the config asks "
                f"for {list(shape)}; give exactly the config's tensors."
            )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    code, numpy_type = _WRITABLE[dtype]
    stored = {name: (code, shape) for name, shape in shapes.items()}
    with write_container(folder / WEIGHTS_FILE, stored, {"format": "pt"}) as writer:
        for name in shapes:
            writer.write(name, tensors[name].astype(numpy_type))
    save_config(folder, config, dtype)


def save_config(folder: Path, config: ModelConfig, dtype: str) -> None:
    """Write ``config.json``."""
    values = {**config.to_dict(), "torch_dtype": dtype}
    write_whole(folder / CONFIG_FILE, json.dumps(values, indent=2) + "\n")
