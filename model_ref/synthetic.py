"""Makes random checkpoints of any shape, for shapes of which no trained model exists.

The elements of matrices are normally distributed with a deviation of 0.02 (the published initialisation). Gains are
near 1, and lower bounds are normally distributed. So every stage receives ordinary values. The seed determines all
values.

- ``random_checkpoint`` makes a checkpoint in memory.
- ``large_checkpoint`` makes a checkpoint whose tensors are not kept in memory.
- ``chain_checkpoint`` makes a checkpoint that writes a known text.
- ``write_random_checkpoint`` writes a checkpoint of any size in the format of the releases, in small parts. The
  metadata mark every file as synthetic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.checkpoint import INDEX_FILE, SYNTHETIC, WEIGHTS_FILE, Checkpoint, save_config
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.container import write_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import write_whole
from lutern.model_ref.tokenizer import TOKENIZER_FILE, Tokenizer, character_tokenizer

INITIALIZER_RANGE = 0.02
GAIN_RANGE = 0.1
PUBLISHED = {
    "370m": ModelConfig(vocab_size=32000, hidden_size=1024, num_hidden_layers=24, intermediate_size=2816),
    "1.3b": ModelConfig(vocab_size=32000, hidden_size=2048, num_hidden_layers=24, intermediate_size=5632),
    "2.7b": ModelConfig(vocab_size=32000, hidden_size=2560, num_hidden_layers=32, intermediate_size=6912),
}
"""The shapes of the released models."""
SHARD_BYTES = 2_000_000_000
CHUNK_ELEMENTS = 1 << 20


def random_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """Return a checkpoint with random float32 tensors, without a folder and a tokenizer."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes.items():
        offset, deviation = _distribution(name)
        values = random.standard_normal(shape)
        tensors[name] = (offset + deviation * values if offset else deviation * values).astype(np.float32)
    return Checkpoint(config, tensors, Path("synthetic"), f"random numbers, seed {seed}")


class RandomTensors(Mapping[str, NDArray[np.float32]]):
    """The random float32 tensors of a model. Each access generates a tensor. No tensor is kept."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self._shapes, self._seed = config.tensor_shapes, seed

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes[name]
        random = np.random.default_rng((self._seed, [*self._shapes].index(name)))
        return _values(random, name, math.prod(shape)).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def large_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """Return a random checkpoint whose tensors are not kept in memory. ``random_checkpoint`` has other values for the
    same seed."""
    return Checkpoint(config, RandomTensors(config, seed), Path("synthetic"), f"random numbers, seed {seed}")


def chain_checkpoint(config: ModelConfig, follows: Mapping[int, int], seed: int) -> Checkpoint:
    """Return a checkpoint whose likeliest next token after ``token`` is ``follows[token]``. After a token without an
    entry, any token may be the likeliest.

    The elements of embeddings are random signs. The head's row of a token is the sum of the embeddings of all tokens
    that precede it in ``follows``. The layers add almost nothing. A hidden size of about 64 is needed to distinguish
    the embeddings.
    """
    random = np.random.default_rng(seed)
    shapes = config.tensor_shapes
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items() if "norm" in name}
    for name in config.projections:
        tensors[f"{name}.weight"] = (1e-3 * random.standard_normal(config.projections[name])).astype(np.float32)
    if config.use_lower_bound:
        tensors["model.lower_bounds"] = np.zeros(shapes["model.lower_bounds"], np.float32)
    table = random.choice(np.array([-1, 1], np.float32), shapes["model.embeddings.weight"])
    head = np.zeros(shapes["lm_head.weight"], np.float32)
    for token, following in follows.items():
        head[following] += table[token]
    tensors |= {"model.embeddings.weight": table, "lm_head.weight": head}
    return Checkpoint(config, tensors, Path("chain"), f"a chain of tokens, seed {seed}")


def _distribution(name: str) -> tuple[float, float]:
    """Return the mean and the standard deviation of a tensor's elements."""
    if "norm" in name:
        return 1.0, GAIN_RANGE
    return 0.0, 1.0 if name in ("model.embeddings.weight", "model.lower_bounds") else INITIALIZER_RANGE


def write_random_checkpoint(
    folder: str | Path,
    config: ModelConfig,
    seed: int,
    mark: str,
    shard_bytes: int = SHARD_BYTES,
    advance: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> None:
    """Write a random checkpoint in bfloat16. A file has at most ``shard_bytes``, unless one tensor is larger.

    ``mark`` says how the checkpoint was made, and is stored in the metadata. ``random_checkpoint`` has other values for
    the same seed. Raises ``LuternError`` if the folder is not empty or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LuternError(f"{folder} is there and not empty; give a folder that is new.")
    shards = _shards(config, shard_bytes)
    names = (
        [WEIGHTS_FILE]
        if len(shards) == 1
        else [f"model-{index + 1:05}-of-{len(shards):05}.safetensors" for index in range(len(shards))]
    )
    numbers = {name: index for index, name in enumerate(config.tensor_shapes)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file_name, shard in zip(names, shards, strict=True):
            stored = {name: ("BF16", config.tensor_shapes[name]) for name in shard}
            with write_container(folder / file_name, stored, {"format": "pt", SYNTHETIC: mark}) as writer:
                for name in shard:
                    advance(numbers[name], len(numbers), name)
                    random = np.random.default_rng((seed, numbers[name]))
                    elements = math.prod(stored[name][1])
                    for start in range(0, elements, CHUNK_ELEMENTS):
                        count = min(CHUNK_ELEMENTS, elements - start)
                        writer.write(name, _values(random, name, count).astype(ml_dtypes.bfloat16))
        if len(shards) > 1:
            total = sum(2 * math.prod(shape) for shape in config.tensor_shapes.values())
            places = {name: file_name for file_name, shard in zip(names, shards, strict=True) for name in shard}
            index = {"metadata": {"total_size": total, SYNTHETIC: mark}, "weight_map": places}
            write_whole(folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")
        write_whole(folder / TOKENIZER_FILE, synthetic_tokenizer(config.vocab_size).to_json())
        save_config(folder, config, "bfloat16")
    except OSError as error:
        raise LuternError(f"{folder} cannot be written ({error.strerror}); choose a place with room.") from error
    advance(len(numbers), len(numbers), "")


def _values(random: np.random.Generator, name: str, count: int) -> NDArray[np.float32]:
    offset, deviation = _distribution(name)
    values = random.standard_normal(count, dtype=np.float32)
    values *= np.float32(deviation)
    values += np.float32(offset)
    return values


def _shards(config: ModelConfig, shard_bytes: int) -> list[list[str]]:
    """Return the names of the tensors in each file, in order. A new file begins if the next tensor would make the file
    too large."""
    shards: list[list[str]] = []
    room = 0
    for name, shape in config.tensor_shapes.items():
        size = 2 * math.prod(shape)
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards


def synthetic_tokenizer(vocab_size: int) -> Tokenizer:
    """Return a tokenizer that reads newlines and printable ASCII, one token per character. All further tokens have
    names such as ``<synthetic 96>``."""
    known = ["\n", *map(chr, range(32, 127))][:vocab_size]
    others = [f"<synthetic {token}>" for token in range(len(known), vocab_size)]
    return Tokenizer(character_tokenizer(known + others))
