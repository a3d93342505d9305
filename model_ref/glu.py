"""Computes the GLU, the gate of the channel mixer.

    rows of gate:  gated = silu(gate)           s18, stored until the rows of up arrive
    rows of up:    v = gated * up               35 bits, the input of the norm of down_proj

In shapes, B is the number of streams and m the intermediate size. s18 is a signed integer of 18 bits. Each element
needs two products in addition to the interpolation of the sigmoid. ``up`` are cut sums, which need no scaling because
the scale of these sums cancels in the norm.

Paper: section 3.3.2, equation (10).
"""

from __future__ import annotations

from lutern.model_ref.activation import silu
from lutern.model_ref.fixed import Int


def gate(a: Int, frac_bits: int) -> Int:
    """Return ``silu`` of gate pre-activations ``[B, m]`` in their format (s18 with ``frac_bits`` fraction bits)."""
    return silu(a, frac_bits)


def mix(gated: Int, up: Int) -> Int:
    """Return ``v [B, m]``, the product of the gate (s18) and the cut sums of up (s18). The exponent of v is ``cut -
    frac_bits``."""
    return gated * up
