"""Packs four trits into a byte, which is the form of matrices in memory while the integer network computes.

    byte of columns 4j .. 4j+3      1 + trit in bits 0-1, 2-3, 4-5, 6-7
    row                             a multiple of 32 bytes, so that a vector instruction never reads beyond the row

In an image, a byte contains five trits. In this form a trit has two bits, so that shifts and masks are enough to unpack
trits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRITS_PER_BYTE = 4
ROW_BYTES = 32
"""The number of bytes in a row is a multiple of this number. Trits after the last column are -1, and are multiplied by
codes of 0."""


def _bytes_to_trits() -> NDArray[np.int8]:
    places = np.arange(0, 2 * TRITS_PER_BYTE, 2)
    return ((np.arange(256)[:, None] >> places & 3) - 1).astype(np.int8)


TRITS_OF_BYTE = _bytes_to_trits()
"""The trits [256, 4] of every value of a byte."""
WIDE_TRITS_OF_BYTE = TRITS_OF_BYTE.astype(np.float32)


def row_bytes(columns: int) -> int:
    """Return the number of bytes in a packed row."""
    return -(-columns // (TRITS_PER_BYTE * ROW_BYTES)) * ROW_BYTES


@dataclass(frozen=True)
class PackedTrits:
    """Trits [rows, columns], packed into bytes ``packed`` [rows, row_bytes]."""

    packed: NDArray[np.uint8]
    columns: int

    @classmethod
    def of(cls, trits: NDArray[np.int8]) -> PackedTrits:
        """Pack trits int8 [rows, columns]."""
        return cls(pack_rows(trits), trits.shape[1])

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.packed)

    def part(self, start: int, end: int) -> PackedTrits:
        """Return the rows ``start`` to ``end`` - 1 without a copy."""
        return PackedTrits(self.packed[start:end], self.columns)

    def unpack(self) -> NDArray[np.int8]:
        """Return all trits, int8 [rows, columns]."""
        trits = TRITS_OF_BYTE.take(self.packed, axis=0).reshape(self.rows, self.packed.shape[1] * TRITS_PER_BYTE)
        return np.ascontiguousarray(trits[:, : self.columns])


def pack_rows(trits: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return packed rows uint8 [rows, row_bytes] of trits [rows, columns]."""
    rows, columns = trits.shape
    four = np.zeros((rows, row_bytes(columns) * TRITS_PER_BYTE), np.uint8)
    four[:, :columns] = trits
    four[:, :columns] += np.uint8(1)
    four_in_a_word = four.view("<u4")
    packed = four_in_a_word.astype(np.uint8)  # the lowest byte
    for place in range(1, TRITS_PER_BYTE):
        packed |= (four_in_a_word >> np.uint32(8 * place - 2 * place)).astype(np.uint8) & np.uint8(3 << 2 * place)
    return packed
