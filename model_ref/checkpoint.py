"""Reads and writes checkpoint folders in the published format.

    DIR/config.json         the shape of the network (config.py)
    DIR/model.safetensors   all tensors with their published names, as float32, float16 or bfloat16
    DIR/tokenizer.json      the tokenizer in the format of the tokenizers library (tokenizer.py)

Large models are stored in several files (shards). In this case ``model.safetensors.index.json`` says which file of the
folder contains which tensor (weight_files.py).

When a folder is opened, the keys and sizes in the config are checked first. Then names, types and shapes of all tensors
are compared with the config. A tensor that the network does not use is refused, unless it is a known buffer. The values
of a tensor are read when the tensor is used, one tensor at a time and memory-mapped. A tensor whose values are not all
finite is refused when it is read. Only safetensors files are read, never a pickle.
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
"""The key in a file's metadata that marks random weights. The value of this key says how these weights were made."""
MAY_BE_ZERO = ("model.lower_bounds",)
_WRITABLE: dict[str, tuple[str, Any]] = {
    "float32": ("F32", np.float32),
    "float16": ("F16", np.float16),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model's config, its tensors by published name (float32, not quantised), and its folder.

    synthetic
        Says how random weights were made. Empty for trained weights.
    notes
        One sentence for each difference between what Lutern and the published code read. The commands print these
        sentences.
    assumed
        Sentences on values that are missing in the files, and on parts of the files that the network does not use.
        `lutern inspect` prints these sentences.
    files
        The files that contain the weights.
    """

    config: ModelConfig
    tensors: Mapping[str, NDArray[np.float32]]
    folder: Path
    synthetic: str = ""
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


class LazyTensors(Mapping[str, NDArray[np.float32]]):
    """The float32 tensors of a checkpoint by name. Each access reads, checks and converts a tensor. No tensor is kept.

    ``places`` contains the file of each tensor, and the tensor's name in this file. An access raises ``LuternError`` if
    the tensor contains NaN or infinity, or only zeros.
    """

    def __init__(self, places: Mapping[str, tuple[Container, str]]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        file, _ = self._places[name]
        values = self.stored(name).astype(np.float32)
        if not np.isfinite([values.min(), values.max()]).all():  # min and max are NaN if an element is NaN
            raise LuternError(f"{file.path}: {name} holds NaN or infinity; give a checkpoint with finite weights.")
        if name not in MAY_BE_ZERO and not values.any():
            raise LuternError(f"{file.path}: {name} holds nothing but zeros; give a trained checkpoint.")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def entry(self, name: str) -> Entry:
        """Return the stored type and shape of a tensor."""
        file, stored = self._places[name]
        return file.entries[stored]

    def stored(self, name: str) -> NDArray[Any]:
        """Return a tensor as it is stored, memory-mapped, without a check of its values."""
        file, stored = self._places[name]
        return file.map(stored)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Open a checkpoint folder, and check the names, types and shapes of all tensors. Values of tensors are read later.

    Raises ``LuternError`` if the folder is no checkpoint, or if its tensors do not match its config.
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
    """Return the error message for a folder without a config."""
    refuse_adapter(folder)
    if (folder / WEIGHTS_FILE).exists() or (folder / INDEX_FILE).exists():
        return f"{folder} has no {CONFIG_FILE}; copy it from the folder that the weights come from."
    return no_weights(folder)


def _ternary_note(config: ModelConfig, tensors: LazyTensors) -> list[str]:
    """Return a note if matrices are already ternary. Matrices that are not ternary are read only up to their second
    magnitude, which is usually in the first elements."""
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
    """Write config and tensors. Values are rounded to ``dtype``, to nearest even. Each file appears complete or not at
    all.

    Raises ``LuternError`` if names or shapes differ from the config, or if a file cannot be written.
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
