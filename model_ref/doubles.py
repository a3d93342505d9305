"""Computes the arithmetic of the integer network on float64 arrays: the same integers, but faster than with int64.

float64 represents every integer below 2^53 exactly, and no product of the network has more than 36 bits. So a right
shift with rounding is a product with a power of two and a floor. A short float is a float64 with 17 significant bits.
NumPy uses vector instructions for these operations. For shifts by a different number per element, for ``where`` and for
``frexp``, NumPy would use a loop.

    in int64                  here, in float64
    fixed.rsh(x, n)           floor(x * 2^-n + 1/2)
    fixed.to_float(x)         the 17 leading bits of a float64, rounded as an integer
    fixed.multiply_float      the 17 leading bits of a float64 product, rounded as an integer

Every function returns the same values as the function that its ``Reference`` names, and tests compare the two. Values
that are computed once per vector, not once per element (scales, reciprocals), call the reference itself. No function
changes its arguments. In shapes, B is the number of streams, n the length of a vector, d the hidden size, and J the
number of matrices that read a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref import activation
from lutern.model_ref.activation import (
    ARGUMENT_FRAC_BITS,
    ARGUMENT_MAX,
    REMAINDER_BITS,
    SEGMENT_BASE,
    SEGMENT_BITS,
    SEGMENT_SLOPE,
    SIGMOID_FRAC_BITS,
)
from lutern.model_ref.fixed import (
    MANTISSA_BITS,
    MANTISSA_MAX,
    S18_MAX,
    S32_MAX,
    Clipped,
    Int,
    bit_length,
    multiply_float,
    rsqrt_float,
)
from lutern.model_ref.mlgru import FORGET_FRAC_BITS, STATE_GUARD_BITS, Z_BITS, state_shift
from lutern.model_ref.norm import Gains, code_factor
from lutern.model_ref.ternary import scale_shift

Doubles: TypeAlias = NDArray[np.float64]

FRACTION_BITS = 52
"""Number of bits of a float64 below its leading 1."""
FRACTION = np.uint64((1 << FRACTION_BITS) - 1)
DROPPED_BITS = FRACTION_BITS + 1 - MANTISSA_BITS
HALF = np.uint64(1 << (DROPPED_BITS - 1))
KEPT = ~np.uint64((1 << DROPPED_BITS) - 1)
HALF_SUM_BITS = 34
"""Number of bits in the lower part of a square. Sums of squares are computed in two parts, because a square has 70
bits. The sum of 8192 parts of 36 bits stays below 2^53."""
SLOPE: Doubles = SEGMENT_SLOPE.astype(np.float64) * 2.0**-REMAINDER_BITS
RISE: Doubles = 2.0 ** (SIGMOID_FRAC_BITS - 1) - SEGMENT_BASE - SEGMENT_SLOPE * np.arange(1 << SEGMENT_BITS)
"""``RISE[segment] + SLOPE[segment] * argument`` is sigma - 1/2. RISE is the value at argument 0 of the straight line
through a segment.
"""


def nearest(x: Doubles, shift: int = 0) -> Doubles:
    """Return ``x * 2^-shift`` rounded to nearest, halves up. Reference: ``fixed.rsh``."""
    y = x * 2.0**-shift
    y += 0.5
    return np.floor(y, out=y)


def saturate(x: Doubles, limit: int, clipped: Clipped | None = None) -> Doubles:
    """Return ``x`` within ``[-limit, limit]``. Reference: ``fixed.saturate``."""
    y = np.clip(x, -limit, limit)
    if clipped is not None:
        clipped(int(np.count_nonzero(x != y)))
    return y


def short(x: Doubles) -> Doubles:
    """Return the short float of each value. Reference: ``fixed.to_float``, or for products ``fixed.multiply_float``.

    Half of the last kept place is added to the bits of the float64. A carry out of the fraction would double the value.
    In this case all kept bits become 1.
    """
    bits = x.view(np.uint64)
    rounded = bits + HALF
    np.minimum(rounded, bits | FRACTION, out=rounded)
    rounded &= KEPT
    return rounded.view(np.float64)


def parts(x: Doubles) -> tuple[Int, Int]:
    """Return the mantissa and exponent of short floats >= 0, in the form of ``fixed.py``."""
    fraction, exponent = np.frexp(x)
    mantissa = np.ldexp(fraction, MANTISSA_BITS).astype(np.int64)
    return mantissa, np.where(mantissa == 0, 0, exponent.astype(np.int64) - MANTISSA_BITS)


def square_sum(p: Doubles) -> tuple[Int, Int]:
    """Return the sum ``[B]`` of the truncated squares of ``p [B, n]``. Reference: ``norm.square_sum``."""
    square = p * p
    np.floor(square, out=square)
    high = square * 2.0**-HALF_SUM_BITS
    np.floor(high, out=high)
    upper = high.sum(axis=-1).astype(np.int64)
    high *= 2.0**HALF_SUM_BITS
    square -= high
    lower = square.sum(axis=-1).astype(np.int64)
    upper += lower >> HALF_SUM_BITS
    wide = upper >> MANTISSA_BITS != 0  # if so, the upper part contains all 17 leading bits
    total = np.where(wide, upper, (upper << HALF_SUM_BITS) + (lower & (1 << HALF_SUM_BITS) - 1))
    return leading(total, np.where(wide, HALF_SUM_BITS, 0))


def integer_square_sum(g: Doubles) -> tuple[Int, Int]:
    """Return the sum of squares ``[B]`` (47 bits) of cut sums ``[B, d]``. Reference: ``model.integer_square_sum``."""
    total = np.einsum("bd,bd->b", g, g).astype(np.int64)
    return leading(total, np.zeros_like(total))


def leading(total: Int, exponent: Int) -> tuple[Int, Int]:
    """Return the 17 leading bits of ``total * 2^exponent``, truncated."""
    shift = bit_length(total) - MANTISSA_BITS
    mantissa = (total << np.maximum(-shift, 0)) >> np.maximum(shift, 0)
    return mantissa, np.where(total == 0, 0, exponent + shift)


@dataclass
class Factors:
    """The gains of one vector as float64: the gains of the outer norm (None if there is no outer norm), and the gains
    of each matrix."""

    outer: Doubles | None
    inner: list[Doubles]

    @classmethod
    def of(cls, outer: Gains | None, inner: list[Gains]) -> Factors:
        """Return the factors from the two parts of a field ``*_gains`` of ``IntegerLayer``."""

        def values(gains: Gains) -> Doubles:
            mantissa, exponent = gains.factors()
            return np.ldexp(mantissa.astype(np.float64), exponent)

        return cls(values(outer) if outer else None, [values(gains) for gains in inner])


@dataclass
class Vector:
    """The fields of ``norm.Vector``, with each ``u_k`` ``[B, n]`` as float64, and ``largest`` as short floats [J, B],
    for J matrices."""

    u: list[Doubles]
    largest: tuple[Int, Int]
    ss: tuple[Int, Int]


def gather(x: Doubles, factors: Factors) -> Vector:
    """Return the statistics of ``x [B, n]``. Reference: ``norm.gather``."""
    x = short(x)
    u = [short(x * gains) for gains in factors.inner]
    p = x if factors.outer is None else short(x * factors.outer)
    largest = np.stack([np.abs(v).max(axis=-1) for v in u])
    return Vector(u, parts(largest), square_sum(p))


def quantise(vector: Vector) -> list[Doubles]:
    """Return int8 codes ``[B, n]`` of every ``u_k``. Reference: ``norm.quantise``."""
    factors, shift = code_factor(vector.largest)
    units = np.ldexp(1.0, -vector.largest[1])
    scaled = np.ldexp(factors.astype(np.float64), -shift)
    return [_codes(u, unit[:, None], factor[:, None]) for u, unit, factor in zip(vector.u, units, scaled, strict=True)]


def _codes(u: Doubles, unit: Doubles, factor: Doubles) -> Doubles:
    """Return ``nearest(nearest(|u| unit) factor)`` with the sign of u.

    The reference's clamp at 127 is not needed here, because ``largest * R`` differs from 127 by less than 0.004.
    """
    codes = np.abs(u)
    for scale in (unit, factor):
        codes *= scale
        codes += 0.5
        np.floor(codes, out=codes)
    return np.copysign(codes, u, out=codes)


def scales_of(vector: Vector, ss: tuple[Int, Int], k: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the scales ``[J, B]`` of the sums of J matrices with constants ``k [J, 1]``. Reference:
    ``norm.scale_of``."""
    scale = multiply_float(multiply_float(vector.largest, k), rsqrt_float(ss))
    zero = (vector.largest[0] == 0) | (ss[0] == 0)
    return np.where(zero, 0, scale[0]), np.where(zero, 0, scale[1])


def cut_sums(sums: Doubles, cut: int) -> Doubles:
    """Return sums as 18-bit operands. If no bits are cut, the sums are not changed. Reference: ``ternary.cut_sums``."""
    return saturate(nearest(sums, cut), S18_MAX) if cut else sums


def scale_sums(
    sums: Doubles, cut: int, scale: tuple[Int, Int], frac_bits: int, limit: int, clipped: Clipped | None = None
) -> Doubles:
    """Return sums times the token's scale. Reference: ``ternary.scale_sums``."""
    factor = np.ldexp(scale[0].astype(np.float64), -scale_shift(scale[1], cut, frac_bits))
    return saturate(nearest(cut_sums(sums, cut) * factor[:, None]), limit, clipped)


def sigmoid(x: Doubles, frac_bits: int) -> Doubles:
    """Return ``sigma(x)`` of 32-bit ``x``, with 17 fraction bits. Reference: ``activation.sigmoid``."""
    argument = np.abs(x)
    argument *= 2.0 ** (ARGUMENT_FRAC_BITS - frac_bits)
    np.floor(argument, out=argument)
    np.clip(argument, 0, ARGUMENT_MAX, out=argument)
    segment = (argument * 2.0**-REMAINDER_BITS).astype(np.intp)
    value = nearest(SLOPE.take(segment) * argument)
    value += RISE.take(segment)
    np.copysign(value, x, out=value)
    value += 2.0 ** (SIGMOID_FRAC_BITS - 1)
    return np.clip(value, 0, MANTISSA_MAX, out=value)


@cache
def table(function: Callable[[Int, int], Int], frac_bits: int) -> NDArray[np.float32]:
    """Return all values (18 bits) of a function, for the 18-bit integers in the order 0, 1, ..., -2, -1."""
    x = np.arange(-S18_MAX - 1, S18_MAX + 1)
    return np.roll(function(x, frac_bits), -S18_MAX - 1).astype(np.float32)


def looked_up(function: Callable[[Int, int], Int], frac_bits: int, x: Doubles) -> Doubles:
    """Return a function of 18-bit ``x``. The value is read from a table, which needs 1 MB of the second-level cache."""
    return table(function, frac_bits).take(x.astype(np.intp)).astype(np.float64)


def silu(x: Doubles, frac_bits: int) -> Doubles:
    """Return ``x sigma(x)`` of 18-bit ``x``, in the format of ``x``. Reference: ``activation.silu``."""
    return looked_up(activation.silu, frac_bits, x)


def forget_gate(f: Doubles, one_minus_lower_bound: Doubles) -> Doubles:
    """Return ``z [B, d]`` with 17 fraction bits. Reference: ``mlgru.forget_gate``."""
    return nearest(looked_up(activation.sigmoid, FORGET_FRAC_BITS, -f) * one_minus_lower_bound, SIGMOID_FRAC_BITS)


def update_state(state: Doubles, z: Doubles, i: Doubles, frac_bits: int, clipped: Clipped | None = None) -> Doubles:
    """Return the new state ``[B, d]``. Reference: ``mlgru.update_state``."""
    difference = saturate(silu(i, frac_bits) - nearest(state, STATE_GUARD_BITS), S18_MAX, clipped)
    return saturate(state + nearest(z * difference, Z_BITS - STATE_GUARD_BITS), S32_MAX, clipped)


def gated_output(g: Doubles, state: Doubles, shift: Int, state_frac_bits: int) -> Doubles:
    """Return ``v [B, d]`` = g * silu(S). ``shift [B]`` is ``mlgru.state_shift``. Reference: ``mlgru.gated_output``."""
    aligned = saturate(nearest(state * np.ldexp(1.0, -shift)[:, None]), S18_MAX)
    return g * nearest(aligned * sigmoid(state, state_frac_bits), SIGMOID_FRAC_BITS)


def largest_shift(state: Doubles) -> Int:
    """Return the right shift ``[B]`` of ``state [B, d]``. Reference: ``mlgru.state_shift``, which this function calls
    for only the largest magnitude.
    """
    return state_shift(np.abs(state).max(axis=-1, keepdims=True).astype(np.int64))
