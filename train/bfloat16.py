"""Latent weights to bfloat16 without a trit changing.

    W ─► nearest bfloat16 ─► trits again ─► where one differs from W's, the next bfloat16 towards its side ─► ...

A checkpoint stores the weights before they are made ternary, in bfloat16.  Many lie next to a threshold, half the mean
magnitude of their matrix, and plain rounding carries some of them across.  Each move is one unit in the last place, so
the mean hardly changes, and a few rounds settle it.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.ternarise import ternarise

ROUNDS = 16  # two or three suffice


def rounded_with_trits_kept(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """``weight`` as float32 numbers that bfloat16 holds exactly, with the trits of ``weight``."""
    wanted, _ = ternarise(weight)
    # As integers: the magnitude's bits count upwards with the magnitude, the sign bit stays out of it.
    bits = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
    for _ in range(ROUNDS):
        rounded = bits.view(ml_dtypes.bfloat16).astype(np.float32)
        trits, _ = ternarise(rounded)
        if np.array_equal(trits, wanted):
            break
        step = np.abs(wanted).astype(np.int32) - np.abs(trits).astype(np.int32)
        bits = (bits.astype(np.int32) + step).astype(np.uint16)
    return rounded
