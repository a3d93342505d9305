"""MLGRU: the gated linear recurrence that takes the place of attention.

    f rows:  z  = sigma(-f) * (1 - LB)                    z = 1 - forget gate, 0.17
    i rows:  il = silu(i);  S += z * (il - S)             S: one vector a layer, the whole memory of the past
    g rows:  v  = g * S * sigma(S)                        v enters the norm ahead of o_proj

The order of matrices is f, i, g: so the new state and its largest magnitude are complete before g needs them. Only
``z = 1 - f`` is ever formed: near f = 1 it keeps the bits that f would lose. Products an element: f 2, i 2, g 2, and
one for the sum of squares of g; each f, i and g also has the interpolation product of ``activation.py``.

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
"""f is Q4.13 in every model: it saturates at +-16 by design, where sigma differs by 1e-7 from its limit."""
STATE_GUARD_BITS = 14
"""S has this many fraction bits more than silu(i), so that a step moves it even if z is 2^-14."""
Z_BITS = 17
BOUND_LOW_BITS = Z_BITS - ITEM_MAGNITUDE_BITS
"""Number of zeros below the mantissa of a bound, before the bound is shifted."""


@dataclass(frozen=True)
class Bounds:
    """1 - LB as items: value = (mantissa << 6) >> exponent, with 17 fraction bits; nothing is shifted out.

    A bound is a number of 17 bits with 11 significant ones, at most 2047 << 6. Mantissas are normalised (1024 to 2047),
    except those of the value 1 (512) and of 0.
    """

    mantissa: Int
    exponent: Int

    @classmethod
    def from_integers(cls, bounds: NDArray[Any]) -> Bounds:
        """Return the nearest coding of integers with 17 fraction bits. The largest relative error is 2^-11."""
        rounded = np.minimum(significant(bounds), ITEM_MANTISSA_MAX << BOUND_LOW_BITS)
        left = np.clip(Z_BITS - np.frexp(rounded)[1], 0, ITEM_EXPONENT_MAX)
        exponent = np.where(rounded == 0, 0, left).astype(np.int64)
        return cls(np.ldexp(rounded, exponent - BOUND_LOW_BITS).astype(np.int64), exponent)

    @classmethod
    def from_real(cls, bounds: NDArray[np.float64]) -> Bounds:
        """Return the coding of real numbers from 0 to 1, which are rounded to 17 fraction bits first."""
        return cls.from_integers(np.rint(np.ldexp(bounds, Z_BITS)))

    @classmethod
    def from_parts(cls, mantissa: NDArray[Any], exponent: NDArray[Any]) -> Bounds:
        """Return bounds from the parts of items, see ``items.item_parts``."""
        return cls(mantissa.astype(np.int64), exponent.astype(np.int64))

    @property
    def values(self) -> Int:
        """The coded bounds, with 17 fraction bits."""
        return (self.mantissa << BOUND_LOW_BITS) >> self.exponent

    @property
    def items(self) -> NDArray[np.uint16]:
        """The bounds as items, in the form in which they are stored."""
        return items(self.mantissa, self.exponent)


def forget_gate(f: Int, one_minus_lower_bound: Int) -> Int:
    """Return ``z [B, d]`` with 17 fraction bits of ``f [B, d]`` (Q4.13, s18) and ``1 - LB [d]`` (0.17, see
    ``Bounds``)."""
    return rsh(sigmoid(-f, FORGET_FRAC_BITS) * one_minus_lower_bound, SIGMOID_FRAC_BITS)


def update_state(state: Int, z: Int, i: Int, frac_bits: int, clipped: Clipped | None = None) -> Int:
    """Return the new state ``[B, d]`` (s32, ``frac_bits + 14`` fraction bits) from gate ``z`` and pre-activation ``i``
    (s18).

    S stays between the least and the largest silu, so the difference fits 18 bits while |i| is within the bound that
    chose ``frac_bits`` (``quantise.pre_activation_frac_bits``). Neither saturation acts then.
    """
    difference = saturate(silu(i, frac_bits) - rsh(state, STATE_GUARD_BITS), S18_MAX, clipped)
    return saturate(state + rsh(z * difference, Z_BITS - STATE_GUARD_BITS), S32_MAX, clipped)


def state_shift(state: Int) -> Int:
    """Return the right shift ``[B]`` that brings the largest magnitude of ``state [B, d]`` to 17 bits (negative:
    left)."""
    return bit_length(np.bitwise_or.reduce(np.abs(state), axis=-1)) - MANTISSA_BITS


def gated_output(g: Int, state: Int, state_frac_bits: int) -> Int:
    """Return ``v [B, d]`` = g * swish(S): 35-bit integers with exponent ``cut + state_shift - state_frac_bits``.

    ``g`` are cut sums (s18): their scale cancels in the norm that follows.
    """
    aligned = saturate(rsh(state, state_shift(state)[..., None]), S18_MAX)
    return g * rsh(aligned * sigmoid(state, state_frac_bits), SIGMOID_FRAC_BITS)
