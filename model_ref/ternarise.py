"""Turns the weights W of a matrix into trits T and one scale s (arXiv 2406.02528, section 3.1; as in BitNet b1.58).

    s = max(mean|W|, 1e-5)
    T = clamp(round_half_even(W / s), -1, 1)

If a matrix is already ternary (a scale times -1, 0 and 1), its scale is kept, because the zeros would make the mean
smaller than the scale.

The weights are the stored float32 values, since rounding to float16 would change trits. The cost is two passes over
float64 chunks, about 5 ns per weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError

SMALLEST_SCALE = 1e-5  # from the published code, avoids a division by zero for an all-zero matrix


CHUNK = 1 << 16
"""Number of elements that are processed together, so that the float64 temporaries stay in the processor's cache."""


def _sum_of_magnitudes(flat: NDArray[np.float32]) -> float:
    """Return the sum of |w| in float64. The order of additions is the order of NumPy's pairwise sum, so the result is
    equal to the sum of the whole array in one call."""
    if flat.size <= CHUNK:
        return float(np.abs(flat.astype(np.float64)).sum())
    half = flat.size // 2
    half -= half % 8
    return _sum_of_magnitudes(flat[:half]) + _sum_of_magnitudes(flat[half:])


FIRST_LOOK = 256
"""Number of elements that are examined first. In most matrices, these elements already have several magnitudes."""


def one_magnitude(weight: NDArray[Any]) -> float | None:
    """Return the magnitude of all nonzero elements. Return None if there are several magnitudes, or if the magnitude is
    below SMALLEST_SCALE."""
    flat = weight.reshape(-1)
    found: np.floating[Any] | None = None
    start, stop = 0, FIRST_LOOK
    while start < flat.size:
        part = np.abs(flat[start:stop].astype(np.float32))
        part = part[part != 0]
        if part.size:
            found = part[0] if found is None else found
            if (part != found).any():
                return None
        start, stop = stop, stop + CHUNK
    return float(found) if found is not None and SMALLEST_SCALE <= found < np.inf else None


def ternarise(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Return trits (int8, -1, 0 or 1, with the shape of ``weight``) and their scale.

    Mean and quotient are float64, because a float32 mean depends on the order of additions. A trit whose quotient is
    close to one half would depend on this order, too. Raises ``LuternError`` for an empty matrix, NaN or infinity.
    """
    if weight.size == 0:
        raise LuternError("a matrix without elements cannot be ternarised; give a weight with at least one element.")
    flat = weight.reshape(-1)
    magnitude = one_magnitude(flat)
    if magnitude is not None:
        return np.sign(weight).astype(np.int8), magnitude
    scale = max(_sum_of_magnitudes(flat) / flat.size, SMALLEST_SCALE)
    if not np.isfinite(scale):
        raise LuternError("a weight holds NaN or infinity and cannot be ternarised; give a finite checkpoint.")
    trits = np.empty(flat.size, np.int8)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        part /= scale
        np.rint(part, out=part)
        trits[start : start + CHUNK] = np.clip(part, -1, 1, out=part)
    return trits.reshape(weight.shape), scale
