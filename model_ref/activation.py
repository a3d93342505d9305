"""Computes sigmoid from a table of 512 straight segments, and silu as the sigmoid times its argument.

    |a| < 16, 17 fraction bits:   index (9 bits) | remainder (12 bits)
    sigma(-|a|) = base[index] - slope[index] * remainder / 2^12              17 fraction bits

The chords of sigma(-|a|) are above the curve. Therefore each node of the segments is lowered by ``h^2 f'' / 16`` (h:
width of a segment, f'': second derivative), which halves the largest error. The largest error is 2^-16.3 (table and
rounding together, over all 2^21 arguments). The table has 512 x 28 bits, and each value needs one 11 x 12 bit product.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import MANTISSA_MAX, Int, rsh

ARGUMENT_FRAC_BITS = 17
ARGUMENT_MAX = (16 << ARGUMENT_FRAC_BITS) - 1
"""The largest argument. Larger arguments are clamped, because sigma(-16) is 1e-7, less than one unit of the result."""
SEGMENT_BITS = 9
REMAINDER_BITS = ARGUMENT_MAX.bit_length() - SEGMENT_BITS
SIGMOID_FRAC_BITS = 17


def _segments() -> tuple[Int, Int]:
    """Return the base (17 bits) and slope (11 bits) of every segment."""
    width = 16.0 / (1 << SEGMENT_BITS)
    x = np.arange((1 << SEGMENT_BITS) + 1) * width
    s = 1.0 / (1.0 + np.exp(x))  # sigma(-x)
    curvature = s * (1.0 - s) * (1.0 - 2.0 * s)
    node = np.rint((s - width * width / 16.0 * curvature) * 2.0**SIGMOID_FRAC_BITS).astype(np.int64)
    return node[:-1], node[:-1] - node[1:]


SEGMENT_BASE, SEGMENT_SLOPE = _segments()


def sigmoid(x: Int, frac_bits: Int | int) -> Int:
    """Return ``sigma(x)`` as integers with 17 fraction bits, at most 2^17 - 1. ``x`` has ``frac_bits`` fraction bits.

    The magnitude of ``x`` is first converted to 17 fraction bits: low bits are dropped without rounding, or zeros are
    appended. Then the magnitude is clamped.
    """
    x = np.asarray(x, dtype=np.int64)
    argument = np.minimum((np.abs(x) << ARGUMENT_FRAC_BITS) >> frac_bits, ARGUMENT_MAX)
    segment = argument >> REMAINDER_BITS
    remainder = argument & ((1 << REMAINDER_BITS) - 1)
    falling = SEGMENT_BASE[segment] - rsh(SEGMENT_SLOPE[segment] * remainder, REMAINDER_BITS)
    return np.asarray(np.where(x < 0, falling, np.minimum((1 << SIGMOID_FRAC_BITS) - falling, MANTISSA_MAX)))


def silu(x: Int, frac_bits: Int | int) -> Int:
    """Return ``x sigma(x)`` in the format of ``x`` (18 bits, ``frac_bits`` fraction bits), by one 18 x 18 product."""
    return rsh(x * sigmoid(x, frac_bits), SIGMOID_FRAC_BITS)
