"""Computes the integer network for large models and many streams: the same integers as ``model.py``, but faster.

    compiled_model.py   computes the whole network in one call, if there is a C++ compiler
    _decode             computes the network in NumPy, if there is no C++ compiler

        packed trits ─► block of about 64 rows as float32 ─► BLAS product with the codes ─► exact sums
        all other operations ─► ``doubles.py``, integers in float64

``model.py`` is the version to read first. ``_decode`` below follows it line by line. ``model.py`` stores every trit as
float32, which takes 1.4 GB for a 370M model, but ``FastModel`` stores a trit in two bits. The NumPy version converts
one block after another to float32, and keeps only one block. The conversion takes most of the time, about 0.2 s per
pass for 370M, and a pass serves all streams. Every partial sum is an integer below 127 * 8192 < 2^24, so float32 is
exact for every order in which BLAS adds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref import doubles, norm
from lutern.model_ref.compiled_model import CompiledNetwork, library
from lutern.model_ref.doubles import Doubles, Factors, Vector
from lutern.model_ref.fixed import S18_MAX, S32_MAX, Clipped, Int, add_float
from lutern.model_ref.mlgru import FORGET_FRAC_BITS
from lutern.model_ref.model import IntegerModel, Saturations, Trace, embed
from lutern.model_ref.packed_trits import TRITS_PER_BYTE, WIDE_TRITS_OF_BYTE, PackedTrits
from lutern.model_ref.quantise import IntegerWeights, Matrix

BLOCK_ELEMENTS = 1 << 16
"""Number of elements in a block. A block of 256 KiB of float32 stays in the second-level cache between conversion and
product."""
MANY_STREAMS = 8
"""From this number of streams on, the product costs more than the conversion. In this case a block needs up to
UNTHREADED multiplications. If such a block would have fewer than SMALLEST_BLOCK rows, a block instead has 16 times
BLOCK_ELEMENTS elements.
"""
UNTHREADED = 1 << 18
"""OpenBLAS uses one core for products with fewer multiplications than this. For blocks of this size, a second core
would save no time. If other programs use the second core, waiting for this core would make the product ten times
slower.
"""
SMALLEST_BLOCK = 16
"""The smallest number of rows in a block. With fewer rows, the calls would cost too much."""


class FastModel(IntegerModel):
    """An ``IntegerModel`` with faster arithmetic. Results, traces and counts are equal bit for bit."""

    def __init__(
        self, weights: IntegerWeights, saturations: Saturations | None = None, *, compiled: bool = True
    ) -> None:
        super().__init__(weights, saturations)
        loaded = library() if compiled else None
        self._compiled = CompiledNetwork(loaded, weights) if loaded else None
        self._factors = [
            (
                Factors.of(*layer.x_gains),
                Factors.of(*layer.v_gains),
                Factors.of(*layer.y_gains),
                Factors.of(*layer.w_gains),
            )
            for layer in weights.layers
        ]
        self._final_factors = Factors.of(*weights.final_gains)
        self._bounds = [layer.one_minus_lower_bound.astype(np.float64) for layer in weights.layers]

    def decode(self, ids: Int, state: Int, trace: Trace | None = None) -> tuple[Int, tuple[Int, Int], Int]:
        """Decode as ``IntegerModel.decode`` does."""
        if self._compiled is None:
            return self._decode(ids, state, trace)
        h = embed(self.weights, np.asarray(ids), self.saturations.at("h", -1) if self.saturations else None)
        state = np.array(state, order="C")
        sums, scale, clipped, traced = self._compiled.decode(h, state, trace is not None)
        if trace is not None:
            for stage, layer, values in traced:
                trace(stage, layer, values)
        if self.saturations is not None:
            for (tensor, layer), count in clipped.items():
                self.saturations.at(tensor, layer)(count)
        return sums, scale, state

    def _decode(self, ids: Int, state: Int, trace: Trace | None) -> tuple[Int, tuple[Int, Int], Int]:
        """Decode in NumPy."""
        weights = self.weights
        count = self.saturations.at if self.saturations else (lambda tensor, layer: None)

        def emit(stage: str, layer: int, values: Doubles) -> None:
            if trace is not None:
                trace(stage, layer, values.astype(np.int64))

        project = partial(_project, emit)  # multiplies a vector by all matrices that read it
        new_state = np.empty_like(state)

        h = embed(weights, np.asarray(ids), count("h", -1)).astype(np.float64)
        emit("h", -1, h)
        for index, layer in enumerate(weights.layers):
            x_factors, v_factors, y_factors, w_factors = self._factors[index]
            x = doubles.gather(h, x_factors)
            (f_sums, i_sums, g_sums), (f_scale, i_scale, g_scale) = project(
                [layer.f_proj, layer.i_proj, layer.g_proj], x, index
            )

            f = doubles.scale_sums(f_sums, layer.f_proj.cut, f_scale, FORGET_FRAC_BITS, S18_MAX)
            z = doubles.forget_gate(f, self._bounds[index])
            frac_bits = layer.i_proj.frac_bits
            i = doubles.scale_sums(i_sums, layer.i_proj.cut, i_scale, frac_bits, S18_MAX, count("i", index))
            s = doubles.update_state(state[index].astype(np.float64), z, i, frac_bits, count("S", index))
            emit("S", index, s)
            new_state[index] = s
            g = doubles.cut_sums(g_sums, layer.g_proj.cut)
            shift = doubles.largest_shift(s)
            v = doubles.gated_output(g, s, shift, layer.state_frac_bits)

            y = doubles.gather(v, v_factors)
            term = norm.eps_term(layer.o_proj.scale, g_scale, doubles.integer_square_sum(g))
            eps = term[0], np.where(term[0] == 0, 0, term[1] - 2 * shift)
            sums, scales = project([layer.o_proj], y, index, eps)
            h = _add_residual(h, sums[0], layer.o_proj, scales[0], count("h", index))
            emit("h", index, h)

            y = doubles.gather(h, y_factors)
            (gate_sums,), (gate_scale,) = project([layer.gate_proj], y, index)
            m, frac_bits, cut = self.config.intermediate_size, layer.gate_proj.frac_bits, layer.gate_proj.cut
            a = doubles.scale_sums(gate_sums[:, :m], cut, gate_scale, frac_bits, S18_MAX, count("gate", index))
            v = doubles.silu(a, frac_bits) * doubles.cut_sums(gate_sums[:, m:], cut)

            y = doubles.gather(v, w_factors)
            zero = np.zeros_like(gate_scale[0])
            eps = norm.eps_term(layer.down_proj.scale, gate_scale, (zero, zero))
            sums, scales = project([layer.down_proj], y, index, eps)
            h = _add_residual(h, sums[0], layer.down_proj, scales[0], count("h", index))
            emit("h", index, h)

        x = doubles.gather(h, self._final_factors)
        sums, scales = project([weights.lm_head], x, len(weights.layers))
        emit("sums", len(weights.layers), sums[0])
        return sums[0].astype(np.int64), scales[0], new_state


def _project(
    emit: Callable[[str, int, Doubles], None],
    matrices: list[Matrix],
    vector: Vector,
    layer: int,
    eps: tuple[Int, Int] | None = None,
) -> tuple[list[Doubles], list[tuple[Int, Int]]]:
    """Return sums ``[B, rows]`` and scale ``[B]`` of every matrix that reads a vector (B: streams)."""
    sums = []
    for codes, matrix in zip(doubles.quantise(vector), matrices, strict=True):
        emit("codes", layer, codes)
        sums.append(block_sums(codes, matrix.packed).astype(np.float64, order="C"))
    mantissa, exponent = np.array([matrix.scale.k for matrix in matrices]).T[..., None]
    ss = add_float(vector.ss, eps) if eps else vector.ss
    scales = doubles.scales_of(vector, ss, (mantissa, exponent))
    return sums, list(zip(*scales, strict=True))


def block_sums(codes: Doubles | Int, trits: PackedTrits) -> NDArray[np.float32]:
    """Return sums ``[B, rows]`` of codes ``[B, columns]`` (B: streams), computed for one block of rows after
    another."""
    rows, columns = trits.packed.shape[0], trits.packed.shape[1] * TRITS_PER_BYTE
    wide_codes = np.zeros((columns, len(codes)), np.float32)
    wide_codes[: trits.columns] = codes.T
    step = max(1, BLOCK_ELEMENTS // columns)
    if len(codes) >= MANY_STREAMS:
        step = UNTHREADED // (columns * len(codes))
        step = step if step >= SMALLEST_BLOCK else max(1, 16 * BLOCK_ELEMENTS // columns)
    step = min(rows, step)
    block = np.empty((step, columns // TRITS_PER_BYTE, TRITS_PER_BYTE), np.float32)
    sums = np.empty((rows, len(codes)), np.float32)
    for start in range(0, rows, step):
        part = trits.packed[start : start + step]
        wide = block[: len(part)]
        WIDE_TRITS_OF_BYTE.take(part, axis=0, out=wide, mode="clip")
        np.matmul(wide.reshape(len(part), columns), wide_codes, out=sums[start : start + len(part)])
    return sums.T


def _add_residual(
    h: Doubles, sums: Doubles, matrix: Matrix, scale: tuple[Int, Int], clipped: Clipped | None = None
) -> Doubles:
    added = doubles.scale_sums(sums, matrix.cut, scale, matrix.frac_bits, S32_MAX, clipped)
    return doubles.saturate(h + added, S32_MAX, clipped)
