"""Reads and writes safetensors files: checks headers strictly, maps one tensor at a time, writes files part by part.

    length of the header, 8 bytes │ header: JSON with dtype, shape, data_offsets by name, and __metadata__ │ tensors

The cost of a hostile file is bounded. ``MAX_HEADER_BYTES`` limits the header before the header is read. The size of the
file limits each tensor, because a tensor's shape must exactly fill the range that the header states. Python's integers
do not overflow. A mapped tensor needs memory only as long as its array exists.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError, named
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.input_files import open_plain
from lutern.model_ref.output_files import atomic_file

MAX_HEADER_BYTES = 1 << 23
"""The largest number of bytes of a header. The header of a model with 256 layers has 0.7 MB, and the header of its
image has 1.1 MB."""
LENGTH_BYTES = 8
METADATA = "__metadata__"
TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.uint8,
}
"""The NumPy type of each type of the format. 8-bit types that NumPy lacks are mapped as bytes."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its type, its shape, and the position of its first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def byte_count(self) -> int:
        return math.prod(self.shape) * int(np.dtype(TYPES[self.dtype]).itemsize)


@dataclass(frozen=True)
class Container:
    """The header of one file. The data of tensors are not read."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]

    def map(self, name: str) -> NDArray[Any]:
        """Return a tensor as it is stored, read-only and memory-mapped. Raises ``LuternError`` if the file was removed
        or shortened."""
        entry = self.entries[name]
        if not entry.byte_count:
            return np.zeros(entry.shape, TYPES[entry.dtype])
        try:
            return np.asarray(np.memmap(self.path, TYPES[entry.dtype], "r", entry.start, entry.shape))
        except (OSError, ValueError) as error:
            raise LuternError(f"{self.path} cannot be read any more ({error}); leave it where it is.") from error


def open_container(path: str | Path, what: str = "safetensors file") -> Container:
    """Read and check the header of a file. Error messages call the file a ``what``.

    Raises ``LuternError`` if the header is not valid, or if the tensors do not exactly fill the file.
    """
    path = Path(path)
    refuse_foreign(path, what)
    try:
        with open_plain(path, what) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > size - LENGTH_BYTES:
                raise ValueError(f"the header is {length} bytes long, the file {size}")
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"the header is {length} bytes long, the largest allowed {MAX_HEADER_BYTES}")
            header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        metadata = header.pop(METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("the header's metadata are no texts")
        data = LENGTH_BYTES + length
        ranges = {name: _checked(name, value, size - data) for name, value in header.items()}
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, RecursionError | json.JSONDecodeError | UnicodeDecodeError):
            reason = "the header is no valid JSON"
        raise LuternError(f"{path} is truncated or no {what} ({reason}); fetch or write it again.") from error
    at = 0
    for name, (start, stop, _, _) in sorted(ranges.items(), key=lambda item: item[1][:2]):
        if start != at:
            problem = "overlaps the tensor before it" if start < at else "leaves a gap before it"
            raise LuternError(f"{path} is truncated or no {what} ({named(name)} {problem}); fetch or write it again.")
        at = stop
    if at != size - data:
        raise LuternError(
            f"{path} is truncated or no {what} (tensors fill {at} of {size - data} bytes); fetch or write it again."
        )
    return Container(
        path, {name: Entry(dtype, shape, data + start) for name, (start, _, dtype, shape) in ranges.items()}, metadata
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the header names something twice")
    return found


def _checked(name: str, value: Any, data_bytes: int) -> tuple[int, int, str, tuple[int, ...]]:
    """Return (start, stop, dtype, shape) of an entry in the header. Raises ``ValueError`` if these values contradict
    each other."""
    name = named(name)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not given as dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise ValueError(f"{name} has the unknown type {named(str(dtype))}")
    for numbers, count in ((shape, 8), (offsets, 2)):
        if not isinstance(numbers, list) or len(numbers) > count:
            raise ValueError(f"{name} has no shape or range")
        if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
            raise ValueError(f"{name} has a shape or range with something that is no number")
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_bytes:
        raise ValueError(f"{name} lies outside the file")
    entry = Entry(dtype, tuple(shape), 0)
    if entry.byte_count != offsets[1] - offsets[0]:
        raise ValueError(f"{name} of shape {shape} does not fill its range")
    return offsets[0], offsets[1], dtype, entry.shape


class ContainerWriter:
    """Writes tensors in any order, each tensor whole or in successive parts.

    ``metadata`` may be changed until ``finish`` is called. ``largest_metadata`` must be at least as long as the final
    ``metadata``, because the size of the header is fixed at the beginning.
    """

    def __init__(
        self, file: IO[bytes], shapes: Mapping[str, tuple[str, tuple[int, ...]]], largest_metadata: Mapping[str, str]
    ) -> None:
        self.file, self.metadata = file, dict(largest_metadata)
        self.entries: dict[str, Entry] = {}
        at = 0
        for name, (dtype, shape) in shapes.items():
            self.entries[name] = Entry(dtype, shape, at)
            at += self.entries[name].byte_count
        length = len(self._header())
        self.room = length + -length % LENGTH_BYTES
        self.written = dict.fromkeys(self.entries, 0)

    def _header(self) -> bytes:
        header: dict[str, Any] = {METADATA: self.metadata} if self.metadata else {}
        for name, entry in self.entries.items():
            offsets = [entry.start, entry.start + entry.byte_count]
            header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        return json.dumps(header, separators=(",", ":")).encode()

    def write(self, name: str, part: NDArray[Any]) -> None:
        """Write the next elements of a tensor, which must have the tensor's type."""
        entry = self.entries[name]
        assert part.dtype == np.dtype(TYPES[entry.dtype]).newbyteorder("<"), name
        self.file.seek(LENGTH_BYTES + self.room + entry.start + self.written[name])
        self.file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        self.written[name] += part.nbytes

    def finish(self) -> None:
        """Write the header. Every tensor must be complete."""
        for name, entry in self.entries.items():
            assert self.written[name] == entry.byte_count, f"{name} is not complete: {self.written[name]} bytes"
        header = self._header()
        assert len(header) <= self.room
        self.file.seek(0)
        self.file.write(self.room.to_bytes(LENGTH_BYTES, "little") + header.ljust(self.room))


def container_bytes(shapes: Mapping[str, tuple[str, tuple[int, ...]]], largest_metadata: Mapping[str, str]) -> int:
    """Return the size in bytes of the file that ``write_container`` makes."""
    writer = ContainerWriter(io.BytesIO(), shapes, largest_metadata)
    return LENGTH_BYTES + writer.room + sum(entry.byte_count for entry in writer.entries.values())


@contextmanager
def write_container(
    path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]], largest_metadata: Mapping[str, str]
) -> Iterator[ContainerWriter]:
    """Yield a writer. The file appears only after it was written completely."""
    with atomic_file(path) as file:
        writer = ContainerWriter(file, shapes, largest_metadata)
        yield writer
        writer.finish()


__all__ = ["Container", "ContainerWriter", "Entry", "container_bytes", "open_container", "write_container"]
