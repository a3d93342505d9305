"""Packs items of 16 bits with a mantissa and an exponent. Gains, lower bounds and embeddings are stored as items.

    bits 0-11   mantissa: signed, symmetric range, 11 bits of magnitude
    bits 12-15  exponent: is subtracted from the common exponent of all items in a table or vector

``norm.Gains``, ``mlgru.Bounds`` and ``embedding.EmbeddingTable`` define the common exponent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEM_MANTISSA_BITS = 12
"""Number of bits of a mantissa, including the sign."""
ITEM_EXPONENT_BITS = 4
ITEM_MAGNITUDE_BITS = ITEM_MANTISSA_BITS - 1
ITEM_MANTISSA_ONE = 1 << (ITEM_MAGNITUDE_BITS - 1)
ITEM_MANTISSA_MAX = (1 << ITEM_MAGNITUDE_BITS) - 1
ITEM_EXPONENT_MAX = (1 << ITEM_EXPONENT_BITS) - 1


def items(mantissa: NDArray[Any], exponent: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the items of mantissas and exponents, which are integers of any type."""
    low = mantissa.astype(np.uint16) & np.uint16((1 << ITEM_MANTISSA_BITS) - 1)
    return low | exponent.astype(np.uint16) << np.uint16(ITEM_MANTISSA_BITS)


def item_parts(items: NDArray[np.uint16]) -> tuple[NDArray[np.int16], NDArray[np.int8]]:
    """Return the mantissas and exponents of items, which is the inverse of ``items``."""
    mantissa = (items << np.uint16(ITEM_EXPONENT_BITS)).view(np.int16) >> np.int16(ITEM_EXPONENT_BITS)
    return mantissa, (items >> np.uint16(ITEM_MANTISSA_BITS)).astype(np.int8)


def significant(x: NDArray[Any], bits: int = ITEM_MAGNITUDE_BITS) -> NDArray[np.float64]:
    """Return ``x`` rounded to ``bits`` significant bits, by default as in an item's mantissa. The relative error is at
    most 2^-bits."""
    fraction, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    rounded: NDArray[np.float64] = np.rint(np.ldexp(fraction, bits))
    return np.asarray(np.ldexp(rounded, exponent - bits))


__all__ = [
    "ITEM_EXPONENT_BITS",
    "ITEM_EXPONENT_MAX",
    "ITEM_MAGNITUDE_BITS",
    "ITEM_MANTISSA_BITS",
    "ITEM_MANTISSA_MAX",
    "ITEM_MANTISSA_ONE",
    "item_parts",
    "items",
    "significant",
]
