"""Checkpoint folders in the published format, in and out.

    DIR/config.json         shape of the network (config.py)
    DIR/model.safetensors   every tensor of the published names, float32, float16 or bfloat16
    DIR/tokenizer.json      what the tokenizers library reads (tokenizer.py)

Nothing is allocated before the config's bounds hold, and no tensor is read before its shape in the file's header is
the config's.  Only safetensors is read, never a pickle.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # also teaches NumPy, and through it safetensors, the type bfloat16
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from .config import ModelConfig
from .errors import LuternError
from .tokenizer import Tokenizer, load_tokenizer

__all__ = ["Checkpoint", "Tokenizer", "load_checkpoint", "load_tokenizer", "save_checkpoint"]

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_READABLE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WRITABLE: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A model's config, its tensors by published name (float32, unquantised) and the folder they came from."""

    config: ModelConfig
    tensors: dict[str, NDArray[np.float32]]
    folder: Path


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder; every tensor's presence, type, shape and finiteness is checked."""
    folder = Path(folder)
    if not folder.is_dir():
        raise LuternError(
            f"there is no folder {folder}; give a checkpoint folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
        )
    config = ModelConfig.from_json(folder / CONFIG_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise LuternError(f"{folder} has no {WEIGHTS_FILE}; give a checkpoint folder in the published format.")
    tensors: dict[str, NDArray[np.float32]] = {}
    try:
        with safe_open(str(path), framework="numpy") as file:
            present = set(file.keys())
            for name, shape in config.tensor_shapes.items():
                if name not in present:
                    raise LuternError(
                        f"{path} has no tensor {name}, which a model of {config.num_hidden_layers} layers needs; "
                        f"restore the file or correct {CONFIG_FILE}."
                    )
                view = file.get_slice(name)
                if tuple(view.get_shape()) != shape:
                    raise LuternError(
                        f"{path}: {name} has shape {list(view.get_shape())}, but {CONFIG_FILE} asks for {list(shape)}; "
                        "correct the one that is wrong."
                    )
                if view.get_dtype() not in _READABLE:
                    raise LuternError(
                        f"{path}: {name} is stored as {view.get_dtype()}, but only {', '.join(_READABLE.values())} are "
                        "read; convert the checkpoint."
                    )
                tensors[name] = file.get_tensor(name).astype(np.float32)
                if not np.isfinite(tensors[name]).all():
                    raise LuternError(f"{path}: {name} holds NaN or infinity; give a checkpoint with finite weights.")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise LuternError(f"{path} is truncated or no safetensors file ({error}); fetch or write it again.") from error
    return Checkpoint(config, tensors, folder)


def save_checkpoint(
    folder: str | Path, config: ModelConfig, tensors: dict[str, NDArray[np.float32]], dtype: str = "bfloat16"
) -> None:
    """Write config and tensors; each file appears whole or not at all.  Rounds to ``dtype``, to nearest even."""
    if dtype not in _WRITABLE:
        raise LuternError(f"checkpoints are not written as {dtype}; choose one of {', '.join(_WRITABLE)}.")
    shapes = config.tensor_shapes
    if set(tensors) != set(shapes):
        name = sorted(set(tensors) ^ set(shapes))[0]
        problem = "is missing" if name in shapes else "is not a tensor of this model"
        raise LuternError(f"the checkpoint cannot be written: {name} {problem}; give exactly the config's tensors.")
    stored: dict[str, NDArray[Any]] = {}
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise LuternError(
                f"the checkpoint cannot be written: {name} has shape {list(tensors[name].shape)}, but the config asks "
                f"for {list(shape)}; give exactly the config's tensors."
            )
        stored[name] = np.ascontiguousarray(tensors[name].astype(_WRITABLE[dtype]))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = {**config.to_dict(), "torch_dtype": dtype}
    write_atomically(folder / WEIGHTS_FILE, safetensors_bytes(stored, metadata={"format": "pt"}))
    write_atomically(folder / CONFIG_FILE, (json.dumps(values, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write through a temporary file beside ``path`` and a rename, so that no reader ever sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
