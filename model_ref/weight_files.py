"""Finds the files of a checkpoint folder that contain its weights.

    model.safetensors exists                      ─► model.safetensors is read, even if there is an index of shards
    else model.safetensors.index.json exists      ─► the index is read, which names the file (shard) of each tensor
    else                                          ─► the error message says what the folder contains

If there are a single file and an index, the transformers library reads the single file, too.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import Container, open_container
from lutern.model_ref.errors import LuternError, named, quoted
from lutern.model_ref.file_kinds import read_json, refuse_foreign
from lutern.model_ref.tensor_names import HARMLESS, find_names

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"
MAX_INDEX_BYTES = 1 << 22  # 256 layers need 0.4 MB
IMAGE_KEY = "lutern"
"""Metadata key of an image (firmware/image_format.py), which is also a safetensors file."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_READABLE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_OTHERS = (".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".npz", ".distcp")
_TRAINER_STATE = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*)\.(bin|pt|pth)")
_TRAINER_FOLDER = re.compile(r"checkpoint-(\d{1,12})")
_SHARD = re.compile(r".*-\d{1,6}-of-\d{1,6}\.safetensors")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]{0,199}")
_HUB_NAME = re.compile(
    r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)?([\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/.*)?/?"
)
_PART_OF_A_CHECKPOINT = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|trainer_state)\.json|tokenizer\.model|"
    r".*\.safetensors(\.index\.json)?"
)


@dataclass(frozen=True)
class Weights:
    """The place of each tensor of a model: its file, and its name in this file.

    ``files`` are the files that were opened. ``notes`` say how the files differ from the files that the published
    reader expects. ``assumed`` says which tensors are not used.
    """

    places: dict[str, tuple[Container, str]]
    files: tuple[Container, ...]
    notes: tuple[str, ...]
    assumed: tuple[str, ...]


def find_weights(folder: Path, config: ModelConfig) -> Weights:
    """Open and check the weight files of a folder. The values of tensors are not read.

    Raises ``LuternError`` if a tensor is missing, does not belong to the model, or has another type or shape.
    """
    refuse_adapter(folder)
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    for path, what in ((single, "safetensors file"), (index, "index of shards")):
        if path.is_symlink() and not path.exists():
            refuse_foreign(path, what)
    if single.exists():
        try:
            found = _single(single, config)
        except LuternError as error:
            if index.is_file():
                raise LuternError(
                    f"{error} An index of shards is beside it: if the shards are the model, remove {WEIGHTS_FILE}."
                ) from error
            raise
        if index.is_file():
            note = f"{WEIGHTS_FILE} is read, not the shards of {INDEX_FILE} beside it, as the transformers library does"
            found = Weights(found.places, found.files, (*found.notes, note), found.assumed)
    elif index.is_file():
        found = _shards(folder, config)
    else:
        raise LuternError(no_weights(folder))
    read = {file.path.name for file in found.files}
    of_index = _names_in(index) if index.is_file() else set()
    unread = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in read | of_index)
    if unread:
        note = f"{', '.join(map(named, unread[:3]))}{' and more' if len(unread) > 3 else ''} in the folder is not read"
        found = Weights(found.places, found.files, (*found.notes, note), found.assumed)
    return found


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder with a LoRA adapter, because an adapter's weights must be added to the model's weights."""
    for name in ADAPTER_FILES:
        if (folder / name).exists():
            raise LuternError(
                f"{folder} has {name}, an adapter whose weights add to the model's; merge it (PEFT's merge_and_unload) "
                "and save the model again, or remove the file if it is merged already."
            )


def _single(path: Path, config: ModelConfig) -> Weights:
    """Return the weights of a single file."""
    file = open_container(path)
    naming = find_names(file.entries, config.tensor_shapes, config.num_hidden_layers, str(path))
    for name, shape in config.tensor_shapes.items():
        if name not in naming.places:
            raise LuternError(
                f"{path} has no tensor {named(naming.prefix + name)}, which a model of {config.num_hidden_layers} "
                f"layers needs; restore the file or correct {CONFIG_FILE}."
            )
        _check_tensor(name, shape, file, naming.places[name])
    if naming.left_over:
        raise LuternError(naming.left_over)
    places = {name: (file, stored) for name, stored in naming.places.items()}
    return Weights(places, (file,), tuple(naming.notes), tuple(naming.unused))


def _shards(folder: Path, config: ModelConfig) -> Weights:
    """Return the weights in the files that the index names."""
    index = folder / INDEX_FILE
    table = weight_map(index)
    naming = find_names(table, config.tensor_shapes, config.num_hidden_layers, str(index))
    for name in config.tensor_shapes:
        if name not in naming.places or table.get(naming.places[name]) is None:
            raise LuternError(
                f"{index} names no file for {named(naming.prefix + name)}; restore the index or correct {CONFIG_FILE}."
            )
    shards: dict[str, Container] = {}
    for name, place in table.items():
        if not isinstance(place, str) or not _FILE_NAME.fullmatch(place):
            raise LuternError(
                f"{index} has {named(name)} in {quoted(place)}, but a shard is a file of the same folder; "
                "restore the index."
            )
        if place not in shards:
            if not os.path.lexists(folder / place):
                raise LuternError(f"{folder} has no {place}, which {INDEX_FILE} names; fetch that shard.")
            shards[place] = open_container(folder / place)
    places = {}
    for name, shape in config.tensor_shapes.items():
        stored = naming.places[name]
        shard = shards[table[stored]]
        if stored not in shard.entries:
            raise LuternError(
                f"{shard.path} has no tensor {named(stored)}, which {INDEX_FILE} says is there; "
                "restore the shard or the index."
            )
        _check_tensor(name, shape, shard, stored)
        places[name] = shard, stored
    if naming.left_over:
        raise LuternError(naming.left_over)
    for place, shard in shards.items():
        for name in shard.entries:
            if table.get(name) != place and not HARMLESS.fullmatch(name):
                problem = f"is in {table[name]} by {INDEX_FILE}" if name in table else f"is not in {INDEX_FILE}"
                raise LuternError(f"{shard.path} has {named(name)}, which {problem}; restore the shard or the index.")
    return Weights(places, tuple(shards.values()), tuple(naming.notes), tuple(naming.unused))


def _check_tensor(name: str, shape: tuple[int, ...], file: Container, stored: str) -> None:
    """Refuse a tensor whose shape differs from the config, or whose type Lutern does not read."""
    entry = file.entries[stored]
    if entry.shape != shape:
        raise LuternError(
            f"{file.path}: {name} has shape {list(entry.shape)}, but {CONFIG_FILE} asks for {list(shape)}; "
            "correct the config or the file."
        )
    if entry.dtype not in _READABLE:
        raise LuternError(
            f"{file.path}: {name} is stored as {entry.dtype}, but only {', '.join(_READABLE.values())} are read; "
            "convert the checkpoint."
        )


def weight_map(path: Path) -> dict[str, Any]:
    """Return the index's table of file names by tensor. Raises ``LuternError`` if the file is no index of shards."""
    try:
        values = read_json(path, MAX_INDEX_BYTES, "index of shards")
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise LuternError(f"{path} is no index of shards with a weight_map; restore the file.") from error
    places = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(places, dict):
        raise LuternError(f"{path} is no index of shards with a weight_map; restore the file.")
    return places


def _names_in(index: Path) -> set[Any]:
    """Return the files that an index names. If the index cannot be read, return an empty set, because the names are
    needed only for a note."""
    try:
        return {place for place in weight_map(index).values() if isinstance(place, str)}
    except LuternError:
        return set()


def no_weights(folder: Path) -> str:
    """Return a sentence that says why no weights can be read from a folder, and what the folder contains."""
    names = sorted(item.name for item in folder.iterdir())
    files = [name for name in names if (folder / name).is_file()]
    inner = _inner_folder(folder, names)
    if inner:
        return f"{folder} holds no model itself but {inner[1]}; give {inner[0]}."
    shards = [name for name in files if _SHARD.fullmatch(name)]
    if shards:
        return (
            f"{folder} has no {WEIGHTS_FILE}, only shards such as {named(shards[0])}, and no {INDEX_FILE} that says "
            "which tensor is where; fetch the index."
        )
    for name in files:
        if name.endswith(".safetensors"):
            return f"{folder} has no {WEIGHTS_FILE} but {named(name)}; rename the file if it holds the whole model."
    for name in files:
        if name.endswith(".gguf"):
            refuse_foreign(folder / name, f"{WEIGHTS_FILE}")
    pickles = [name for name in files if name.endswith(_PICKLES) or name.endswith(".bin.index.json")]
    models = [name for name in pickles if not _TRAINER_STATE.fullmatch(name)]
    if models:
        return (
            f"{folder} has no {WEIGHTS_FILE} but {named(models[0])}, a pickle, which can run code when it is read; "
            "convert the checkpoint to safetensors."
        )
    others = [name for name in files if name.endswith((*_OTHERS, ".gguf"))]
    if others:
        return f"{folder} has no {WEIGHTS_FILE} but {named(others[0])}, another format; convert it to safetensors."
    parallel = [name for name in names if name.startswith(("global_step", "pytorch_model_fsdp", "rank_"))]
    if pickles or parallel or "trainer_state.json" in files:
        return (
            f"{folder} is the folder of a training run without {WEIGHTS_FILE} (it has "
            f"{named((parallel + pickles + ['trainer_state.json'])[0])}); save the model itself with save_model."
        )
    return f"{folder} has no {WEIGHTS_FILE}; give a checkpoint folder in the published format."


def _inner_folder(folder: Path, names: list[str]) -> tuple[Path, str] | None:
    """Return the folder inside ``folder`` that contains the model, and a description of what was found. None: there is
    no such folder."""
    folders = [name for name in names if (folder / name).is_dir()]
    steps = sorted((int(match[1]), name) for name in folders if (match := _TRAINER_FOLDER.fullmatch(name)))
    if steps:
        return folder / steps[-1][1], f"the checkpoints of a training run, the last of which is {steps[-1][1]}"
    if "snapshots" in folders:
        inner = [path for path in sorted((folder / "snapshots").iterdir()) if path.is_dir()]
        return (inner[-1], "the cache of a download") if inner else None
    with_config = [name for name in folders if (folder / name / CONFIG_FILE).exists()]
    if with_config:
        return folder / with_config[0], f"a folder {named(with_config[0])} with a {CONFIG_FILE}"
    return None


def not_a_folder(name: str) -> str | None:
    """Return the error message for a name that is not a folder, if the name is a file or looks like a name of the
    Hugging Face hub. For any other name, return None."""
    path = Path(name)
    if path.exists():
        refuse_foreign(path, "checkpoint folder")
        return file_for_folder(path) or (
            f"{name} is a file, no checkpoint folder; give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}."
        )
    hub = _HUB_NAME.fullmatch(name)
    if hub is None or hub[1].startswith(".") or (hub[1] == name and path.parent.exists()):
        return None
    target = hub[1].split("/")[1]
    return (
        f"there is no folder {name}, and nothing is downloaded; if it is a name of the Hugging Face hub, fetch it "
        f"with `hf download {hub[1]} --local-dir {target}` and give {target}."
    )


def file_for_folder(path: Path) -> str | None:
    """Return the error message for a file of a checkpoint that was given instead of its folder. For any other file,
    return None."""
    if not _PART_OF_A_CHECKPOINT.fullmatch(path.name):
        return None
    if path.suffix == ".safetensors" and IMAGE_KEY in open_container(path).metadata:
        return None
    return f"{path} is one file of a checkpoint; give its folder {path.parent}."


__all__ = [
    "CONFIG_FILE",
    "INDEX_FILE",
    "WEIGHTS_FILE",
    "Weights",
    "file_for_folder",
    "find_weights",
    "no_weights",
    "not_a_folder",
    "refuse_adapter",
]
