"""Recognises files of foreign formats by their first bytes, and refuses them with a clear message before they are read.

first bytes ─┬─ "version https://git-lfs..." ─► error: a Git LFS pointer
             ├─ "GGUF"                       ─► error: a GGUF file, with its architecture and the type of most weights
             ├─ "PK", 0x80                   ─► error: a pickle, which can run code when it is read
             ├─ "<html", gzip, HDF5 ...      ─► error: the name of the format
             └─ any other bytes              ─► no error, since the reader of the wanted format checks the file
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import IO, Any

from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.input_files import open_plain, read_plain

HEAD_BYTES = 64
LFS = b"version https://git-lfs"
MAX_GGUF_BYTES = 1 << 26
"""The largest number of bytes that are read from a GGUF file. A vocabulary of 250,000 tokens needs about 10 MB."""
MAX_GGUF_ITEMS = 1 << 21
FETCH = "fetch the file itself, with `git lfs pull` or `hf download`"
SAFETENSORS = "give the safetensors checkpoint that it was made from"
_MAGICS: tuple[tuple[bytes, str, str], ...] = (
    (LFS, "a Git LFS pointer, a short text in place of a large file", FETCH),
    (
        b"PK\x03\x04",
        "a zip archive, as torch.save writes one: a pickle, which can run code",
        "convert it to safetensors",
    ),
    (b"\x89HDF", "an HDF5 file", SAFETENSORS),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"\xfd7zXZ", "an xz archive", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"(\xb5/\xfd", "a zstd archive", "unpack it"),
    (b"\x93NUMPY", "a NumPy array", "give a safetensors checkpoint"),
    (b"tjgg", "an old ggml file", SAFETENSORS),
    (b"lmgg", "an old ggml file", SAFETENSORS),
    (b"fmgg", "an old ggml file", SAFETENSORS),
)
_PICKLES = tuple(bytes((0x80, version)) for version in range(2, 6))
_TYPES = dict(
    enumerate(
        "F32 F16 Q4_0 Q4_1 Q4_2 Q4_3 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S "
        "IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 Q4_0_4_4 Q4_0_4_8 Q4_0_8_8 TQ1_0 TQ2_0".split()
    )
)
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def refuse_foreign(path: Path, wanted: str) -> None:
    """Refuse a file whose format is known and is not ``wanted``. This function does not refuse a file that cannot be
    read, because the reader of the file reports the error.
    """
    try:
        with open_plain(path, wanted) as file:
            found = _kind(file)
    except OSError:
        return
    if found is not None:
        raise LuternError(f"{path} is {found[0]}, no {wanted}; {found[1]}.")


def _kind(file: IO[bytes]) -> tuple[str, str] | None:
    """Return the kind of a file and an advice, or None if the kind is not known."""
    head = file.read(HEAD_BYTES)
    for magic, what, mend in _MAGICS:
        if head.startswith(magic):
            return what, mend
    if head.startswith(b"GGUF"):
        file.seek(0)
        return describe_gguf(file), SAFETENSORS
    if head.startswith(_PICKLES):
        return "a pickle, which can run code when it is read", "convert it to safetensors"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page", "fetch the file itself, not the page that shows it"
    if start.startswith(b'{"error"') or head.startswith((b"Entry not found", b"Invalid username", b"Access to model")):
        return "the answer of a server that refused", "fetch the file again, logged in if it needs that"
    return None


class _Gguf:
    """A reader for numbers and texts in the first ``MAX_GGUF_BYTES`` of a GGUF file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def take(self, count: int) -> bytes:
        if not 0 <= count <= MAX_GGUF_BYTES - self.file.tell():
            raise ValueError("too long")
        part = self.file.read(count)
        if len(part) != count:
            raise ValueError("cut short")
        return part

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """Read a value of the metadata. The elements of an array are skipped."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_FIXED[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in _FIXED:
            self.take(count * struct.calcsize(f"<{_FIXED[inner]}"))
            return None
        if count > MAX_GGUF_ITEMS:
            raise ValueError("too many")
        for _ in range(count):
            self.value(inner)
        return None


def describe_gguf(file: IO[bytes]) -> str:
    """Describe a GGUF file by its architecture and the type of most of its weights, as far as these can be read."""
    architecture, types = "", Counter[str]()
    try:
        reader = _Gguf(file)
        reader.take(4)
        size = "I" if reader.number("I") == 1 else "Q"
        tensors, keys = reader.number(size), reader.number(size)
        for _ in range(min(keys, MAX_GGUF_ITEMS)):
            name = reader.text()
            value = reader.value(reader.number("I"))
            if name == "general.architecture":
                architecture = value
        for _ in range(min(tensors, MAX_GGUF_ITEMS)):
            reader.text()
            shape = [reader.number("Q") for _ in range(min(reader.number("I"), 8))]
            kind = reader.number("I")
            types[_TYPES.get(kind, f"type {kind}")] += math.prod(shape)
            reader.number("Q")
    except (ValueError, KeyError, TypeError, struct.error, RecursionError):
        pass  # the description contains what could be read
    details = [f"architecture {architecture[:40]}"] if isinstance(architecture, str) and architecture else []
    details += [f"weights mostly {types.most_common(1)[0][0]}"] if types else []
    listed = ", ".join(details)
    return f"a GGUF file of llama.cpp ({listed})" if listed and listed.isprintable() else "a GGUF file of llama.cpp"


def read_json(path: Path, most_bytes: int, what: str) -> Any:
    """Return the value of a JSON file in UTF-8 or UTF-16, with or without a byte-order mark.

    Raises ``ValueError`` or ``RecursionError`` if the content is no JSON, and ``OSError`` if the file cannot be read.
    """
    refuse_foreign(path, what)
    return json.loads(read_plain(path, most_bytes, what), object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs. Raises ``ValueError`` if a key has two values."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"{quoted(name)} appears twice")
        found[name] = value
    return found


__all__ = ["describe_gguf", "read_json", "refuse_foreign"]
