"""Rounds latent weights to bfloat16 without changing a trit.

    W ─► nearest bfloat16 ─► trits ─► where one differs from W's, the next bfloat16 in its direction ─► trits ─► ...

A checkpoint stores the weights as they are before they become ternary, in bfloat16. Many are close to a threshold, half
the mean magnitude of their matrix, and plain rounding carries some of them across. Each correction moves a weight by
one unit in the last place, so the mean hardly changes, and a few rounds suffice.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.ternarise import ternarise

ROUNDS = 16  # two or three suffice


def rounded_with_trits_kept(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``weight`` rounded to values of bfloat16, as float32, such that its trits stay the same."""
    wanted, _ = ternarise(weight)
    # As integers, the bits below the sign rise with the magnitude.
    bits = weight.astype(ml_dtypes.bfloat16).view(np.uint16)
    for _ in range(ROUNDS):
        rounded = bits.view(ml_dtypes.bfloat16).astype(np.float32)
        trits, _ = ternarise(rounded)
        if np.array_equal(trits, wanted):
            break
        step = np.abs(wanted).astype(np.int32) - np.abs(trits).astype(np.int32)
        bits = (bits.astype(np.int32) + step).astype(np.uint16)
    return rounded
