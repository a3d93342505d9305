"""Checkpoint folders in the published format, in and out.

    DIR/config.json         shape of the network (config.py)
    DIR/model.safetensors   every tensor of the published names, float32, float16 or bfloat16
    DIR/tokenizer.json      what the tokenizers library reads (tokenizer.py)

Large models come in shards instead: ``model.safetensors.index.json`` says which file of the folder has which tensor.

Nothing is allocated before the config's bounds hold, and names, types and shapes of all tensors are compared with the
config's when a folder is opened. Values are read when a tensor is asked for, one at a time, memory-mapped, and refused
then if they are not finite. Only safetensors is read, never a pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import Container, Entry, atomic_file, open_container, write_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Checkpoint", "LazyTensors", "Tokenizer", "load_checkpoint", "load_tokenizer", "save_checkpoint"]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
MAX_INDEX_BYTES = 1 << 22  # 256 layers need 0.4 MB
SYNTHETIC = "lutern_synthetic"
"""Key of a file's metadata that marks random weights, and says how they were made."""
MAY_BE_ZERO = ("model.lower_bounds",)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]{0,199}")
_READABLE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WRITABLE: dict[str, tuple[str, Any]] = {
    "float32": ("F32", np.float32),
    "float16": ("F16", np.float16),
    "bfloat16": ("BF16", ml_dtypes.bfloat16),
}


@dataclass(frozen=True)
class Checkpoint:
    """A model's config, its tensors by published name (float32, unquantised) and the folder they came from.

    ``synthetic`` says how random weights were made; it is empty for trained ones.
    """

    config: ModelConfig
    tensors: Mapping[str, NDArray[np.float32]]
    folder: Path
    synthetic: str = ""


class LazyTensors(Mapping[str, NDArray[np.float32]]):
    """Tensors of a checkpoint by name; each access reads, checks and converts one anew, and keeps nothing."""

    def __init__(self, files: Mapping[str, Container]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        file = self._files[name]
        stored = file.map(name)
        values = stored.astype(np.float32)
        if not np.isfinite([values.min(), values.max()]).all():  # both are NaN where one element is
            raise LuternError(f"{file.path}: {name} holds NaN or infinity; give a checkpoint with finite weights.")
        if name not in MAY_BE_ZERO and not values.any():
            raise LuternError(f"{file.path}: {name} holds nothing but zeros; give a trained checkpoint.")
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def entry(self, name: str) -> Entry:
        """Type and shape of a tensor as stored."""
        return self._files[name].entries[name]


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Open a checkpoint folder; every tensor's presence, type and shape is checked, its values when they are read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise LuternError(
            f"there is no folder {folder}; give a checkpoint folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
        )
    config = ModelConfig.from_json(folder / CONFIG_FILE)
    try:
        files = _files(folder, config)
    except OSError as error:
        raise LuternError(f"{folder} cannot be read ({error.strerror}); give a folder that you may read.") from error
    synthetic = ""
    for name, shape in config.tensor_shapes.items():
        path, entry = files[name].path, files[name].entries.get(name)
        if entry is None:
            raise LuternError(
                f"{path} has no tensor {name}, which a model of {config.num_hidden_layers} layers needs; "
                f"restore the file or correct {CONFIG_FILE}."
            )
        if entry.shape != shape:
            raise LuternError(
                f"{path}: {name} has shape {list(entry.shape)}, but {CONFIG_FILE} asks for {list(shape)}; "
                "correct the one that is wrong."
            )
        if entry.dtype not in _READABLE:
            raise LuternError(
                f"{path}: {name} is stored as {entry.dtype}, but only {', '.join(_READABLE.values())} are read; "
                "convert the checkpoint."
            )
        synthetic = synthetic or files[name].metadata.get(SYNTHETIC, "")
    return Checkpoint(config, LazyTensors(files), folder, synthetic)


def _files(folder: Path, config: ModelConfig) -> dict[str, Container]:
    """The file that should have each tensor of the model: one file for all, or what the index says."""
    path = folder / WEIGHTS_FILE
    if path.is_file():
        return dict.fromkeys(config.tensor_shapes, open_container(path))
    index = folder / INDEX_FILE
    if not index.is_file():
        pickles = sorted(item.name for item in folder.iterdir() if item.suffix in _PICKLES)
        if pickles:
            raise LuternError(
                f"{folder} has no {WEIGHTS_FILE} but {pickles[0]}, a pickle, which can run code when it is read; "
                "convert the checkpoint to safetensors."
            )
        raise LuternError(f"{folder} has no {WEIGHTS_FILE}; give a checkpoint folder in the published format.")
    shards: dict[str, Container] = {}
    files: dict[str, Container] = {}
    places = _weight_map(index)
    for name in config.tensor_shapes:
        place = places.get(name)
        if place is None:
            raise LuternError(f"{index} names no file for {name}; restore the index or correct {CONFIG_FILE}.")
        if not isinstance(place, str) or not _FILE_NAME.fullmatch(place):
            raise LuternError(
                f"{index} has {name} in {ascii(place)[:80]}, but a shard is a file of the same folder; "
                "restore the index."
            )
        if place not in shards:
            if not (folder / place).is_file():
                raise LuternError(f"{folder} has no {place}, which {INDEX_FILE} names; fetch that shard.")
            shards[place] = open_container(folder / place)
        files[name] = shards[place]
    return files


def _weight_map(path: Path) -> dict[str, Any]:
    """The index's table: tensor to file name."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise LuternError(f"{path} is larger than {MAX_INDEX_BYTES} bytes, so it is no index of shards.")
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise LuternError(f"{path} is no index of shards with a weight_map; restore the file.") from error
    if not isinstance(places, dict):
        raise LuternError(f"{path} is no index of shards with a weight_map; restore the file.")
    return places


def save_checkpoint(
    folder: str | Path, config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]], dtype: str = "bfloat16"
) -> None:
    """Write config and tensors; each file appears whole or not at all.  Rounds to ``dtype``, to nearest even."""
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
    write_atomically(folder / CONFIG_FILE, (json.dumps(values, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file, which appears whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)
