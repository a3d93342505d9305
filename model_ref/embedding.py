"""Embeddings as items: value = mantissa * 2^(base - exponent), one base a table.

Decoding is one shift; bfloat16 values are exact down to 2^-18 of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.items import ITEM_EXPONENT_MAX, ITEM_MAGNITUDE_BITS, ITEM_MANTISSA_MAX, item_parts, items
from lutern.model_ref.ternarise import CHUNK


@dataclass(frozen=True)
class EmbeddingTable:
    """Mantissas and exponents [V, d] of a table, and its base."""

    mantissa: NDArray[Any]  # int16: a full-size table stays small
    exponent: NDArray[Any]  # int8
    base: int

    @classmethod
    def from_codes(cls, codes: NDArray[np.uint16], base: int) -> EmbeddingTable:
        """Inverse of ``codes``."""
        return cls(*item_parts(codes), base)

    @classmethod
    def from_real(cls, table: NDArray[np.float32], top: int | None = None) -> EmbeddingTable:
        """Nearest coding of a real table [V, d], or of some rows of one whose ``embedding_top`` is given."""
        top = embedding_top(table) if top is None else top
        mantissas, found = np.empty(table.shape, np.int16), np.empty(table.shape, np.int8)
        step = max(1, CHUNK // table.shape[1])
        for start in range(0, len(table), step):
            rows = slice(start, start + step)
            wide = table[rows].astype(np.float64)
            exponent = np.where(wide == 0, 0, np.clip(top - np.frexp(wide)[1], 0, ITEM_EXPONENT_MAX))
            mantissa = np.rint(np.ldexp(wide, exponent + ITEM_MAGNITUDE_BITS - top))
            mantissas[rows] = np.clip(mantissa, -ITEM_MANTISSA_MAX, ITEM_MANTISSA_MAX)
            found[rows] = exponent
        return cls(mantissas, found, top - ITEM_MAGNITUDE_BITS)

    @property
    def codes(self) -> NDArray[np.uint16]:
        """The table as it is stored, an item an element."""
        return items(self.mantissa, self.exponent)

    @property
    def largest(self) -> float:
        """Largest coded magnitude."""
        step = max(1, CHUNK // self.mantissa.shape[1])
        starts = range(0, len(self.mantissa), step)
        parts = (EmbeddingTable(self.mantissa[x : x + step], self.exponent[x : x + step], self.base) for x in starts)
        return max(float(np.abs(part.real()).max()) for part in parts)

    def real(self) -> NDArray[np.float64]:
        """The coded table as float64 [V, d]."""
        return np.ldexp(self.mantissa.astype(np.float64), self.base - self.exponent.astype(np.int32))


def embedding_top(table: NDArray[np.float32]) -> int:
    """Exponent of the largest magnitude of a table, below 2^top; 0 if all are zero."""
    largest = max(float(table.max()), -float(table.min()))
    return int(np.frexp(largest)[1]) if largest else 0


def channel_rms(table: NDArray[np.float32]) -> float:
    """Root mean square of the middling channel of an embedding table [V, d]: an outlier channel does not count."""
    squares = np.zeros(table.shape[1])
    for start in range(0, len(table), 1024):
        squares += (table[start : start + 1024].astype(np.float64) ** 2).sum(axis=0)
    return float(np.median(np.sqrt(squares / len(table))))
