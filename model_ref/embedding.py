"""Stores embeddings as items: value = mantissa * 2^(base - exponent), with one base for the whole table.

    16 bits (e4s12): sign, 11 bits of mantissa, 4 bits of exponent. bfloat16 values are exact if they are at least 2^-18
                     times the largest value.
    12 bits (e4s8):  sign, 7 bits of mantissa, 4 bits of exponent. The lowest ``SPARE_BITS`` bits of the 16-bit item are
                     zeros and are not stored.

Every value of 12 bits is also a value of 16 bits, so code that computes with a table does not depend on the number of
bits. A value is decoded by a shift.
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
"""The possible numbers of bits in which an element of the table is stored."""
SPARE_BITS = WIDE_BITS - NARROW_BITS
"""Number of low mantissa bits that are 0 in a table of ``NARROW_BITS``."""


@dataclass(frozen=True)
class EmbeddingTable:
    """The mantissas and exponents [V, d] of a table (V: vocabulary, d: hidden size), its base, and the number of bits
    in which an element is stored."""

    mantissa: NDArray[Any]  # int16, so that a full-size table stays small
    exponent: NDArray[Any]  # int8
    base: int
    bits: int = WIDE_BITS

    @classmethod
    def from_codes(cls, codes: NDArray[np.uint16], base: int, bits: int = WIDE_BITS) -> EmbeddingTable:
        """Return the table of these items, which is the inverse of the property ``codes``."""
        return cls(*item_parts(codes), base, bits)

    @classmethod
    def from_real(cls, table: NDArray[np.float32], top: int | None = None, bits: int = WIDE_BITS) -> EmbeddingTable:
        """Return the nearest embedding table to a real table [V, d]. If ``table`` contains only some rows of a larger
        table, ``top`` must be the ``embedding_top`` of the larger table.

        A magnitude that would round to 2^top becomes the largest mantissa.
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
        """The items [V, d] of all elements. With 12 bits, the lowest ``SPARE_BITS`` bits of the mantissas are zeros."""
        return items(self.mantissa, self.exponent)

    @property
    def largest(self) -> float:
        """The largest magnitude in the table."""
        step = max(1, CHUNK // self.mantissa.shape[1])
        starts = range(0, len(self.mantissa), step)
        parts = (EmbeddingTable(self.mantissa[x : x + step], self.exponent[x : x + step], self.base) for x in starts)
        return max(float(np.abs(part.real()).max()) for part in parts)

    def real(self) -> NDArray[np.float64]:
        """Return the values of the table as float64 [V, d]."""
        return np.ldexp(self.mantissa.astype(np.float64), self.base - self.exponent.astype(np.int32))


def embedding_top(table: NDArray[np.float32]) -> int:
    """Return the smallest ``top`` such that all magnitudes of a table are below 2^top. If all elements are zero, return
    0."""
    largest = max(float(table.max()), -float(table.min()))
    return int(np.frexp(largest)[1]) if largest else 0


def channel_rms(table: NDArray[np.float32]) -> float:
    """Return the median over all channels of the root mean square of a channel, for a table [V, d]. Outlier channels do
    not change this number."""
    squares = np.zeros(table.shape[1])
    for start in range(0, len(table), 1024):
        squares += (table[start : start + 1024].astype(np.float64) ** 2).sum(axis=0)
    return float(np.median(np.sqrt(squares / len(table))))
