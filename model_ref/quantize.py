"""Stored weights to trits and a scale (arXiv 2406.02528, section 3.1; the weight quantiser of BitNet b1.58).

    s = max(mean|W|, 1e-5)            one scale a matrix
    T = clamp(round_half_even(W / s), -1, 1)

Weights enter as stored, in float32: rounding them to float16 first flips trits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import LuternError

SMALLEST_SCALE = 1e-5  # of the published code: keeps an all-zero matrix from dividing by zero


def ternarize(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Trits (int8, -1, 0 or 1, shape of ``weight``) and the scale that multiplies them.

    Mean and quotient are float64: a float32 mean depends on the order of its additions, and so would a trit whose
    quotient lies next to one half.
    """
    if weight.size == 0:
        raise LuternError("a matrix without elements cannot be ternarised; give a weight with at least one element.")
    wide = weight.astype(np.float64)
    scale = max(float(np.abs(wide).mean()), SMALLEST_SCALE)
    if not np.isfinite(scale):
        raise LuternError("a weight holds NaN or infinity and cannot be ternarised; give a finite checkpoint.")
    trits = np.clip(np.rint(wide / scale), -1, 1).astype(np.int8)
    return trits, scale
