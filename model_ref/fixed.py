"""Computes fixed-point and short-float arithmetic. Only these functions round or saturate in the integer network.

The integer network has two kinds of numbers.

*Fixed point*: a signed integer with a binary point that its producer defines. ``s18`` is a signed integer of 18 bits,
``Q4.13`` has 13 fraction bits, and ``u4.12`` is unsigned with 12 fraction bits.

*Short float*: a sign, a 17-bit magnitude in ``[2^16, 2^17)`` and an exponent. value = ``sign * magnitude *
2^exponent``. Zero has magnitude 0. Short floats are used for values whose range is not known in advance: the input of a
norm, gains, scales. Magnitude and sign fit an 18-bit multiplier operand. Magnitudes are compared as integers (exponent,
magnitude).

Every function accepts and returns int64 NumPy arrays (or Python integers) of any shape, and works element by element.
Each function has a counterpart in the gateware: in ``hw/norm/short_float.py``, in ``hw/pipeline/stages.py`` or in the
block that uses it. Multiplier operands never exceed 18 signed bits.

Reference: Goldberg, "What every computer scientist should know about floating-point arithmetic", 1991, for the two
Newton iterations. Tables have the smallest size for which one iteration is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int: TypeAlias = NDArray[np.int64]
Clipped: TypeAlias = Callable[[int], None]
"""A function that is called with the number of values that a saturation changed."""

MANTISSA_BITS = 17
"""Number of bits of the magnitude of a short float, and of every table value. Together with a sign, such a number fits
an operand of MULT18X18D."""
MANTISSA_ONE = 1 << (MANTISSA_BITS - 1)
MANTISSA_MAX = (1 << MANTISSA_BITS) - 1
S18_MAX = (1 << 17) - 1
S32_MAX = (1 << 31) - 1
SCALAR_EXPONENT_BITS = 12
"""Number of bits of a scalar's signed exponent. 12 bits are enough for every product that the network computes of
scalars with 8-bit exponents."""


def rsh(x: Int, shift: Int | int) -> Int:
    """Return ``x * 2^-shift`` rounded to nearest, halves up. A negative shift is a left shift. Shifts above 62 give
    0."""
    x = np.asarray(x, dtype=np.int64)
    if isinstance(shift, int) and 0 < shift <= 62:  # faster than arrays of shifts, with the same result
        return (x + (1 << (shift - 1))) >> shift
    right = np.minimum(np.maximum(shift, 0), 62)
    left = np.minimum(np.maximum(-np.asarray(shift), 0), 62)
    half = (np.int64(1) << right) >> 1
    return np.asarray(((x << left) + half) >> right)


def saturate(x: Int, limit: int, clipped: Clipped | None = None) -> Int:
    """Clamp to ``[-limit, limit]``. As the range is symmetric, a magnitude never needs more bits than ``limit``."""
    if clipped is not None:
        clipped(int(np.count_nonzero((x > limit) | (x < -limit))))
    return np.minimum(np.maximum(x, -limit), limit)


def bit_length(x: Int) -> Int:
    """Return the number of bits of the magnitude, which is 0 for 0. The result is exact below 2^53, because float64
    represents such integers exactly."""
    return np.frexp(np.abs(np.asarray(x, dtype=np.int64)).astype(np.float64))[1].astype(np.int64)


def to_float(x: Int) -> tuple[Int, Int]:
    """Return an integer ``|x| < 2^52`` as a short float ``(signed mantissa, exponent)``.

    The magnitude is rounded to nearest, halves up. If it rounds up to 2^17, it saturates at 2^17 - 1.
    """
    x = np.asarray(x, dtype=np.int64)
    exponent = bit_length(x) - MANTISSA_BITS
    magnitude = np.minimum(rsh(np.abs(x), exponent), MANTISSA_MAX)
    return np.where(x < 0, -magnitude, magnitude), np.where(x == 0, 0, exponent)


def multiply_float(a: tuple[Int, Int], b: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the product of two short floats as a short float, with one 18 x 18 product, a shift by 0 or 1 bit, and one
    rounding."""
    product = a[0] * b[0]
    magnitude = np.abs(product)
    high = (magnitude >> 33).astype(np.int64)
    rounded = np.minimum(((magnitude >> (15 + high)) + 1) >> 1, MANTISSA_MAX)  # equals rsh by 16 + high
    zero = product == 0
    return np.where(product < 0, -rounded, rounded), np.where(zero, 0, a[1] + b[1] + 16 + high)


def add_float(a: tuple[Int, Int], b: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the sum of two short floats that are not negative. The smaller number is shifted to the exponent of the
    larger number and rounded."""
    swap = (b[0] != 0) & ((a[0] == 0) | (b[1] > a[1]))
    big = np.where(swap, b[0], a[0]), np.where(swap, b[1], a[1])
    small = np.where(swap, a[0], b[0]), np.where(swap, a[1], b[1])
    total = big[0] + rsh(small[0], np.where(small[0] == 0, 0, big[1] - small[1]))
    carry = (total >> MANTISSA_BITS).astype(np.int64)
    return np.minimum(rsh(total, carry), MANTISSA_MAX), np.where(total == 0, 0, big[1] + carry)


def scalar_from_real(value: float) -> tuple[int, int]:
    """Return the short float that is nearest to a real constant >= 0. The short float of ``0.0`` is ``(0, 0)``."""
    if value == 0.0:
        return 0, 0
    fraction, exponent = np.frexp(value)
    mantissa = int(np.rint(float(fraction) * 2**MANTISSA_BITS))
    return min(mantissa, MANTISSA_MAX), int(exponent) - MANTISSA_BITS


# ---------------------------------------------------------------------------------- reciprocal


def _reciprocal_table() -> Int:
    """Return 256 values of ``2^33 / m`` at the middle of each segment of ``m`` in [2^16, 2^17)."""
    middle = MANTISSA_ONE + (np.arange(256) + 0.5) * 256
    return np.asarray(np.minimum(np.rint(2.0**33 / middle), MANTISSA_MAX), np.int64)


RECIPROCAL_TABLE = _reciprocal_table()


def reciprocal(m: Int) -> Int:
    """Return about ``2^33 / m`` for a mantissa ``m`` in [2^16, 2^17): a table of 256 values and one Newton step.

    The largest error is 1.0 unit of the last place (relative 2^-16.9), over all 65,536 inputs. The leading bit is set
    to 1, so that 0 is treated as 2^16 and no operand needs more bits. Callers never use the result for 0.
    """
    m = np.asarray(m, dtype=np.int64) | MANTISSA_ONE
    y0 = RECIPROCAL_TABLE[(m >> 8) & 255]
    residual = ((1 << 33) - m * y0) >> 8  # s18: |2^33 - m y0| < 2^25 for every m
    return np.asarray(np.minimum(y0 + rsh(y0 * residual, 25), MANTISSA_MAX))


def reciprocal_float(a: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return ``1 / a`` as a short float. The mantissa of the result, ``2^33 / m``, is in (2^16, 2^17], where m is the
    mantissa of ``a``."""
    return reciprocal(a[0]), -33 - np.asarray(a[1])


# ---------------------------------------------------------------------------------- reciprocal square root


def _rsqrt_table() -> Int:
    """Return 384 values of ``2^16 / sqrt(m / 2^18)`` at the middle of each segment of ``m`` in [2^16, 2^18)."""
    middle = MANTISSA_ONE + (np.arange(384) + 0.5) * 512
    return np.asarray(np.minimum(np.rint(2.0**25 / np.sqrt(middle)), MANTISSA_MAX), np.int64)


RSQRT_TABLE = _rsqrt_table()


def rsqrt(m: Int) -> Int:
    """Return about ``2^25 / sqrt(m)`` for ``m`` in [2^16, 2^18): a table of 384 values and one Newton step.

    The largest error is 1.5 units of the last place (relative 2^-15.4), over all inputs. The product with the lowest
    bit of ``m`` is added separately, so that no operand exceeds 18 signed bits.
    """
    m = np.asarray(m, dtype=np.int64)
    y0 = RSQRT_TABLE[(m >> 9) - 128]
    square = np.minimum((y0 * y0) >> 17, MANTISSA_MAX)
    residual = ((1 << 33) - 2 * (square * (m >> 1)) - square * (m & 1)) >> 9  # s18, asserted over all inputs in tests
    return np.asarray(np.minimum(y0 + rsh(y0 * residual, 25), MANTISSA_MAX))


def rsqrt_float(a: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return ``1 / sqrt(a)`` of a short float ``a = m 2^e``. If the exponent is odd, ``m`` is doubled (18 bits), so
    that the exponent becomes even."""
    odd = np.asarray(a[1]) & 1
    m = (np.asarray(a[0], dtype=np.int64) | MANTISSA_ONE) << odd  # 0 is treated as 2^16, as in ``reciprocal``
    return rsqrt(m), -((np.asarray(a[1]) - odd) >> 1) - 25
