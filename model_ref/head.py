"""Finds the token with the largest logit, or the k tokens with the largest logits.

The scale of lm_head is positive and common to all rows, so argmax is computed from the raw sums. If several sums are
equal, the lowest index is chosen. A logit is ``sum * mantissa * 2^exponent``. All logits of a token have the same scale
(mantissa, exponent). ``model_ref.sampling`` chooses tokens at random. In shapes, B is the number of streams and V the
vocabulary.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import Int


def argmax(sums: Int) -> Int:
    """Return the tokens ``[B]`` of the largest of ``sums [B, V]``. If sums are equal, return the lowest index."""
    return np.asarray(np.argmax(sums, axis=-1))


def top_k(sums: Int, k: int) -> tuple[Int, Int]:
    """Return the tokens and sums ``[B, min(k, V)]`` of the k largest of ``sums [B, V]``, the largest first. Equal sums
    are in the order of their indices."""
    tokens = np.argsort(-sums, axis=-1, kind="stable")[..., :k]
    return tokens, np.take_along_axis(sums, tokens, axis=-1)


def logits(sums: Int, scale: tuple[Int, Int]) -> np.ndarray:
    """Return real logits float64 ``[B, V]``. These logits are exact, since a sum has 21 bits and a mantissa has 17
    bits."""
    return np.ldexp((sums * scale[0][..., None]).astype(np.float64), scale[1][..., None].astype(np.int32))
