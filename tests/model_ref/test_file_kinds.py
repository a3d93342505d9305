"""If a file is of another kind, the error message says which kind."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lutern.model_ref.container import open_container
from lutern.model_ref.errors import LuternError
from lutern.model_ref.file_kinds import describe_gguf, read_json, refuse_foreign

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n"


def text_of(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(architecture: str, tensors: list[tuple[tuple[int, ...], int]], words: int = 3) -> bytes:
    """Return a GGUF file of version 3 that has a vocabulary, but no data."""
    keys = [
        text_of("general.architecture") + struct.pack("<I", 8) + text_of(architecture),
        text_of("general.file_type") + struct.pack("<II", 4, 15),
        text_of("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, words) + text_of("word") * words,
        text_of("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, words) + bytes(4 * words),
        text_of("some.flag") + struct.pack("<I?", 7, True),
    ]
    infos = [
        text_of(f"blk.{index}.weight") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)
        for index, (shape, kind) in enumerate(tensors)
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join([*keys, *infos])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (POINTER, "is a Git LFS pointer, a short text in place of a large file, no thing; fetch the file itself"),
        (
            gguf("llama", [((32, 32), 12), ((8,), 0)]),
            r"GGUF file of llama.cpp \(architecture llama, weights mostly Q4_K\)",
        ),
        (gguf("rwkv6", [((32,), 35)], words=9), r"\(architecture rwkv6, weights mostly TQ2_0\), no thing"),
        (gguf("x", [((32,), 999)]), "weights mostly type 999"),
        (
            b"PK\x03\x04rest",
            "is a zip archive, as torch.save writes one: a pickle, which can run code, no thing; convert",
        ),
        (b"\x80\x02}q\x00.", "is a pickle, which can run code when it is read, no thing; convert it to safetensors"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x1f\x8b\x08", "is a gzip archive, no thing; unpack it"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"Entry not found", "is the answer of a server that refused"),
        (b'{"error":"Repository not found"}', "is the answer of a server that refused"),
        (b"\x93NUMPY\x01", "is a NumPy array"),
    ],
)
def test_kinds_by_their_first_bytes(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(LuternError, match=what):
        refuse_foreign(path, "thing")
    with pytest.raises(LuternError, match=what.replace("thing", "safetensors file")):
        open_container(path)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_gguf_file_is_still_named(data: st.DataObject) -> None:
    """If a file is cut anywhere and any bytes are changed, it is still described in a limited time and on one line."""
    content = bytearray(gguf("llama", [((32, 32), 12)] * 3))
    for place in data.draw(st.lists(st.integers(4, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    text = describe_gguf(io.BytesIO(bytes(content[: data.draw(st.integers(4, len(content)))])))
    assert text.startswith("a GGUF file of llama.cpp") and text.isprintable() and len(text) < 200


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_json_in_every_encoding(tmp_path: Path, values: dict[str, object]) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        path = tmp_path / "file.json"
        path.write_bytes(json.dumps(values, ensure_ascii=False).encode(encoding, "surrogatepass"))
        assert read_json(path, 10_000, "thing") == values


def test_json_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(POINTER)
    with pytest.raises(LuternError, match="is a Git LFS pointer"):
        read_json(path, 100, "thing")
    path.write_text(" " * 101)
    with pytest.raises(LuternError, match="is larger than 100 bytes, so it is no thing"):
        read_json(path, 100, "thing")
    path.unlink()
    path.mkdir()
    with pytest.raises(LuternError, match="is a folder, no plain file, so it is no thing"):
        read_json(path, 100_000, "thing")
