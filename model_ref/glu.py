"""GLU: the channel mixer's gate.

    gate rows:  gl = silu(gate)                 s18, kept for the up rows
    up rows:    v  = gl * up                    35 bits, enters the norm ahead of down_proj

Two products an element, besides the interpolation of the sigmoid. ``up`` are cut sums: their scale cancels in the norm.

Paper: section 3.3.2, equation (10).
"""

from __future__ import annotations

from lutern.model_ref.activation import silu
from lutern.model_ref.fixed import Int


def gate(a: Int, frac_bits: int) -> Int:
    """Return ``silu`` of gate pre-activations ``[B, m]`` (s18 with ``frac_bits`` fraction bits), in the same format."""
    return silu(a, frac_bits)


def mix(gated: Int, up: Int) -> Int:
    """Return ``v [B, m]``: product of gate (s18) and cut up sums (s18); its exponent is ``cut - frac_bits``."""
    return gated * up
