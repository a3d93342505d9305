"""The head: the largest logit and its token, or the k largest.

The scale of lm_head is positive and common to all rows, so argmax works on the raw sums; the lowest index wins a tie.
A logit is ``sum * mantissa * 2^exponent`` with the token's one scale. ``model_ref.sampling`` chooses at random.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import Int


def argmax(sums: Int) -> Int:
    """Return token ``[B]`` of the largest of ``sums [B, V]``, the lowest index on a tie."""
    return np.asarray(np.argmax(sums, axis=-1))


def top_k(sums: Int, k: int) -> tuple[Int, Int]:
    """Return tokens and sums ``[B, min(k, V)]`` of the largest of ``sums [B, V]``, largest first; ties by rising
    index."""
    tokens = np.argsort(-sums, axis=-1, kind="stable")[..., :k]
    return tokens, np.take_along_axis(sums, tokens, axis=-1)


def logits(sums: Int, scale: tuple[Int, Int]) -> np.ndarray:
    """Return real logits float64 ``[B, V]``; they are exact, since a sum has 21 bits and a mantissa 17."""
    return np.ldexp((sums * scale[0][..., None]).astype(np.float64), scale[1][..., None].astype(np.int32))
