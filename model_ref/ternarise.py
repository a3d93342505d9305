"""Turns weights into trits and one scale a matrix (arXiv 2406.02528, section 3.1; weight quantiser of BitNet b1.58).

    s = max(mean|W|, 1e-5)
    T = clamp(round_half_even(W / s), -1, 1)

A matrix that is ternary already (a scale times -1, 0 and 1) keeps its scale; the mean would be smaller, by the share of
zeros.

Weights enter as stored, in float32: rounding them to float16 first flips trits. Cost: two passes over float64 chunks,
about 5 ns a weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError

SMALLEST_SCALE = 1e-5  # from the published code: without it an all-zero matrix would divide by zero


CHUNK = 1 << 16
"""Elements that a pass over a matrix takes at a time, so that its float64 temporaries stay in the cache."""


def _sum_of_magnitudes(flat: NDArray[np.float32]) -> float:
    """Sum of |w| in float64, added in the order of NumPy's pairwise sum: equal to the sum of the whole array in one
    call."""
    if flat.size <= CHUNK:
        return float(np.abs(flat.astype(np.float64)).sum())
    half = flat.size // 2
    half -= half % 8
    return _sum_of_magnitudes(flat[:half]) + _sum_of_magnitudes(flat[half:])


FIRST_LOOK = 256
"""The first elements that are examined; in most matrices they show already that there are many magnitudes."""


def one_magnitude(weight: NDArray[Any]) -> float | None:
    """Return the magnitude of all elements other than zero; None if there are several, or if it is below
    SMALLEST_SCALE."""
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
    """Return trits (int8, -1, 0 or 1, shape of ``weight``) and the scale that multiplies them.

    Mean and quotient are float64: a float32 mean depends on the order of its additions, and so would a trit whose
    quotient is close to one half. Raises ``LuternError`` for an empty matrix, NaN or infinity.
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
