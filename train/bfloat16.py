"""Rounds latent weights to bfloat16 without changing a trit.

    1. round the weights W to the nearest bfloat16
    2. ternarise the rounded weights, and compare the trits with the trits of W
    3. if the trit of a weight differs, change the weight by one unit in the last place; repeat from 2

A checkpoint stores latent weights, which are not yet ternary, in bfloat16. The threshold between trits is half the mean
magnitude of a matrix. Many weights are close to this threshold, and plain rounding would move some of them across it.
Each correction changes a weight by one unit in the last place, so the mean hardly changes, and a few rounds are enough.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.ternarise import ternarise

ROUNDS = 16  # the largest number of rounds, although two or three rounds are enough


def rounded_with_trits_kept(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``weight`` rounded to bfloat16 values (as float32) in such a way that its trits do not change."""
    wanted, _ = ternarise(weight)
    # The bits below the sign are an integer that increases with the magnitude.
    bits = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
    for _ in range(ROUNDS):
        rounded = bits.view(ml_dtypes.bfloat16).astype(np.float32)
        trits, _ = ternarise(rounded)
        if np.array_equal(trits, wanted):
            break
        step = np.abs(wanted).astype(np.int32) - np.abs(trits).astype(np.int32)
        bits = (bits.astype(np.int32) + step).astype(np.uint16)
    return rounded
