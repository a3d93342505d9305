"""Computes RMSNorm and the int8 codes of a BitLinear, without a division per element.

Only the scale of the sums depends on the root mean square, but the codes do not::

    x ─► X = short float(x) ─┬─► u_k = X * G_k ─► largest |u_k| ─► R = 127 / largest ─► codes_k = round(u_k * R)
                             └─► p = X * w1 ─► ss = sum p^2 ─► y = 1 / sqrt(ss + eps) ─► scale_k = largest_k * K_k * y

``w1`` are the gains of the outer norm. ``G_k = w1 * w2_k`` are the gains of matrix k, where ``w2_k`` are the gains of
the norm inside its BitLinear, and ``K_k`` is a constant of matrix k. The matrices i, f and g use the same ``x`` and
``w1``. With J matrices, each element needs 2 + J products while ``x`` is produced, and one product when its codes are
computed. Each vector needs one reciprocal for each matrix, and one reciprocal square root. The statistics (``ss``,
largest) do not depend on the order of elements, because squares are added as integers, and short floats are compared as
integers. In shapes, B is the number of streams and n the length of the vector.

Paper: section 3.2 (BitLinear with fused RMSNorm). The eps of every norm is 1e-6, as in the released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.fixed import (
    MANTISSA_BITS,
    MANTISSA_MAX,
    Int,
    add_float,
    multiply_float,
    reciprocal,
    reciprocal_float,
    rsh,
    rsqrt_float,
    to_float,
)
from lutern.model_ref.items import (
    ITEM_EXPONENT_BITS,
    ITEM_EXPONENT_MAX,
    ITEM_MAGNITUDE_BITS,
    ITEM_MANTISSA_BITS,
    items,
    significant,
)

X_BITS = 35
"""Number of signed bits of a norm's input: h has 32 bits, and the products v of MLGRU and GLU have 35 bits."""
GAIN_MANTISSA_BITS, GAIN_EXPONENT_BITS, GAIN_EXPONENT_MAX = ITEM_MANTISSA_BITS, ITEM_EXPONENT_BITS, ITEM_EXPONENT_MAX
GAIN_LOW_BITS = MANTISSA_BITS - ITEM_MAGNITUDE_BITS
"""Number of zeros that are appended to an item's mantissa for the arithmetic."""
KEY_EXPONENT_BIAS = 33
"""The number that is added to the exponent in a *key*, which is the pair (exponent, magnitude) as one unsigned number.
Exponents of u and p are in [-32, 17], so a key has 23 bits, and keys are compared in place of short floats."""
CODE_MAX = 127


@dataclass(frozen=True)
class Gains:
    """The gains of one vector: normalised mantissas ``[n]`` (18 signed bits), exponents ``[n]`` (0 to 15), one vector
    exponent.

    real gain = mantissa * 2^-17 * 2^-exponent * 2^vector_exponent. A gain below 2^-15 times the largest gain is 0. A
    gain is stored as an item, so the low 6 bits of every mantissa are 0.
    """

    mantissa: Int
    exponent: Int
    vector_exponent: int

    @classmethod
    def from_real(cls, gains: np.ndarray) -> Gains:
        """Return the nearest gains to real numbers ``[n]``. The relative error is at most 2^-11, except for gains that
        become 0."""
        fraction, exponent = np.frexp(significant(gains))
        used = fraction != 0
        top = int(exponent[used].max()) if used.any() else 0
        relative = top - exponent
        mantissa = np.ldexp(fraction, MANTISSA_BITS).astype(np.int64)
        keep = used & (relative <= GAIN_EXPONENT_MAX)
        return cls(np.where(keep, mantissa, 0), np.where(keep, relative, 0).astype(np.int64), top)

    @classmethod
    def from_parts(cls, mantissa: NDArray[Any], exponent: NDArray[Any], vector_exponent: int) -> Gains:
        """Return gains from mantissas and exponents, such as from ``items.item_parts``."""
        return cls(mantissa.astype(np.int64) << GAIN_LOW_BITS, exponent.astype(np.int64), vector_exponent)

    @property
    def items(self) -> NDArray[np.uint16]:
        """The gains as items, in the form in which they are stored."""
        assert not (self.mantissa & ((1 << GAIN_LOW_BITS) - 1)).any()
        return items(self.mantissa >> GAIN_LOW_BITS, self.exponent)

    def real(self) -> np.ndarray:
        """Return the values of the gains as float64 ``[n]``."""
        return self.mantissa * 2.0 ** (self.vector_exponent - MANTISSA_BITS - self.exponent.astype(np.float64))

    def factors(self) -> tuple[Int, Int]:
        """Return the gains as short floats, without the vector's exponent."""
        return self.mantissa, -MANTISSA_BITS - self.exponent


@dataclass(frozen=True)
class ScaleConstants:
    """The constants of one norm and one matrix, as short floats ``(mantissa, exponent)`` that the image stores.

    ``k`` is the factor in scale = largest * k * y. ``e1`` and ``e2`` are the factors of ``eps_term``.
    """

    k: tuple[int, int]
    e1: tuple[int, int] = (0, 0)
    e2: tuple[int, int] = (0, 0)


def scalar(constant: tuple[int, int]) -> tuple[Int, Int]:
    """Return a constant of the image as an operand that applies to every stream."""
    return np.array(constant[0]), np.array(constant[1])


@dataclass
class Vector:
    """The values that a norm stores for a vector: ``u_k`` ``[B, n]``, the largest of each ``u_k`` ``[B]``, ``ss [B]``.

    All values are short floats, which are pairs of mantissa and exponent.
    """

    u: list[tuple[Int, Int]]
    largest: list[tuple[Int, Int]]
    ss: tuple[Int, Int]


def square_sum(p: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the sum of squares ``[B]`` of short floats ``[B, n]`` as a short float.

    Each square (34 bits) is shifted to units of ``x``'s last place and truncated. The 82-bit sum is exact, and its 17
    leading bits are kept (truncated). An int64 is too small for the sum. So each square is divided into two halves of
    17 bits, whose sums do not overflow for a vector of at most 8192 elements (``quantise.MAX_WIDTH``).
    """
    square = p[0] * p[0]
    left = 2 * np.maximum(p[1], 0)
    square = square >> np.minimum(-2 * np.minimum(p[1], 0), 62)
    low = ((square & MANTISSA_MAX).astype(np.uint64) << left.astype(np.uint64)).sum(axis=-1)
    high = ((square >> MANTISSA_BITS).astype(np.uint64) << left.astype(np.uint64)).sum(axis=-1)
    totals = [(int(h) << MANTISSA_BITS) + int(x) for h, x in zip(high.ravel(), low.ravel(), strict=True)]
    exponents = [t.bit_length() - MANTISSA_BITS if t else 0 for t in totals]
    mantissas = [t >> e if e >= 0 else t << -e for t, e in zip(totals, exponents, strict=True)]
    shape = high.shape
    return np.array(mantissas, dtype=np.int64).reshape(shape), np.array(exponents, dtype=np.int64).reshape(shape)


def largest_float(u: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the short float with the largest magnitude along the last axis. Magnitudes are compared as keys (exponent,
    mantissa)."""
    magnitude = np.abs(u[0])
    key = np.where(magnitude == 0, 0, ((u[1] + KEY_EXPONENT_BIAS) << MANTISSA_BITS) + magnitude).max(axis=-1)
    return key & MANTISSA_MAX, np.where(key == 0, 0, (key >> MANTISSA_BITS) - KEY_EXPONENT_BIAS)


def gather(x: Int, outer: Gains | None, inner: list[Gains]) -> Vector:
    """Return the statistics of ``x [B, n]`` (35-bit integers), which the gateware computes while ``x`` is produced.

    ``outer`` are the gains w1, or None if there is no outer norm, as for down_proj. ``inner`` contains the gains G of
    each matrix.
    """
    short = to_float(x)
    p = multiply_float(short, outer.factors()) if outer else short
    u = [multiply_float(short, gains.factors()) for gains in inner]
    return Vector(u, [largest_float(v) for v in u], square_sum(p))


def quantise(u: tuple[Int, Int], largest: tuple[Int, Int]) -> Int:
    """Return the int8 codes ``[B, n]`` of ``u [B, n]``. The largest magnitude becomes exactly 127. -128 never occurs.

    For each vector, ``R = 127 / largest`` is computed. Each element needs one shift, one 17 x 17 product and one
    rounding.
    """
    factor, shift = code_factor(largest)
    aligned = rsh(np.abs(u[0]), np.where(u[0] == 0, 0, largest[1][..., None] - u[1]))
    codes = np.minimum(rsh(aligned * factor[..., None], shift), CODE_MAX)
    return np.where(largest[0][..., None] == 0, 0, np.where(u[0] < 0, -codes, codes))


def code_factor(largest: tuple[Int, Int]) -> tuple[Int, int]:
    """Return ``R = 127 / largest`` of each vector (17 bits), and the right shift of products with R."""
    return np.minimum(rsh(CODE_MAX * reciprocal(largest[0]), 7), MANTISSA_MAX), 26


def eps_term(constants: ScaleConstants, producer_scale: tuple[Int, Int], extra: tuple[Int, Int]) -> tuple[Int, Int]:
    """Return the eps of the norm of o_proj or down_proj in units of ``ss``: ``e2 * (extra + e1 / producer_scale^2)``.

    For o_proj, ``producer_scale`` is the scale of g, and ``extra`` is the sum of g^2. For down_proj, ``producer_scale``
    is the scale of gate and up, and ``extra`` is 0.
    """
    inverse = reciprocal_float(producer_scale)
    term = add_float(extra, multiply_float(multiply_float(inverse, inverse), scalar(constants.e1)))
    return multiply_float(term, scalar(constants.e2))


def scale_of(largest: tuple[Int, Int], ss: tuple[Int, Int], constants: ScaleConstants) -> tuple[Int, Int]:
    """Return the scale of the sums of one matrix, ``largest * k / sqrt(ss)``, as a short float ``[B]``. The scale of an
    all-zero vector is 0.

    The product ``largest * k`` is computed first, because the root is available last.
    """
    scale = multiply_float(multiply_float(largest, scalar(constants.k)), rsqrt_float(ss))
    zero = (largest[0] == 0) | (ss[0] == 0)
    return np.where(zero, 0, scale[0]), np.where(zero, 0, scale[1])
