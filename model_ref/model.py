"""Computes the integer network exactly as the gateware does, one token at a time, for a batch of streams.

The code has the same order as ``float_model.py``. B is the number of streams, d the hidden size, m the intermediate
size, L the number of layers and V the vocabulary. All arrays are int64, and every rounding is in ``fixed.py``, which
also explains formats such as s32. A ``Trace`` receives the values that the gateware's debug tap shows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from lutern.model_ref import glu, head, mlgru, norm
from lutern.model_ref.fixed import S18_MAX, S32_MAX, Clipped, Int, add_float, rsh, saturate
from lutern.model_ref.norm import Vector
from lutern.model_ref.quantise import IntegerLayer, IntegerWeights, Matrix
from lutern.model_ref.ternary import cut_sums, scale_sums, ternary_sums

Trace = Callable[[str, int, Int], None]
"""A function that is called with (stage, layer, values [B, n]), for n values of each stream, in the order in which the
gateware produces the values.

``h``: the embedding (layer -1), then h after o_proj and after down_proj. ``codes``: the codes of the matrices f, i, g,
o, gate, down, and of lm_head (layer L). ``S``: the new state. ``sums``: the sums of lm_head.
"""


class Saturations:
    """Counts how many values were clipped, by tensor (``h``, ``i``, ``S``, ``gate``) and layer (-1: embedding).

    All counts stay 0 if every range is proved from the weights (``IntegerWeights.calibrated`` is empty).
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], int] = {}

    def at(self, tensor: str, layer: int) -> Clipped:
        """Return a function that adds to the count of one tensor of one layer."""

        def clipped(count: int) -> None:
            self.counts[tensor, layer] = self.counts.get((tensor, layer), 0) + count

        return clipped

    def of(self, tensor: str) -> int:
        """Return the number of clipped values of one tensor, summed over all layers."""
        return sum(count for (name, _), count in self.counts.items() if name == tensor)


COUNTED = ("h", "i", "S", "gate")
"""The values that ``Saturations`` counts. f is not counted, because f saturates by design. Sums always fit their
words."""


class IntegerModel:
    """The golden model. ``step`` has the interface that ``evaluate.bits_per_character`` needs.

    ``saturations``: counts clipped values. If it is not given, clipped values are not counted, which saves time.
    """

    def __init__(self, weights: IntegerWeights, saturations: Saturations | None = None) -> None:
        self.weights = weights
        self.config = weights.config
        self.saturations = saturations

    def multiply(self, codes: Int, matrix: Matrix) -> Int:
        """Return sums ``[B, rows]`` of codes ``[B, columns]``. ``fast_model.py`` computes the same sums without float32
        copies of the trits."""
        return ternary_sums(codes, matrix.columns_f32)

    def initial_state(self, streams: int) -> Int:
        """Return the state before the first token: zeros ``[L, B, d]``."""
        return np.zeros((self.config.num_hidden_layers, streams, self.config.hidden_size), dtype=np.int64)

    def step(self, ids: Int, state: Int, trace: Trace | None = None) -> tuple[np.ndarray, Int]:
        """Decode one token ``ids [B]`` of every stream. Return logits float64 ``[B, V]`` and the new state ``[L, B,
        d]``."""
        sums, scale, state = self.decode(ids, state, trace)
        return head.logits(sums, scale), state

    def decode(self, ids: Int, state: Int, trace: Trace | None = None) -> tuple[Int, tuple[Int, Int], Int]:
        """Return raw logits ``[B, V]`` (21-bit sums), their scale ``[B]`` and the new state ``[L, B, d]``."""
        emit = trace or (lambda stage, layer, values: None)
        count = self.saturations.at if self.saturations else (lambda tensor, layer: None)
        project = partial(_project, self.multiply)
        weights = self.weights
        new_state = np.empty_like(state)

        h = embed(weights, np.asarray(ids), count("h", -1))  # [B, d] s32
        emit("h", -1, h)
        for index, layer in enumerate(weights.layers):
            # token mixer: f, i and g read the same x = norm(h)
            x = norm.gather(h, layer.x_gains[0], layer.x_gains[1])
            f_sums, f_scale = project(layer.f_proj, x, 0, index, emit)  # [B, d], [B]
            i_sums, i_scale = project(layer.i_proj, x, 1, index, emit)
            g_sums, g_scale = project(layer.g_proj, x, 2, index, emit)

            f = scale_sums(f_sums, layer.f_proj.cut, f_scale, mlgru.FORGET_FRAC_BITS, S18_MAX)
            z = mlgru.forget_gate(f, layer.one_minus_lower_bound)  # [B, d], 17 fraction bits
            i = scale_sums(i_sums, layer.i_proj.cut, i_scale, layer.i_proj.frac_bits, S18_MAX, count("i", index))
            s = mlgru.update_state(state[index], z, i, layer.i_proj.frac_bits, count("S", index))  # [B, d] s32
            emit("S", index, s)
            new_state[index] = s
            g = cut_sums(g_sums, layer.g_proj.cut)
            v = mlgru.gated_output(g, s, layer.state_frac_bits)  # [B, d] 35 bits

            y = norm.gather(v, *layer.v_gains)
            eps = o_eps(layer, g, g_scale, s)
            o_sums, o_scale = project(layer.o_proj, y, 0, index, emit, eps)
            h = add_residual(h, o_sums, layer.o_proj, o_scale, count("h", index))
            emit("h", index, h)

            # channel mixer: gate and up have the same codes and the same scale
            y = norm.gather(h, *layer.y_gains)
            gate_sums, gate_scale = project(layer.gate_proj, y, 0, index, emit)  # [B, 2m]
            m = self.config.intermediate_size
            a = scale_sums(
                gate_sums[:, :m],
                layer.gate_proj.cut,
                gate_scale,
                layer.gate_proj.frac_bits,
                S18_MAX,
                count("gate", index),
            )
            up = cut_sums(gate_sums[:, m:], layer.gate_proj.cut)
            v = glu.mix(glu.gate(a, layer.gate_proj.frac_bits), up)  # [B, m] 35 bits

            y = norm.gather(v, None, layer.w_gains[1])
            zero = np.zeros_like(gate_scale[0])
            eps = norm.eps_term(layer.down_proj.scale, gate_scale, (zero, zero))
            down_sums, down_scale = project(layer.down_proj, y, 0, index, emit, eps)
            h = add_residual(h, down_sums, layer.down_proj, down_scale, count("h", index))
            emit("h", index, h)

        x = norm.gather(h, *weights.final_gains)
        sums, scale = project(weights.lm_head, x, 0, len(weights.layers), emit)  # [B, V], [B]
        emit("sums", len(weights.layers), sums)
        return sums, scale, new_state


def embed(weights: IntegerWeights, ids: Int, clipped: Clipped | None = None) -> Int:
    """Return h ``[B, d]`` (s32) of tokens ``[B]``. Each element is the mantissa of the table, shifted once."""
    table = weights.embeddings
    shift = table.exponent[ids].astype(np.int64) - table.base - weights.h_frac_bits
    return saturate(rsh(table.mantissa[ids], shift), S32_MAX, clipped)


def _project(
    multiply: Callable[[Int, Matrix], Int],
    matrix: Matrix,
    vector: Vector,
    which: int,
    layer: int,
    emit: Trace,
    eps: tuple[Int, Int] | None = None,
) -> tuple[Int, tuple[Int, Int]]:
    """Return sums ``[B, rows]`` and scale ``[B]`` of the matrix with number ``which`` among the matrices that read a
    vector."""
    codes = norm.quantise(vector.u[which], vector.largest[which])
    emit("codes", layer, codes)
    ss = add_float(vector.ss, eps) if eps else vector.ss
    scale = norm.scale_of(vector.largest[which], ss, matrix.scale)
    return multiply(codes, matrix), scale


def o_eps(layer: IntegerLayer, g: Int, g_scale: tuple[Int, Int], state: Int) -> tuple[Int, Int]:
    """Return the eps term of o_proj's norm in units of the square sum ss: ``2^(-2 shift) e2 (sum g^2 + e1 /
    g_scale^2)``. docs/engine.md explains the symbols."""
    term = norm.eps_term(layer.o_proj.scale, g_scale, integer_square_sum(g))
    return term[0], np.where(term[0] == 0, 0, term[1] - 2 * mlgru.state_shift(state))


def integer_square_sum(g: Int) -> tuple[Int, Int]:
    """Return the sum of squares ``[B]`` (at most 47 bits) of cut sums ``[B, d]`` as a short float, truncated to 17
    bits."""
    return norm.square_sum((g, np.zeros_like(g)))


def add_residual(h: Int, sums: Int, matrix: Matrix, scale: tuple[Int, Int], clipped: Clipped | None = None) -> Int:
    """Return h plus the scaled sums of a matrix, as s32 with the fraction bits of h."""
    added = scale_sums(sums, matrix.cut, scale, matrix.frac_bits, S32_MAX, clipped)
    return saturate(h + added, S32_MAX, clipped)


__all__ = ["COUNTED", "IntegerModel", "Saturations", "Trace", "add_residual", "embed"]
