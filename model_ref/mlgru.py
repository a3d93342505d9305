"""Computes the MLGRU, the gated linear recurrence that replaces attention.

    rows of f:  z = sigma(-f) * (1 - LB)             z = 1 - forget gate, 17 fraction bits; LB: lower bound of the gate
    rows of i:  S = S + z * (silu(i) - S)            S: the state, one vector per layer, which stores the whole past
    rows of g:  v = g * S * sigma(S)                 v: the input of the norm of o_proj

The order of the matrices is f, i, g, so that the new state and its largest magnitude are complete before the rows of g
need the state. The code computes only z = 1 - forget gate, because a forget gate near 1 would lose bits that z keeps.
Each element needs two products for f, two for i, two for g, and one for the sum of squares of g. In addition, each f, i
and g needs the interpolation product of ``activation.py``. In shapes, B is the number of streams and d the hidden size.
s18 and s32 are signed integers of 18 and 32 bits.

Paper: section 3.3.1, with the released code's gate direction and lower bounds: f = LB + (1 - LB) sigma(f_proj).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.activation import SIGMOID_FRAC_BITS, sigmoid, silu
from lutern.model_ref.fixed import MANTISSA_BITS, S18_MAX, S32_MAX, Clipped, Int, bit_length, rsh, saturate
from lutern.model_ref.items import ITEM_EXPONENT_MAX, ITEM_MAGNITUDE_BITS, ITEM_MANTISSA_MAX, items, significant

FORGET_FRAC_BITS = 13
"""Fraction bits of f, which is Q4.13 in every model. f saturates at +-16 by design. At +-16, sigma differs by 1e-7 from
its limit."""
STATE_GUARD_BITS = 14
"""Number of additional fraction bits of S compared with silu(i), so that a step changes S even if z is 2^-14."""
Z_BITS = 17
BOUND_LOW_BITS = Z_BITS - ITEM_MAGNITUDE_BITS
"""Number of zeros below the mantissa of a bound, before the bound is shifted."""


@dataclass(frozen=True)
class Bounds:
    """The values 1 - LB as items: value = (mantissa << 6) >> exponent, with 17 fraction bits. No bit that is 1 is
    shifted out.

    A bound is a number of 17 bits with 11 significant bits, at most 2047 << 6. Mantissas are normalised (1024 to 2047),
    except the mantissas of the value 1 (512) and of 0.
    """

    mantissa: Int
    exponent: Int

    @classmethod
    def from_integers(cls, bounds: NDArray[Any]) -> Bounds:
        """Return the nearest bounds to integers with 17 fraction bits. The largest relative error is 2^-11."""
        rounded = np.minimum(significant(bounds), ITEM_MANTISSA_MAX << BOUND_LOW_BITS)
        left = np.clip(Z_BITS - np.frexp(rounded)[1], 0, ITEM_EXPONENT_MAX)
        exponent = np.where(rounded == 0, 0, left).astype(np.int64)
        return cls(np.ldexp(rounded, exponent - BOUND_LOW_BITS).astype(np.int64), exponent)

    @classmethod
    def from_real(cls, bounds: NDArray[np.float64]) -> Bounds:
        """Return the bounds of real numbers from 0 to 1, which are first rounded to 17 fraction bits."""
        return cls.from_integers(np.rint(np.ldexp(bounds, Z_BITS)))

    @classmethod
    def from_parts(cls, mantissa: NDArray[Any], exponent: NDArray[Any]) -> Bounds:
        """Return bounds from mantissas and exponents, such as from ``items.item_parts``."""
        return cls(mantissa.astype(np.int64), exponent.astype(np.int64))

    @property
    def values(self) -> Int:
        """The values of the bounds, with 17 fraction bits."""
        return (self.mantissa << BOUND_LOW_BITS) >> self.exponent

    @property
    def items(self) -> NDArray[np.uint16]:
        """The bounds as items, in the form in which they are stored."""
        return items(self.mantissa, self.exponent)


def forget_gate(f: Int, one_minus_lower_bound: Int) -> Int:
    """Return ``z [B, d]`` with 17 fraction bits, from ``f [B, d]`` (Q4.13, s18) and ``1 - LB [d]`` (``Bounds.values``,
    17 fraction bits)."""
    return rsh(sigmoid(-f, FORGET_FRAC_BITS) * one_minus_lower_bound, SIGMOID_FRAC_BITS)


def update_state(state: Int, z: Int, i: Int, frac_bits: int, clipped: Clipped | None = None) -> Int:
    """Return the new state ``[B, d]`` (s32, ``frac_bits + 14`` fraction bits) from gate ``z`` and pre-activation ``i``
    (s18).

    S stays between the least and the largest silu. So the difference fits 18 bits, and neither saturation changes a
    value, if |i| is within the bound from which ``quantise.pre_activation_frac_bits`` computed ``frac_bits``.
    """
    difference = saturate(silu(i, frac_bits) - rsh(state, STATE_GUARD_BITS), S18_MAX, clipped)
    return saturate(state + rsh(z * difference, Z_BITS - STATE_GUARD_BITS), S32_MAX, clipped)


def state_shift(state: Int) -> Int:
    """Return the right shift ``[B]`` after which the largest magnitude of ``state [B, d]`` has 17 bits. A negative
    shift is a left shift."""
    return bit_length(np.bitwise_or.reduce(np.abs(state), axis=-1)) - MANTISSA_BITS


def gated_output(g: Int, state: Int, state_frac_bits: int) -> Int:
    """Return ``v [B, d]`` = g * silu(S): 35-bit integers with exponent ``cut + state_shift - state_frac_bits``.

    ``g`` are cut sums (s18), which need no scaling because their scale cancels in the norm of o_proj.
    """
    aligned = saturate(rsh(state, state_shift(state)[..., None]), S18_MAX)
    return g * rsh(aligned * sigmoid(state, state_frac_bits), SIGMOID_FRAC_BITS)
