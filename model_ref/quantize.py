"""Stored weights to what the integer network computes with: trits, scales, gains, codes, binary points.

    s = max(mean|W|, 1e-5)            one scale a matrix
    T = clamp(round_half_even(W / s), -1, 1)

(arXiv 2406.02528, section 3.1; the weight quantiser of BitNet b1.58.) Weights enter as stored, in float32: rounding
them to float16 first flips trits.

Binary points are proved from the weights. A BitLinear's input is ``t * w2`` with ``|t|_2 <= sqrt(n)``, so by Cauchy
and Schwarz row r of its output is at most ``s sqrt(n) |T_r * w2|_2`` plus what the rounding of the codes adds. Every
word position follows from these bounds, hence nothing can saturate whatever the text is.

Where a proved word would lose the signal, the largest value on calibration tokens times 16 takes the place of the bound
if it is smaller, the tensor is marked ``calibrated``, and ``model.Saturations`` counts what leaves the word.

    weights ─► quantise_matrix, one at a time ─┬─► trits
                                               └─► MatrixFacts ─► constants ─► Constants

A matrix is looked at once and alone; everything else follows from a few numbers of each. So ``integer_weights``, which
keeps all trits, and the image's writer, which keeps none, compute the same. Large temporaries are made in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint
from .config import NORM_EPS, ModelConfig
from .errors import LuternError
from .fixed import MANTISSA_BITS, Int, scalar_from_real
from .mlgru import FORGET_FRAC_BITS, STATE_GUARD_BITS
from .norm import CODE_MAX, Gains, ScaleConstants

SMALLEST_SCALE = 1e-5  # of the published code: keeps an all-zero matrix from dividing by zero


CHUNK = 1 << 16
"""Elements that a pass over a matrix takes at a time: its float64 temporaries stay in the cache."""


def _sum_of_magnitudes(flat: NDArray[np.float32]) -> float:
    """Sum of |w| in float64, in the order of NumPy's pairwise sum: bit for bit that of the whole array at once."""
    if flat.size <= CHUNK:
        return float(np.abs(flat.astype(np.float64)).sum())
    half = flat.size // 2
    half -= half % 8
    return _sum_of_magnitudes(flat[:half]) + _sum_of_magnitudes(flat[half:])


def ternarize(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], float]:
    """Trits (int8, -1, 0 or 1, shape of ``weight``) and the scale that multiplies them.

    Mean and quotient are float64: a float32 mean depends on the order of its additions, and so would a trit whose
    quotient lies next to one half.
    """
    if weight.size == 0:
        raise LuternError("a matrix without elements cannot be ternarised; give a weight with at least one element.")
    flat = weight.reshape(-1)
    scale = max(_sum_of_magnitudes(flat) / flat.size, SMALLEST_SCALE)
    if not np.isfinite(scale):
        raise LuternError("a weight holds NaN or infinity and cannot be ternarised; give a finite checkpoint.")
    trits = np.empty(flat.size, np.int8)
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK].astype(np.float64)
        part /= scale
        np.rint(part, out=part)
        trits[start : start + CHUNK] = np.clip(part, -1, 1, out=part)
    return trits.reshape(weight.shape), scale


MAX_WIDTH = 8192
"""Longest vector: sums of codes fit 21 bits and float32, sums of squares 82 bits."""
EMBEDDING_MANTISSA_BITS = 12
EMBEDDING_MANTISSA_MAX = (1 << 11) - 1
EMBEDDING_EXPONENT_MAX = 15
FRAC_BITS_MIN = -64
"""Operations hold fraction bits in 7 signed bits."""


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings as e4s12: value = mantissa * 2^(base - exponent); 12-bit signed mantissas and 4-bit exponents [V, d].

    Holds bfloat16 values exactly down to 2^-18 of the largest, and decodes with one shift.
    """

    mantissa: NDArray[Any]  # int16: a full-size table stays small
    exponent: NDArray[Any]  # int8
    base: int

    @classmethod
    def from_codes(cls, codes: NDArray[np.uint16], base: int) -> EmbeddingTable:
        """Inverse of ``codes``."""
        return cls((codes << 4).view(np.int16) >> 4, (codes >> EMBEDDING_MANTISSA_BITS).astype(np.int8), base)

    @classmethod
    def from_real(cls, table: NDArray[np.float32], top: int | None = None) -> EmbeddingTable:
        """Nearest coding of a real table [V, d], or of some rows of one whose ``embedding_top`` is given."""
        top = embedding_top(table) if top is None else top
        mantissas, found = np.empty(table.shape, np.int16), np.empty(table.shape, np.int8)
        step = max(1, CHUNK // table.shape[1])
        for start in range(0, len(table), step):
            rows = slice(start, start + step)
            wide = table[rows].astype(np.float64)
            exponent = np.where(wide == 0, 0, np.clip(top - np.frexp(wide)[1], 0, EMBEDDING_EXPONENT_MAX))
            mantissa = np.rint(np.ldexp(wide, exponent + 11 - top))
            mantissas[rows] = np.clip(mantissa, -EMBEDDING_MANTISSA_MAX, EMBEDDING_MANTISSA_MAX)
            found[rows] = exponent
        return cls(mantissas, found, top - 11)

    @property
    def codes(self) -> NDArray[np.uint16]:
        """16 bits an element: mantissa low in two's complement, exponent above."""
        low = self.mantissa.astype(np.uint16) & np.uint16((1 << EMBEDDING_MANTISSA_BITS) - 1)
        return low | self.exponent.astype(np.uint16) << np.uint16(EMBEDDING_MANTISSA_BITS)

    @property
    def largest(self) -> float:
        """Largest coded magnitude."""
        step = max(1, CHUNK // self.mantissa.shape[1])
        starts = range(0, len(self.mantissa), step)
        parts = (EmbeddingTable(self.mantissa[x : x + step], self.exponent[x : x + step], self.base) for x in starts)
        return max(float(np.abs(part.real()).max()) for part in parts)

    def real(self) -> NDArray[np.float64]:
        """The coded table as float64 [V, d]."""
        return np.ldexp(self.mantissa.astype(np.float64), self.base - self.exponent.astype(np.int32))


def embedding_top(table: NDArray[np.float32]) -> int:
    """Exponent of the largest magnitude of a table, below 2^top; 0 if all are zero."""
    largest = max(float(table.max()), -float(table.min()))
    return int(np.frexp(largest)[1]) if largest else 0


@dataclass(frozen=True)
class Matrix:
    """One ternary matrix [rows, columns] and the constants of its norm and output.

    ``cut``: low bits of the sums rounded away; ``frac_bits``: fraction bits of the scaled output (i, f, gate: s18;
    o, down: those of h; g, up and lm_head use sums without a scale). ``calibrated``: the output's word is not proved.
    """

    trits: NDArray[np.int8]
    cut: int
    frac_bits: int
    scale: ScaleConstants
    calibrated: bool = False

    @cached_property
    def columns_f32(self) -> NDArray[np.float32]:
        """The trits as operand of an exact float32 product."""
        return self.trits.astype(np.float32)

    @classmethod
    def build(
        cls, trits: NDArray[np.int8], frac_bits: int, scale: ScaleConstants, cut: bool = True, calibrated: bool = False
    ) -> Matrix:
        """``cut=False`` leaves the sums whole (lm_head)."""
        return cls(trits, cut_bits(trits) if cut else 0, frac_bits, scale, calibrated)


def cut_bits(trits: NDArray[np.int8]) -> int:
    """Low bits of a matrix's sums that are rounded away, so that the largest possible sum fits 18 signed bits."""
    largest = CODE_MAX * int(np.count_nonzero(trits, axis=1).max())
    return max(0, largest.bit_length() - MANTISSA_BITS)


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
    h_calibrated: bool = False

    @property
    def calibrated(self) -> list[str]:
        """Tensors whose words rest on calibration, not on a proof: ``h``, ``i of layer 3``, ``gate of layer 0``."""
        found = ["h"] if self.h_calibrated else []
        for index, layer in enumerate(self.layers):
            found += [f"i of layer {index}"] if layer.i_proj.calibrated else []
            found += [f"gate of layer {index}"] if layer.gate_proj.calibrated else []
        return found


def row_bounds(trits: NDArray[np.int8], scale: float, gains: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest magnitude of each output row [rows] of a BitLinear, whatever its input is.

    Cauchy and Schwarz on ``T_r * w2``, half a code step for each trit that is not zero, 0.1 % for rounded scalars.
    """
    rows, columns = trits.shape
    w2 = gains.astype(np.float64)
    squares, largest = w2**2, np.abs(w2).max()
    bounds = np.empty(rows)
    step = max(1, 16 * CHUNK // columns)
    for start in range(0, rows, step):
        part = np.abs(trits[start : start + step])
        exact = np.sqrt(columns) * np.sqrt(part.astype(np.float64) @ squares)
        rounding = np.count_nonzero(part, axis=1) * (0.5 / CODE_MAX) * np.sqrt(columns) * largest
        bounds[start : start + step] = 1.001 * scale * (exact + rounding)
    return bounds


def pre_activation_frac_bits(bound: float) -> int:
    """Fraction bits (0..16) with which 18 bits hold a, silu(a) and their difference: |a| <= bound, silu >= -0.2785."""
    integer_bits = max(0, int(np.ceil(np.log2(bound + 0.29))))
    return int(np.clip(MANTISSA_BITS - integer_bits, 0, 16))


CALIBRATION_MARGIN = 16.0
"""Times the largest value on the calibration tokens: four bits of room for other texts."""
LOOSE_FRAC_BITS = 8
"""i and gate with fewer fraction bits show the sigmoid steps of more than 2^-8: the bound is too loose."""
LOOSE_H_STEPS = 2.0**11
"""h is too coarse when the deviation of a middling channel of the embedding has fewer steps than its own mantissa."""


@dataclass(frozen=True)
class Observed:
    """Largest magnitudes on calibration tokens: pre-activations of i and gate for each layer, and h."""

    i: list[float]
    gate: list[float]
    h: float


def residual_frac_bits(bound: float) -> int:
    """Fraction bits, at most 30, with which 32 bits hold h: |h| <= bound."""
    return min(30, 31 - int(np.ceil(np.log2(max(bound, 2.0**-30)))))


def calibrated_frac_bits(bound: float, observed: float) -> tuple[int, bool]:
    """Fraction bits of i or gate, and whether they rest on calibration: only where the proof is too loose."""
    proved = pre_activation_frac_bits(bound)
    if proved >= LOOSE_FRAC_BITS:
        return proved, False
    chosen = pre_activation_frac_bits(calibrated_bound(bound, observed))
    return chosen, chosen > proved or bound + 0.29 > 2.0**MANTISSA_BITS


def calibrated_bound(bound: float, observed: float) -> float:
    """The smaller of bound and observation with margin; a tensor that stayed 0 says nothing."""
    return min(bound, CALIBRATION_MARGIN * observed) if observed > 0 else bound


def channel_rms(table: NDArray[np.float32]) -> float:
    """Root mean square of the middling channel of an embedding table [V, d]: an outlier channel does not count."""
    squares = np.zeros(table.shape[1])
    for start in range(0, len(table), 1024):
        squares += (table[start : start + 1024].astype(np.float64) ** 2).sum(axis=0)
    return float(np.median(np.sqrt(squares / len(table))))


def one_minus_lower_bounds(config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]]) -> Int:
    """1 - LB of every layer [L, d] with 17 fraction bits, at most 2^17 - 1; 1 where there is no bound."""
    shape = (config.num_hidden_layers, config.hidden_size)
    bounds = np.zeros(shape)
    if config.use_lower_bound:
        raw = tensors["model.lower_bounds"].astype(np.float64)
        shares = np.exp(raw - raw.max(axis=0))
        shares /= shares.sum(axis=0)
        bounds = np.cumsum(shares, axis=0) - shares[0]
    return np.minimum(np.rint((1 - bounds) * 2.0**17), 2**17 - 1).astype(np.int64)


@dataclass(frozen=True)
class MatrixFacts:
    """What is kept of a ternary matrix besides its trits.

    ``bound``: largest magnitude that a row's output can have; of gate_proj the gate rows only, up has no scale.
    """

    scale: float
    cut: int
    bound: float


@dataclass(frozen=True)
class Constants:
    """Binary points, scales and gains of a network; keys are names of matrices and norms without ``.weight``."""

    h_frac_bits: int
    frac_bits: dict[str, int]
    scales: dict[str, ScaleConstants]
    gains: dict[str, Gains]
    calibrated: frozenset[str]  # names whose output's word rests on calibration; "h" for the residual stream


VectorNames = tuple[str | None, tuple[str, ...]]
VECTORS: dict[str, VectorNames] = {
    "x_gains": ("attn_norm", ("attn.f_proj", "attn.i_proj", "attn.g_proj")),
    "v_gains": ("attn.g_norm", ("attn.o_proj",)),
    "y_gains": ("mlp_norm", ("mlp.gate_proj",)),
    "w_gains": (None, ("mlp.down_proj",)),
}
"""Fields of ``IntegerLayer``: the outer norm of each vector, and the matrices that it enters."""
FINAL_VECTOR: VectorNames = ("model.norm", ("lm_head",))
NORMS_OF_H = ("attn_norm", "mlp_norm", "norm")


def vectors_of(config: ModelConfig) -> list[VectorNames]:
    """Every vector of a token in order, with full names."""
    found: list[VectorNames] = []
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        for outer, inner in VECTORS.values():
            found.append((prefix + outer if outer else None, tuple(prefix + name for name in inner)))
    return [*found, FINAL_VECTOR]


def check_width(config: ModelConfig) -> None:
    """Refuse vectors for which the integer arithmetic is not exact."""
    widest = max(config.hidden_size, config.intermediate_size)
    if widest > MAX_WIDTH:
        raise LuternError(
            f"the model has vectors of {widest} elements, but sums and squares are exact up to {MAX_WIDTH}; "
            "choose a smaller model."
        )


def quantise_matrix(
    config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]], name: str
) -> tuple[NDArray[np.int8], MatrixFacts]:
    """Trits and facts of one matrix; reads its weight and its norm's, and keeps neither."""
    trits, scale = ternarize(tensors[f"{name}.weight"])
    if not trits.any():
        raise LuternError(
            f"{name}.weight gives no trit that is not zero, so nothing can pass it; give a trained checkpoint."
        )
    bounds = row_bounds(trits, scale, tensors[f"{name}.norm.weight"])
    if name.endswith("gate_proj"):
        bounds = bounds[: config.intermediate_size]
    return trits, MatrixFacts(scale, 0 if name == "lm_head" else cut_bits(trits), float(bounds.max()))


def constants(
    checkpoint: Checkpoint,
    facts: Mapping[str, MatrixFacts],
    largest_embedding: float,
    calibration: Int | None = None,
) -> Constants:
    """Everything that follows from the facts of all matrices, the gains and the largest coded embedding.

    Only where a bound is too loose for its word, the float network runs over the tokens ``calibration``.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    frac_bits, calibrated = _frac_bits(checkpoint, facts, largest_embedding, calibration)
    gains: dict[str, Gains] = {}
    scales: dict[str, tuple[int, int]] = {}
    for outer, inner in vectors_of(config):
        w1: Any = 1.0
        if outer is not None:
            w1 = tensors[f"{outer}.weight"].astype(np.float64)
            gains[outer] = Gains.from_real(tensors[f"{outer}.weight"])
        for name in inner:
            own = gains[f"{name}.norm"] = Gains.from_real(w1 * tensors[f"{name}.norm.weight"].astype(np.float64))
            # K = s sqrt(n) / 127, the exponents of the gains, and for norms over h the inner eps
            k = facts[name].scale * np.sqrt(config.projections[name][1]) / CODE_MAX
            k *= 2.0 ** (own.vector_exponent - (gains[outer].vector_exponent if outer else 0))
            if outer is not None and outer.rsplit(".", 1)[-1] in NORMS_OF_H and gains[outer].mantissa.any():
                k /= np.sqrt(1 + NORM_EPS / np.mean(gains[outer].real() ** 2))
            scales[name] = scalar_from_real(float(k))
    eps = {name: _eps(config, name, facts, frac_bits, gains) for name in config.projections}
    all_scales = {name: ScaleConstants(k, *eps[name]) for name, k in scales.items()}
    return Constants(frac_bits["h"], frac_bits, all_scales, gains, calibrated)


def _frac_bits(
    checkpoint: Checkpoint, facts: Mapping[str, MatrixFacts], largest_embedding: float, calibration: Int | None
) -> tuple[dict[str, int], frozenset[str]]:
    """Fraction bits of h and of every matrix's scaled output, and which of them rest on calibration."""
    config = checkpoint.config
    adders = [name for name in config.projections if name.endswith(("o_proj", "down_proj"))]
    activated = [name for name in config.projections if name.endswith(("i_proj", "gate_proj"))]
    h_bound = largest_embedding + sum(facts[name].bound for name in adders)
    frac_bits = dict.fromkeys(config.projections, 0)  # sums of g, up and lm_head are used without a scale
    frac_bits |= {name: FORGET_FRAC_BITS for name in config.projections if name.endswith("f_proj")}
    frac_bits |= {name: pre_activation_frac_bits(facts[name].bound) for name in activated}
    frac_bits["h"] = residual_frac_bits(h_bound)
    calibrated = set()
    h_steps = channel_rms(checkpoint.tensors["model.embeddings.weight"]) * 2.0 ** frac_bits["h"]
    h_loose = 0 < h_steps < LOOSE_H_STEPS
    if h_loose or any(frac_bits[name] < LOOSE_FRAC_BITS for name in activated):
        from .calibrate import observe  # runs the float network, which takes its trits from here

        with np.errstate(all="ignore"):  # what overflows is refused below
            observed = observe(checkpoint, calibration)
        if not np.isfinite([*observed.i, *observed.gate, observed.h]).all():
            raise LuternError("the float network overflows on the calibration tokens; give a trained checkpoint.")
        for name in activated:
            largest = observed.gate if name.endswith("gate_proj") else observed.i
            chosen = calibrated_frac_bits(facts[name].bound, largest[int(name.split(".")[2])])
            frac_bits[name] = chosen[0]
            calibrated |= {name} if chosen[1] else set()
        if h_loose:
            proved, frac_bits["h"] = frac_bits["h"], residual_frac_bits(calibrated_bound(h_bound, observed.h))
            calibrated |= {"h"} if frac_bits["h"] > proved else set()
    if frac_bits["h"] < FRAC_BITS_MIN:
        raise LuternError(
            f"the residual stream can reach {h_bound:.3g}, but words reach {2.0 ** (31 - FRAC_BITS_MIN):.3g} at most; "
            "give a checkpoint with smaller weights."
        )
    return frac_bits | dict.fromkeys(adders, frac_bits["h"]), frozenset(calibrated)


def _eps(
    config: ModelConfig,
    name: str,
    facts: Mapping[str, MatrixFacts],
    frac_bits: Mapping[str, int],
    gains: Mapping[str, Gains],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The constants e1 and e2 of a matrix whose input comes from other matrices' sums; elsewhere zeros."""
    block = name.rsplit(".", 1)[0]
    if name.endswith("o_proj"):
        e1 = config.hidden_size * NORM_EPS * 4.0 ** -facts[f"{block}.g_proj"].cut
        exponent = frac_bits[f"{block}.i_proj"] + STATE_GUARD_BITS - gains[f"{block}.g_norm"].vector_exponent
        return scalar_from_real(e1), scalar_from_real(NORM_EPS * 4.0**exponent)
    if name.endswith("down_proj"):
        gate = f"{block}.gate_proj"
        e1 = config.intermediate_size * NORM_EPS * 4.0 ** (frac_bits[gate] - facts[gate].cut)
        return scalar_from_real(e1), scalar_from_real(1.0)
    return (0, 0), (0, 0)


def assemble(
    config: ModelConfig,
    embeddings: EmbeddingTable,
    h_frac_bits: int,
    lower_bounds: Callable[[int], Int],
    gains: Callable[[str], Gains],
    matrix: Callable[[str], Matrix],
    h_calibrated: bool = False,
) -> IntegerWeights:
    """The network from parts that are asked for by name (see ``Constants``); ``lower_bounds`` by layer."""

    def vector(names: VectorNames, prefix: str = "") -> tuple[Any, list[Gains]]:
        outer, inner = names
        return gains(prefix + outer) if outer else None, [gains(f"{prefix}{name}.norm") for name in inner]

    layers = []
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        fields: dict[str, Any] = {field: vector(names, prefix) for field, names in VECTORS.items()}
        for _, inner in VECTORS.values():
            fields |= {name.rsplit(".", 1)[-1]: matrix(prefix + name) for name in inner}
        layers.append(IntegerLayer(one_minus_lower_bound=lower_bounds(index), **fields))
    final = vector(FINAL_VECTOR)
    return IntegerWeights(config, embeddings, h_frac_bits, layers, final, matrix("lm_head"), h_calibrated)


def integer_weights(checkpoint: Checkpoint, calibration: Int | None = None) -> IntegerWeights:
    """Quantise a checkpoint.

    Pure arithmetic on the stored weights, unless a bound is too loose for its word: then the float network runs over
    the tokens ``calibration [T]`` or ``[T, B]``, seeded random ones if None.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    check_width(config)
    quantised = {name: quantise_matrix(config, tensors, name) for name in config.projections}
    facts = {name: known for name, (_, known) in quantised.items()}
    embeddings = EmbeddingTable.from_real(tensors["model.embeddings.weight"])
    found = constants(checkpoint, facts, embeddings.largest, calibration)
    bounds = one_minus_lower_bounds(config, tensors)

    def matrix(name: str) -> Matrix:
        scale, calibrated = found.scales[name], name in found.calibrated
        return Matrix(quantised[name][0], facts[name].cut, found.frac_bits[name], scale, calibrated)

    gains = found.gains.__getitem__
    return assemble(
        config, embeddings, found.h_frac_bits, bounds.__getitem__, gains, matrix, "h" in found.calibrated
    )
