"""Embeddings as items: value = mantissa * 2^(base - exponent), with one base for the whole table.

    16 bits (e4s12): sign and 11 bits of mantissa, 4 bits of exponent; bfloat16 is exact down to 2^-18 of the largest
    12 bits (e4s8):  sign and 7 bits of mantissa; the value's item ends in ``SPARE_BITS`` zeros, which are not stored

A value of 12 bits is also one of 16, so code that computes with a table need not know its bits. It decodes by a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.items import (
    ITEM_EXPONENT_BITS,
    ITEM_EXPONENT_MAX,
    ITEM_MAGNITUDE_BITS,
    ITEM_MANTISSA_BITS,
    item_parts,
    items,
    significant,
)
from lutern.model_ref.ternarise import CHUNK

WIDE_BITS = ITEM_MANTISSA_BITS + ITEM_EXPONENT_BITS
NARROW_BITS = 12
EMBEDDING_BITS = (WIDE_BITS, NARROW_BITS)
"""Bits that an element of the table may be stored in."""
SPARE_BITS = WIDE_BITS - NARROW_BITS
"""Number of low mantissa bits that are 0 in a table of ``NARROW_BITS``."""


@dataclass(frozen=True)
class EmbeddingTable:
    """Mantissas and exponents [V, d] of a table, its base, and the bits in which an element is stored."""

    mantissa: NDArray[Any]  # int16: a full-size table stays small
    exponent: NDArray[Any]  # int8
    base: int
    bits: int = WIDE_BITS

    @classmethod
    def from_codes(cls, codes: NDArray[np.uint16], base: int, bits: int = WIDE_BITS) -> EmbeddingTable:
        """Return the inverse of ``codes``."""
        return cls(*item_parts(codes), base, bits)

    @classmethod
    def from_real(cls, table: NDArray[np.float32], top: int | None = None, bits: int = WIDE_BITS) -> EmbeddingTable:
        """Return the nearest coding of a real table [V, d]; for some rows of a table, ``top`` is the table's
        ``embedding_top``.

        A magnitude that would round to 2^top is coded as the largest mantissa.
        """
        top = embedding_top(table) if top is None else top
        spare = WIDE_BITS - bits
        magnitude_bits = ITEM_MAGNITUDE_BITS - spare
        limit = (1 << magnitude_bits) - 1
        mantissas, found = np.empty(table.shape, np.int16), np.empty(table.shape, np.int8)
        step = max(1, CHUNK // table.shape[1])
        for start in range(0, len(table), step):
            rows = slice(start, start + step)
            wide = table[rows].astype(np.float64)
            above = np.frexp(significant(wide, magnitude_bits))[1]
            exponent = np.where(wide == 0, 0, np.clip(top - above, 0, ITEM_EXPONENT_MAX))
            mantissa = np.clip(np.rint(np.ldexp(wide, exponent + magnitude_bits - top)), -limit, limit)
            mantissas[rows] = mantissa.astype(np.int16) << spare
            found[rows] = exponent
        return cls(mantissas, found, top - ITEM_MAGNITUDE_BITS, bits)

    @property
    def codes(self) -> NDArray[np.uint16]:
        """The table [V, d] as items, one for each element; with 12 bits they end in ``SPARE_BITS`` zeros."""
        return items(self.mantissa, self.exponent)

    @property
    def largest(self) -> float:
        """The largest coded magnitude."""
        step = max(1, CHUNK // self.mantissa.shape[1])
        starts = range(0, len(self.mantissa), step)
        parts = (EmbeddingTable(self.mantissa[x : x + step], self.exponent[x : x + step], self.base) for x in starts)
        return max(float(np.abs(part.real()).max()) for part in parts)

    def real(self) -> NDArray[np.float64]:
        """Return the coded table as float64 [V, d]."""
        return np.ldexp(self.mantissa.astype(np.float64), self.base - self.exponent.astype(np.int32))


def embedding_top(table: NDArray[np.float32]) -> int:
    """Return the smallest exponent such that all magnitudes of a table are below 2^top; 0 if all elements are zero."""
    largest = max(float(table.max()), -float(table.min()))
    return int(np.frexp(largest)[1]) if largest else 0


def channel_rms(table: NDArray[np.float32]) -> float:
    """Return the root mean square of the median channel of an embedding table [V, d]; outlier channels do not change
    it."""
    squares = np.zeros(table.shape[1])
    for start in range(0, len(table), 1024):
        squares += (table[start : start + 1024].astype(np.float64) ** 2).sum(axis=0)
    return float(np.median(np.sqrt(squares / len(table))))
