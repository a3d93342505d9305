"""Stored weights to what the integer network computes with: trits, scales, gains, codes, binary points.

    s = max(mean|W|, 1e-5)            one scale a matrix
    T = clamp(round_half_even(W / s), -1, 1)

(arXiv 2406.02528, section 3.1; the weight quantiser of BitNet b1.58.) Weights enter as stored, in float32: rounding
them to float16 first flips trits.

Binary points are proved, not calibrated. A BitLinear's input is ``t * w2`` with ``|t|_2 <= sqrt(n)``, so by Cauchy and
Schwarz row r of its output is at most ``s sqrt(n) |T_r * w2|_2`` plus what the rounding of the codes adds. Every word
position follows from these bounds, hence nothing can saturate whatever the text is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint
from .config import NORM_EPS, ModelConfig
from .errors import LuternError
from .fixed import MANTISSA_BITS, Int, scalar_from_real
from .mlgru import FORGET_FRAC_BITS, STATE_GUARD_BITS
from .norm import CODE_MAX, Gains, ScaleConstants

SMALLEST_SCALE = 1e-5  # of the published code: keeps an all-zero matrix from dividing by zero


def ternarize(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Trits (int8, -1, 0 or 1, shape of ``weight``) and the scale that multiplies them.

    Mean and quotient are float64: a float32 mean depends on the order of its additions, and so would a trit whose
    quotient lies next to one half.
    """
    if weight.size == 0:
        raise LuternError("a matrix without elements cannot be ternarised; give a weight with at least one element.")
    wide = weight.astype(np.float64)
    scale = max(float(np.abs(wide).mean()), SMALLEST_SCALE)
    if not np.isfinite(scale):
        raise LuternError("a weight holds NaN or infinity and cannot be ternarised; give a finite checkpoint.")
    trits = np.clip(np.rint(wide / scale), -1, 1).astype(np.int8)
    return trits, scale


MAX_WIDTH = 8192
"""Longest vector: sums of codes fit 21 bits and float32, sums of squares 82 bits."""
EMBEDDING_MANTISSA_MAX = (1 << 11) - 1
EMBEDDING_EXPONENT_MAX = 15


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings as e4s12: value = mantissa * 2^(base - exponent); 12-bit signed mantissas and 4-bit exponents [V, d].

    Holds bfloat16 values exactly down to 2^-18 of the largest, and decodes with one shift.
    """

    mantissa: Int
    exponent: Int
    base: int

    @classmethod
    def from_real(cls, table: NDArray[np.float32]) -> EmbeddingTable:
        """Nearest coding of a real table [V, d]."""
        exponents = np.frexp(table.astype(np.float64))[1].astype(np.int64)
        top = int(exponents[table != 0].max()) if table.any() else 0
        exponent = np.where(table == 0, 0, np.minimum(top - exponents, EMBEDDING_EXPONENT_MAX))
        mantissa = np.rint(np.ldexp(table.astype(np.float64), (exponent + 11 - top).astype(np.int32)))
        mantissa = np.clip(mantissa, -EMBEDDING_MANTISSA_MAX, EMBEDDING_MANTISSA_MAX).astype(np.int64)
        return cls(mantissa, exponent, top - 11)

    def real(self) -> NDArray[np.float64]:
        """The coded table as float64 [V, d]."""
        return np.ldexp(self.mantissa.astype(np.float64), (self.base - self.exponent).astype(np.int32))


@dataclass(frozen=True)
class Matrix:
    """One ternary matrix [rows, columns] and the constants of its norm and output.

    ``cut``: low bits of the sums rounded away; ``frac_bits``: fraction bits of the scaled output (i, f, gate: s18;
    o, down: those of h; g, up and lm_head use sums without a scale).
    """

    trits: NDArray[np.int8]
    cut: int
    frac_bits: int
    scale: ScaleConstants
    columns_f32: NDArray[np.float32] = field(repr=False, compare=False)

    @classmethod
    def build(cls, trits: NDArray[np.int8], frac_bits: int, scale: ScaleConstants, cut: bool = True) -> Matrix:
        """``cut=False`` leaves the sums whole (lm_head)."""
        largest = CODE_MAX * int(np.abs(trits).sum(axis=1, dtype=np.int64).max())
        bits = max(0, largest.bit_length() - MANTISSA_BITS) if cut else 0
        return cls(trits, bits, frac_bits, scale, trits.astype(np.float32))


@dataclass(frozen=True)
class IntegerLayer:
    """Weights of one layer; ``*_gains`` belong to the vector that its name says (w1, then one G a matrix)."""

    x_gains: tuple[Gains, list[Gains]]  # attn_norm; times the inner norms of f, i, g
    one_minus_lower_bound: Int  # [d], 0.17
    f_proj: Matrix
    i_proj: Matrix
    g_proj: Matrix
    v_gains: tuple[Gains, list[Gains]]  # g_norm; times the inner norm of o
    o_proj: Matrix
    y_gains: tuple[Gains, list[Gains]]  # mlp_norm; times the inner norm of gate
    gate_proj: Matrix  # rows 0..m-1 gate, then up
    w_gains: tuple[None, list[Gains]]  # the inner norm of down; no outer norm
    down_proj: Matrix

    @property
    def state_frac_bits(self) -> int:
        """Fraction bits of S."""
        return self.i_proj.frac_bits + STATE_GUARD_BITS


@dataclass(frozen=True)
class IntegerWeights:
    """Everything that the integer network and the image hold."""

    config: ModelConfig
    embeddings: EmbeddingTable
    h_frac_bits: int
    layers: list[IntegerLayer]
    final_gains: tuple[Gains, list[Gains]]
    lm_head: Matrix


def row_bounds(trits: NDArray[np.int8], scale: float, gains: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest magnitude of each output row [rows] of a BitLinear, whatever its input is.

    Cauchy and Schwarz on ``T_r * w2``, half a code step for each trit that is not zero, 0.1 % for rounded scalars.
    """
    columns = trits.shape[1]
    w2 = gains.astype(np.float64)
    exact = np.sqrt(columns) * np.sqrt((trits.astype(np.float64) ** 2) @ (w2**2))
    nonzero = np.abs(trits).sum(axis=1, dtype=np.int64)
    rounding = nonzero * (0.5 / CODE_MAX) * np.sqrt(columns) * np.abs(w2).max()
    return 1.001 * scale * (exact + rounding)


def pre_activation_frac_bits(bound: float) -> int:
    """Fraction bits (0..16) with which 18 bits hold a, silu(a) and their difference: |a| <= bound, silu >= -0.2785."""
    integer_bits = max(0, int(np.ceil(np.log2(bound + 0.29))))
    return int(np.clip(MANTISSA_BITS - integer_bits, 0, 16))


def one_minus_lower_bounds(config: ModelConfig, tensors: dict[str, NDArray[np.float32]]) -> Int:
    """1 - LB of every layer [L, d] with 17 fraction bits, at most 2^17 - 1; 1 where there is no bound."""
    shape = (config.num_hidden_layers, config.hidden_size)
    bounds = np.zeros(shape)
    if config.use_lower_bound:
        raw = tensors["model.lower_bounds"].astype(np.float64)
        shares = np.exp(raw - raw.max(axis=0))
        shares /= shares.sum(axis=0)
        bounds = np.cumsum(shares, axis=0) - shares[0]
    return np.minimum(np.rint((1 - bounds) * 2.0**17), 2**17 - 1).astype(np.int64)


def integer_weights(checkpoint: Checkpoint) -> IntegerWeights:
    """Quantise a checkpoint. Pure arithmetic on the stored weights; no text is looked at."""
    config, tensors = checkpoint.config, checkpoint.tensors
    d, m = config.hidden_size, config.intermediate_size
    if max(d, m) > MAX_WIDTH:
        raise LuternError(
            f"the model has vectors of {max(d, m)} elements, but sums and squares are exact up to {MAX_WIDTH}; "
            "choose a smaller model."
        )
    olb = one_minus_lower_bounds(config, tensors)
    ternary = {name: ternarize(tensors[f"{name}.weight"]) for name in config.projections}
    bounds = {
        name: row_bounds(trits, scale, tensors[f"{name}.norm.weight"]) for name, (trits, scale) in ternary.items()
    }
    embeddings = EmbeddingTable.from_real(tensors["model.embeddings.weight"])
    adders = [name for name in config.projections if name.endswith(("o_proj", "down_proj"))]
    h_bound = float(np.abs(embeddings.real()).max()) + sum(float(bounds[name].max()) for name in adders)
    h_frac_bits = min(30, 31 - int(np.ceil(np.log2(max(h_bound, 2.0**-30)))))

    def gains(outer: str | None, inner: list[str]) -> tuple[Gains | None, list[Gains]]:
        w1 = tensors[f"{outer}.weight"].astype(np.float64) if outer else 1.0
        return (
            Gains.from_real(tensors[f"{outer}.weight"]) if outer else None,
            [Gains.from_real(w1 * tensors[f"{name}.norm.weight"].astype(np.float64)) for name in inner],
        )

    def constant(name: str, vector: tuple[Gains | None, list[Gains]], index: int, h_norm: bool) -> tuple[int, int]:
        """K = s sqrt(n) / 127, the exponents of the gains, and for norms over h the inner eps."""
        outer, inner = vector
        k = ternary[name][1] * np.sqrt(config.projections[name][1]) / CODE_MAX
        k *= 2.0 ** (inner[index].vector_exponent - (outer.vector_exponent if outer else 0))
        if h_norm and outer is not None and outer.mantissa.any():
            k /= np.sqrt(1 + NORM_EPS / np.mean(outer.real() ** 2))
        return scalar_from_real(float(k))

    layers = []
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        f, i, g, o = (f"{prefix}attn.{x}_proj" for x in "figo")
        gate, down = f"{prefix}mlp.gate_proj", f"{prefix}mlp.down_proj"
        x_gains = gains(f"{prefix}attn_norm", [f, i, g])
        v_gains = gains(f"{prefix}attn.g_norm", [o])
        y_gains = gains(f"{prefix}mlp_norm", [gate])
        w_gains = gains(None, [down])

        def plain(name: str, vector: tuple[Gains | None, list[Gains]], which: int, frac_bits: int) -> Matrix:
            return Matrix.build(ternary[name][0], frac_bits, ScaleConstants(constant(name, vector, which, True)))

        i_matrix = plain(i, x_gains, 1, pre_activation_frac_bits(float(bounds[i].max())))
        g_matrix = plain(g, x_gains, 2, 0)
        gate_matrix = plain(gate, y_gains, 0, pre_activation_frac_bits(float(bounds[gate][:m].max())))
        assert v_gains[0] is not None
        o_scale = ScaleConstants(
            constant(o, v_gains, 0, False),
            scalar_from_real(d * NORM_EPS * 4.0**-g_matrix.cut),
            scalar_from_real(NORM_EPS * 4.0 ** (i_matrix.frac_bits + STATE_GUARD_BITS - v_gains[0].vector_exponent)),
        )
        down_scale = ScaleConstants(
            constant(down, w_gains, 0, False),
            scalar_from_real(m * NORM_EPS * 4.0 ** (gate_matrix.frac_bits - gate_matrix.cut)),
            scalar_from_real(1.0),
        )
        layers.append(
            IntegerLayer(
                x_gains,  # type: ignore[arg-type]
                olb[index],
                plain(f, x_gains, 0, FORGET_FRAC_BITS),
                i_matrix,
                g_matrix,
                v_gains,  # type: ignore[arg-type]
                Matrix.build(ternary[o][0], h_frac_bits, o_scale),
                y_gains,  # type: ignore[arg-type]
                gate_matrix,
                w_gains,  # type: ignore[arg-type]
                Matrix.build(ternary[down][0], h_frac_bits, down_scale),
            )
        )
    final_gains = gains("model.norm", ["lm_head"])
    head = ScaleConstants(constant("lm_head", final_gains, 0, True))
    lm_head = Matrix.build(ternary["lm_head"][0], 0, head, cut=False)
    return IntegerWeights(config, embeddings, h_frac_bits, layers, final_gains, lm_head)  # type: ignore[arg-type]
