"""The head: largest logit and its token.

The scale of lm_head is positive and common to all rows, so argmax works on the raw sums; the lowest index wins a tie.
A logit is ``sum * mantissa * 2^exponent`` with the token's one scale.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import Int


def argmax(sums: Int) -> Int:
    """Token ``[B]`` of the largest of ``sums [B, V]``, the lowest index on a tie."""
    return np.argmax(sums, axis=-1)


def logits(sums: Int, scale: tuple[Int, Int]) -> np.ndarray:
    """Real logits float64 ``[B, V]``; exact, since a sum has 21 bits and a mantissa 17."""
    return np.ldexp((sums * scale[0][..., None]).astype(np.float64), scale[1][..., None].astype(np.int32))
