"""Computes the ternary accumulate unit: exact sums of int8 codes times trits, then multiplied by one scale.

    sums[r] = sum over j of trits[r, j] * codes[j]          exact, 21 bits for up to 8192 columns
    scaled  = round(sums * mantissa * 2^-shift)             one 18 x 18 product per row

The sums need no multiplier because a trit is -1, 0 or +1. Paper: equation (5), arXiv 2406.02528.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import S18_MAX, Clipped, Int, rsh, saturate

SUM_BITS = 21


def ternary_sums(codes: Int, trits_f32: np.ndarray) -> Int:
    """Return ``codes [B, n]`` times ``trits [rows, n]`` as sums ``[B, rows]`` (B: streams, n: columns).

    The product is computed in float32 and is exact, because every partial sum is an integer below 127 * 8192 < 2^24.
    """
    return np.asarray(np.rint(codes.astype(np.float32) @ trits_f32.T), np.int64)


def cut_sums(sums: Int, cut: int) -> Int:
    """Round ``cut`` low bits of the sums away, and return 18-bit operands. ``cut`` is 0 if every row has at most 1,032
    nonzero trits."""
    return saturate(rsh(sums, cut), S18_MAX)


def scale_sums(
    sums: Int, cut: int, scale: tuple[Int, Int], frac_bits: int, limit: int, clipped: Clipped | None = None
) -> Int:
    """Return sums times the token's scale ``(mantissa, exponent)``, with ``frac_bits`` fraction bits, saturated at
    ``limit``.

    ``sums`` is ``[B, rows]``, and the arrays of ``scale`` are ``[B]``. ``scale_shift`` returns the shift.
    """
    product = cut_sums(sums, cut) * scale[0][:, None]
    return saturate(rsh(product, scale_shift(scale[1], cut, frac_bits)[:, None]), limit, clipped)


SHIFT_MIN, SHIFT_MAX = -15, 40
"""The range of shifts. A product of a nonzero cut sum and a mantissa is in [2^16, 2^34). After a left shift by 15, such
a product always saturates at 32 bits. After a right shift by 40, it is always zero. So larger shifts would give the
same results."""


def scale_shift(exponent: Int, cut: int, frac_bits: int) -> Int:
    """Return the right shift that turns ``sums * mantissa`` into a number with ``frac_bits`` fraction bits."""
    return np.clip(-(np.asarray(exponent) + cut + frac_bits), SHIFT_MIN, SHIFT_MAX)
