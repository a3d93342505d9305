"""Vectors as flat payloads of the gateware, with element 0 in the lowest bits."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from lutern.sim.streams import to_signed


def flat(values: Iterable[int], bits: int) -> int:
    """Join numbers of ``bits`` bits into one number. Negative values become two's complement."""
    return sum((int(value) & (1 << bits) - 1) << bits * index for index, value in enumerate(values))


def split(value: int, bits: int, count: int, *, signed: bool = True) -> NDArray[np.int64]:
    """Return the ``count`` numbers of a flat vector as int64."""
    parts = [value >> bits * index & (1 << bits) - 1 for index in range(count)]
    return np.array([to_signed(part, bits) if signed else part for part in parts], dtype=np.int64)


def blocks(beats: int, group: int, streams: int) -> Iterator[tuple[int, int]]:
    """Yield (stream, index) of every beat of an operation. Each group of ``group`` beats has one block for
    each stream."""
    for begin in range(0, beats, group):
        for stream in range(streams):
            for index in range(begin, min(begin + group, beats)):
                yield stream, index
