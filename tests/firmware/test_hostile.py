"""A damaged or hostile file raises one exception with one sentence, in limited time and memory.

Hypothesis generates the files. Whatever a file contains, reading it returns a result or raises ``LuternError``.
"""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lutern.firmware.image import convert, open_image, read_image, seal
from lutern.firmware.image_format import METADATA_KEY
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import write_random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, load_tokenizer

CONFIG = ModelConfig(vocab_size=5, hidden_size=3, num_hidden_layers=1, intermediate_size=4)
MEMORY_BYTES = 96 << 20
hostile = settings(
    derandomize=True,
    database=None,
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two checkpoints of a few hundred bytes, one of them in shards, and an image."""
    folder = tmp_path_factory.mktemp("hostile")
    write_random_checkpoint(folder / "whole", CONFIG, 1, "test")
    write_random_checkpoint(folder / "shards", CONFIG, 1, "test", shard_bytes=120)
    convert(folder / "image", load_checkpoint(folder / "whole"), b"{}", "test")
    return folder


def read_checkpoint(folder: Path) -> None:
    """Call all functions that read a checkpoint."""
    integer_weights(load_checkpoint(folder))


def outcome(read: Callable[[Path], object], path: Path) -> str | None:
    """Return the sentence with which a file is refused, or None if the file is accepted. Any other exception fails the
    test."""
    try:
        read(path)
    except LuternError as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 1000 and text.endswith("."), text
        return text
    return None


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: object, data: bytes, claimed: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def swapped(folder: Path, name: str, content: bytes) -> Path:
    """Return a copy of the folder in which file ``name`` has other content."""
    target = folder.parent / f"changed-{folder.name}"
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(content if path.name == name else path.read_bytes())
    return target


def test_truncated_at_every_offset(model: Path) -> None:
    weights = model / "whole" / "model.safetensors"
    content = weights.read_bytes()
    target = swapped(model / "whole", weights.name, content)
    for length in reversed(range(len(content))):
        os.truncate(target / weights.name, length)
        assert "truncated" in str(outcome(read_checkpoint, target)), f"{length} of {len(content)} bytes"
    content = (model / "image").read_bytes()
    (model / "cut").write_bytes(content)
    for length in reversed(range(len(content))):
        os.truncate(model / "cut", length)
        assert "truncated" in str(outcome(read_image, model / "cut")), f"{length} of {len(content)} bytes"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_texts_truncated_at_every_offset(model: Path, name: str) -> None:
    content = (model / "shards" / name).read_bytes()
    target = swapped(model / "shards", name, content)
    for length in reversed(range(len(content.rstrip()))):
        os.truncate(target / name, length)
        assert outcome(load_checkpoint, target), f"{length} of {len(content)} bytes"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([1 << 31, 1 << 32, 1 << 62, 1 << 63, 1 << 64, (1 << 64) // 3, -1, 0, 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SIZES = st.lists(
    st.integers(0, 40) | st.sampled_from([1 << 31, 1 << 32, 1 << 33, (1 << 64) + 1, 0xAAAAAAAAAAAAAAAB]), max_size=5
)
RANGES = st.lists(st.integers(-2, 500) | st.sampled_from([1 << 32, 1 << 63, 1 << 64]), min_size=1, max_size=3)


@hostile
@given(st.data())
def test_headers(model: Path, data: st.DataObject) -> None:
    """One entry of the header, or the whole header, is replaced. Reading raises no exception except ``LuternError``."""
    header, tensors = header_of((model / "whole" / "model.safetensors").read_bytes())
    kinds = ["shape", "data_offsets", "dtype", "entry", "name", "metadata", "header", "bytes"]
    kind = data.draw(st.sampled_from(kinds))
    name = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    if kind == "shape":
        header[name]["shape"] = data.draw(SIZES | JSON)
    elif kind == "data_offsets":
        header[name]["data_offsets"] = data.draw(RANGES | JSON)
    elif kind == "dtype":
        header[name]["dtype"] = data.draw(st.sampled_from(["F64", "I64", "U8", "F8_E4M3", "F4", "F32", "F16"]) | JSON)
    elif kind == "entry":
        header[name] = data.draw(JSON)
    elif kind == "name":
        header[data.draw(st.text())] = header.pop(name)
    elif kind == "metadata":
        header["__metadata__"] = data.draw(JSON)
    elif kind == "header":
        header = data.draw(JSON)
    content = with_header(header, tensors, data.draw(st.none() | st.integers(0, (1 << 64) - 1)))
    if kind == "bytes":
        content = bytes(data.draw(st.binary(max_size=300)))
    outcome(read_checkpoint, swapped(model / "whole", "model.safetensors", content))


@hostile
@given(st.data())
def test_weights_of_any_bit_pattern(model: Path, data: st.DataObject) -> None:
    """Weights may have any bit pattern, such as huge, tiny or NaN. If a checkpoint is accepted, its image can be
    read."""
    header, tensors = header_of((model / "whole" / "model.safetensors").read_bytes())
    other = bytearray(tensors)
    pattern = data.draw(st.binary(min_size=2, max_size=len(tensors)))
    start = data.draw(st.integers(0, len(tensors) - len(pattern)))
    other[start : start + len(pattern)] = pattern
    folder = swapped(model / "whole", "model.safetensors", with_header(header, bytes(other)))
    if outcome(read_checkpoint, folder) is None:
        convert(model / "again", load_checkpoint(folder), b"{}", "test")
        assert outcome(read_image, model / "again") is None


@hostile
@given(st.data())
def test_indexes(model: Path, data: st.DataObject) -> None:
    index = json.loads((model / "shards" / "model.safetensors.index.json").read_text())
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(index["weight_map"])))
        index["weight_map"][name] = data.draw(JSON | st.sampled_from(["../whole/model.safetensors", "config.json"]))
    else:
        index = data.draw(JSON)
    content = json.dumps(index).encode("utf-8", "surrogatepass")
    assert outcome(read_checkpoint, swapped(model / "shards", "model.safetensors.index.json", content))


@hostile
@given(st.data())
def test_configs(model: Path, data: st.DataObject) -> None:
    config = json.loads((model / "whole" / "config.json").read_text())
    if data.draw(st.booleans()):
        config[data.draw(st.sampled_from(sorted(config)))] = data.draw(JSON)
    else:
        config = data.draw(JSON)
    outcome(read_checkpoint, swapped(model / "whole", "config.json", json.dumps(config).encode()))


@hostile
@given(st.data())
def test_images(model: Path, data: st.DataObject) -> None:
    """A number or a section of the metadata is replaced, with correct digests."""
    header, tensors = header_of((model / "image").read_bytes())
    body = json.loads(header["__metadata__"][METADATA_KEY])
    body.pop("digest")
    place: Any = body
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    header["__metadata__"][METADATA_KEY] = seal(body)
    (model / "changed-image").write_bytes(with_header(header, tensors))
    outcome(read_image, model / "changed-image")


@hostile
@given(st.data())
def test_tokenizers(model: Path, data: st.DataObject) -> None:
    tokenizer = json.loads((model / "whole" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    kind = data.draw(st.sampled_from(["number", "part", "model", "all"]))
    if kind == "number":
        vocabulary[data.draw(st.sampled_from(sorted(vocabulary)))] = data.draw(st.integers(-1, 1 << 33))
    elif kind == "part":
        tokenizer[data.draw(st.sampled_from(sorted(tokenizer)))] = data.draw(JSON)
    elif kind == "model":
        tokenizer["model"][data.draw(st.sampled_from(sorted(tokenizer["model"])))] = data.draw(JSON)
    else:
        tokenizer = data.draw(JSON)
    content = json.dumps(tokenizer).encode("utf-8", "surrogatepass")

    def read(folder: Path) -> None:
        load_tokenizer(folder).limit_to(CONFIG.vocab_size).encode("ab")

    outcome(read, swapped(model / "whole", "tokenizer.json", content))


def test_numbers_of_tokens() -> None:
    def text(vocabulary: dict[str, int]) -> str:
        return json.dumps(
            {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}
        )

    with pytest.raises(LuternError, match=r"x gives number 0 to '[ab]' and '[ab]'; give each its own"):
        Tokenizer.from_json(text({"a": 0, "b": 0}), "x")
    far = Tokenizer.from_json(text({"a": 0, "b": 4_000_000_000}), "x")
    assert far.limit_to(2).encode("a") == [0]
    with pytest.raises(LuternError, match="gives number 4000000000 to 'b', but the model knows 2 tokens"):
        far.encode("ab")


def sparse(path: Path, start: bytes, size: int) -> None:
    """Write a file of ``size`` bytes, of which only the bytes ``start`` occupy space on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)


def test_gigabytes_cost_nothing(model: Path) -> None:
    size = 3 << 30
    cases: list[tuple[str, bytes]] = [
        ("model.safetensors", struct.pack("<Q", size - 8) + b'{"'),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}"),
        ("config.json", b"["),
        ("tokenizer.json", b"["),
    ]
    target = swapped(model / "whole", "", b"")
    tracemalloc.start()
    for name, start in cases:
        whole = (target / name).read_bytes()
        sparse(target / name, start, size)
        assert outcome(load_tokenizer if name.startswith("tok") else read_checkpoint, target), name
        (target / name).write_bytes(whole)
    sparse(model / "large-image", struct.pack("<Q", size - 8) + b'{"', size)
    assert "the largest allowed" in str(outcome(open_image, model / "large-image"))
    target = swapped(model / "shards", "", b"")
    (target / "model.safetensors").unlink(missing_ok=True)
    sparse(target / "model.safetensors.index.json", b"[", size)
    assert "is larger than" in str(outcome(read_checkpoint, target))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY_BYTES, f"{peak} bytes"


@pytest.mark.parametrize(
    "text",
    [b"[" * 8_000_000, b"[" + b"{}," * 2_600_000 + b"{}]", b'{"' + b"a" * 8_000_000 + b'":0}'],
    ids=["deep", "wide", "long"],
)
def test_headers_of_the_largest_size(model: Path, text: bytes) -> None:
    content = struct.pack("<Q", len(text)) + text
    assert "truncated or no" in str(outcome(read_checkpoint, swapped(model / "whole", "model.safetensors", content)))


def test_overlaps_and_gaps(model: Path) -> None:
    """Chosen cases of ``test_headers`` give the expected sentences."""
    path = model / "whole" / "model.safetensors"
    header, tensors = header_of(path.read_bytes())
    first, second, *_, last = sorted(set(header) - {"__metadata__"}, key=lambda name: header[name]["data_offsets"])

    def refused(changes: dict[str, dict[str, object]], sentence: str, data: bytes = tensors) -> None:
        changed = {name: {**entry, **changes.get(name, {})} for name, entry in header.items()}
        text = outcome(read_checkpoint, swapped(model / "whole", path.name, with_header(changed, data)))
        assert sentence in str(text), text

    (a, b), (c, d) = header[first]["data_offsets"], header[second]["data_offsets"]
    end = len(tensors)
    refused({second: {"data_offsets": [c - 2, d - 2]}}, f"{second} overlaps the tensor before it")
    refused({second: {"data_offsets": [a, a + d - c]}}, "overlaps the tensor before it")
    refused({last: {"data_offsets": [end, end + 2]}}, f"{last} lies outside the file")
    refused({last: {"shape": [0], "data_offsets": [end, end]}}, f"{last} leaves a gap before it")
    refused({first: {"shape": [1 << 32, 1 << 32, 15]}}, "does not fill its range")
    refused({first: {"shape": [(1 << 64) + 15]}}, "has a shape or range with something that is no number")
    refused({first: {"shape": [3, 5]}}, "has shape [3, 5], but config.json asks for [5, 3]")
    refused({first: {"dtype": "I16"}}, "is stored as I16, but only float32, float16, bfloat16 are read")
    refused({first: {"dtype": "F4"}}, "has the unknown type F4")
    refused({}, "tensors fill", tensors + b"\0")
    twice = json.dumps(header)[:-1] + ', "lm_head.weight": {}}'
    content = struct.pack("<Q", len(twice)) + twice.encode() + tensors
    text = outcome(read_checkpoint, swapped(model / "whole", path.name, content))
    assert "the header names something twice" in str(text)
    assert b - a == 2 * int(np.prod(header[first]["shape"]))
