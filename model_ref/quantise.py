"""Turns stored weights into the numbers of the integer network: trits, scales, gains, codes, binary points.

    s = max(mean|W|, 1e-5)            one scale per matrix
    T = clamp(round_half_even(W / s), -1, 1)

(arXiv 2406.02528, section 3.1, the weight quantiser of BitNet b1.58. If a matrix is already ternary, its scale is kept,
see ``ternarise.py``.) The weights are the stored float32 values, since rounding to float16 would change trits.

Binary points are proved from the weights. A BitLinear's input is ``t * w2``, where w2 are its gains and ``|t|_2 <=
sqrt(n)``. So by the inequality of Cauchy and Schwarz, row r of its output is at most ``s sqrt(n) |T_r * w2|_2`` plus
the error of rounding the codes. Every binary point follows from these bounds. Therefore no text can make a value
saturate.

If a proved bound is so large that a word would lose the signal, the bound is replaced by 16 times the largest value on
calibration tokens, provided that this value is smaller. In this case the tensor is marked ``calibrated``, and
``model.Saturations`` counts the values that exceed the word.

    weights ─► quantise_matrix, one matrix after another ─┬─► trits
                                                          └─► MatrixFacts ─► constants ─► Constants

Each matrix is read once. All constants follow from a few numbers (``MatrixFacts``) of each matrix. So
``integer_weights``, which keeps all trits, and the image's writer, which keeps no trits, compute the same constants.
Large temporaries are computed in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import NORM_EPS, ModelConfig
from lutern.model_ref.embedding import WIDE_BITS, EmbeddingTable, channel_rms
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import MANTISSA_BITS, Int, scalar_from_real
from lutern.model_ref.mlgru import FORGET_FRAC_BITS, STATE_GUARD_BITS, Bounds
from lutern.model_ref.norm import CODE_MAX, Gains, ScaleConstants
from lutern.model_ref.packed_trits import PackedTrits
from lutern.model_ref.ranges import (
    LOOSE_FRAC_BITS,
    LOOSE_H_STEPS,
    Activation,
    calibrated_bound,
    calibrated_frac_bits,
    pre_activation_frac_bits,
    residual_frac_bits,
    row_bounds,
)
from lutern.model_ref.ternarise import ternarise

MAX_WIDTH = 8192
"""The longest vector for which sums of codes fit 21 bits and float32, and sums of squares fit 82 bits."""
FRAC_BITS_MIN = -64
"""The least number of fraction bits, since operations store this number in 7 signed bits."""


@dataclass(frozen=True)
class Matrix:
    """One ternary matrix [rows, columns], and the constants of its norm and output.

    ``cut``: number of low bits of the sums that are rounded away. ``frac_bits``: fraction bits of the scaled output,
    which has 18 signed bits for i, f and gate. o and down have the fraction bits of h. The sums of g, up and lm_head
    are used without a scale. ``calibrated``: whether the output's word comes from calibration, not from a proof.
    """

    packed: PackedTrits
    cut: int
    frac_bits: int
    scale: ScaleConstants
    calibrated: bool = False

    @property
    def trits(self) -> NDArray[np.int8]:
        """The trits int8 [rows, columns], unpacked at every access."""
        return self.packed.unpack()

    @cached_property
    def columns_f32(self) -> NDArray[np.float32]:
        """The trits as float32 [rows, columns], for exact products."""
        return self.trits.astype(np.float32)


def cut_bits(trits: NDArray[np.int8]) -> int:
    """Return the number of low bits of a matrix's sums that must be rounded away, so that every sum fits 18 signed
    bits."""
    largest = CODE_MAX * int(np.count_nonzero(trits, axis=1).max())
    return max(0, largest.bit_length() - MANTISSA_BITS)


@dataclass(frozen=True)
class IntegerLayer:
    """The weights of one layer. Each field ``*_gains`` contains the gains of the vector that its name begins with: w1,
    then the G of each matrix that reads the vector (``norm.py`` defines w1 and G)."""

    x_gains: tuple[Gains, list[Gains]]  # gains of attn_norm, then these gains times the gains of the norms in f, i, g
    one_minus_lower_bound: Int  # [d], 17 fraction bits, values of ``mlgru.Bounds``
    f_proj: Matrix
    i_proj: Matrix
    g_proj: Matrix
    v_gains: tuple[Gains, list[Gains]]  # gains of g_norm, then these gains times the gains of the norm in o
    o_proj: Matrix
    y_gains: tuple[Gains, list[Gains]]  # gains of mlp_norm, then these gains times the gains of the norm in gate
    gate_proj: Matrix  # rows 0 to m-1 are gate, rows m to 2m-1 are up
    w_gains: tuple[None, list[Gains]]  # None (no outer norm), then the gains of the norm in down
    down_proj: Matrix

    @property
    def state_frac_bits(self) -> int:
        """The number of fraction bits of S."""
        return self.i_proj.frac_bits + STATE_GUARD_BITS


@dataclass(frozen=True)
class IntegerWeights:
    """All numbers of the integer network. An image stores the same numbers."""

    config: ModelConfig
    embeddings: EmbeddingTable
    h_frac_bits: int
    layers: list[IntegerLayer]
    final_gains: tuple[Gains, list[Gains]]
    lm_head: Matrix
    h_calibrated: bool = False
    activations: dict[str, Activation] = field(default_factory=dict)  # as ``Constants.activations``

    @property
    def calibrated(self) -> list[str]:
        """The tensors whose words come from calibration, not from a proof, such as ``h`` or ``i of layer 3``."""
        found = ["h"] if self.h_calibrated else []
        for index, layer in enumerate(self.layers):
            found += [f"i of layer {index}"] if layer.i_proj.calibrated else []
            found += [f"gate of layer {index}"] if layer.gate_proj.calibrated else []
        return found


def one_minus_lower_bounds(config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]]) -> Int:
    """Return 1 - LB of every layer [L, d], rounded to values of ``mlgru.Bounds`` (LB: lower bound, L: layers, d: hidden
    size). If the model has no lower bounds, return the largest value of the format."""
    shape = (config.num_hidden_layers, config.hidden_size)
    bounds = np.zeros(shape)
    if config.use_lower_bound:
        raw = tensors["model.lower_bounds"].astype(np.float64)
        shares = np.exp(raw - raw.max(axis=0))
        shares /= shares.sum(axis=0)
        bounds = np.cumsum(shares, axis=0) - shares[0]
    return Bounds.from_real(1 - bounds).values


@dataclass(frozen=True)
class MatrixFacts:
    """The numbers of a ternary matrix that are kept in addition to its trits.

    ``bound`` is the largest magnitude that an output can have. For gate_proj, only the gate rows are considered, since
    the up rows have no scale.
    """

    scale: float
    cut: int
    bound: float


@dataclass(frozen=True)
class Constants:
    """The binary points, scales and gains of a network. Keys are names of matrices and norms without ``.weight``."""

    h_frac_bits: int
    frac_bits: dict[str, int]
    scales: dict[str, ScaleConstants]
    gains: dict[str, Gains]
    calibrated: frozenset[str]  # names of matrices whose output's word comes from calibration, or "h"
    activations: dict[str, Activation] = field(default_factory=dict)
    """The measured h and outputs of i_proj and gate_proj on the calibration tokens. Empty if there was no
    calibration."""


VectorNames = tuple[str | None, tuple[str, ...]]
VECTORS: dict[str, VectorNames] = {
    "x_gains": ("attn_norm", ("attn.f_proj", "attn.i_proj", "attn.g_proj")),
    "v_gains": ("attn.g_norm", ("attn.o_proj",)),
    "y_gains": ("mlp_norm", ("mlp.gate_proj",)),
    "w_gains": (None, ("mlp.down_proj",)),
}
"""For each ``*_gains`` field of ``IntegerLayer``: the outer norm of its vector, and the matrices that read this
vector."""
FINAL_VECTOR: VectorNames = ("model.norm", ("lm_head",))
NORMS_OF_H = ("attn_norm", "mlp_norm", "norm")


def vectors_of(config: ModelConfig) -> list[VectorNames]:
    """Return every vector of a token in order, with the full names of its norm and its matrices."""
    found: list[VectorNames] = []
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        for outer, inner in VECTORS.values():
            found.append((prefix + outer if outer else None, tuple(prefix + name for name in inner)))
    return [*found, FINAL_VECTOR]


def check_width(config: ModelConfig) -> None:
    """Raise ``LuternError`` if the model has vectors that are too long for exact integer arithmetic."""
    widest = max(config.hidden_size, config.intermediate_size)
    if widest > MAX_WIDTH:
        raise LuternError(
            f"the model has vectors of {widest} elements, but sums and squares are exact up to {MAX_WIDTH}; "
            "choose a smaller model."
        )


def quantise_matrix(
    config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]], name: str
) -> tuple[NDArray[np.int8], MatrixFacts]:
    """Return the trits int8 [rows, columns] and the facts of one matrix. The matrix's float weights are not kept."""
    trits, scale = ternarise(tensors[f"{name}.weight"])
    if not trits.any():
        raise LuternError(
            f"{name}.weight gives no trit that is not zero, so nothing can pass it; give a trained checkpoint."
        )
    bounds = row_bounds(trits, scale, tensors[f"{name}.norm.weight"])
    if name.endswith("gate_proj"):
        bounds = bounds[: config.intermediate_size]
    return trits, MatrixFacts(scale, 0 if name == "lm_head" else cut_bits(trits), float(bounds.max()))


def constants(
    checkpoint: Checkpoint, facts: Mapping[str, MatrixFacts], largest_embedding: float, calibration: Int | None = None
) -> Constants:
    """Return all constants, from the facts of all matrices, the gains and the largest quantised embedding.

    If tokens ``calibration`` are given, the float network runs over these tokens. Otherwise the float network runs only
    if a bound is too loose for its word, and then over random tokens.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    frac_bits, calibrated, activations = _frac_bits(checkpoint, facts, largest_embedding, calibration)
    gains: dict[str, Gains] = {}
    scales: dict[str, tuple[int, int]] = {}
    for outer, inner in vectors_of(config):
        w1: Any = 1.0
        if outer is not None:
            w1 = tensors[f"{outer}.weight"].astype(np.float64)
            gains[outer] = Gains.from_real(tensors[f"{outer}.weight"])
        for name in inner:
            own = gains[f"{name}.norm"] = Gains.from_real(w1 * tensors[f"{name}.norm.weight"].astype(np.float64))
            # K = s sqrt(n) / 127, times a power of two from the gains' exponents, and for norms of h with the inner eps
            k = facts[name].scale * np.sqrt(config.projections[name][1]) / CODE_MAX
            k *= 2.0 ** (own.vector_exponent - (gains[outer].vector_exponent if outer else 0))
            if outer is not None and outer.rsplit(".", 1)[-1] in NORMS_OF_H and gains[outer].mantissa.any():
                # The eps of the outer norm cancels, because the inner norm scales its input again.
                k /= np.sqrt(1 + NORM_EPS / np.mean(gains[outer].real() ** 2))
            scales[name] = scalar_from_real(float(k))
    eps = {name: _eps(config, name, facts, frac_bits, gains) for name in config.projections}
    all_scales = {name: ScaleConstants(k, *eps[name]) for name, k in scales.items()}
    return Constants(frac_bits["h"], frac_bits, all_scales, gains, calibrated, activations)


def _frac_bits(
    checkpoint: Checkpoint, facts: Mapping[str, MatrixFacts], largest_embedding: float, calibration: Int | None
) -> tuple[dict[str, int], frozenset[str], dict[str, Activation]]:
    """Return the fraction bits of h and of every matrix's scaled output, the names of the calibrated matrices (and "h"
    if h is calibrated), and the activations."""
    config = checkpoint.config
    adders = [name for name in config.projections if name.endswith(("o_proj", "down_proj"))]
    activated = [name for name in config.projections if name.endswith(("i_proj", "gate_proj"))]
    h_bound = largest_embedding + sum(facts[name].bound for name in adders)
    frac_bits = dict.fromkeys(config.projections, 0)  # sums of g, up and lm_head are used without a scale
    frac_bits |= {name: FORGET_FRAC_BITS for name in config.projections if name.endswith("f_proj")}
    frac_bits |= {name: pre_activation_frac_bits(facts[name].bound) for name in activated}
    frac_bits["h"] = residual_frac_bits(h_bound)
    calibrated: set[str] = set()
    observed: dict[str, Activation] = {}
    h_steps = channel_rms(checkpoint.tensors["model.embeddings.weight"]) * 2.0 ** frac_bits["h"]
    h_loose = 0 < h_steps < LOOSE_H_STEPS
    if calibration is not None or h_loose or any(frac_bits[name] < LOOSE_FRAC_BITS for name in activated):
        from lutern.model_ref.calibrate import observe  # most checkpoints need no calibration

        with np.errstate(all="ignore"):  # an overflow is refused below
            observed = observe(checkpoint, calibration)
        if not np.isfinite([[seen.largest, seen.rms] for seen in observed.values()]).all():
            raise LuternError("the float network overflows on the calibration tokens; give a trained checkpoint.")
        for name in activated:
            chosen = calibrated_frac_bits(facts[name].bound, observed[name].largest)
            frac_bits[name] = chosen[0]
            calibrated |= {name} if chosen[1] else set()
        if h_loose:
            proved = frac_bits["h"]
            frac_bits["h"] = residual_frac_bits(calibrated_bound(h_bound, observed["h"].largest))
            calibrated |= {"h"} if frac_bits["h"] > proved else set()
    if frac_bits["h"] < FRAC_BITS_MIN:
        raise LuternError(
            f"the residual stream can reach {h_bound:.3g}, but words reach {2.0 ** (31 - FRAC_BITS_MIN):.3g} at most; "
            "give a checkpoint with smaller weights."
        )
    activations = {name: seen.rounded() for name, seen in observed.items()}
    return frac_bits | dict.fromkeys(adders, frac_bits["h"]), frozenset(calibrated), activations


def _eps(
    config: ModelConfig,
    name: str,
    facts: Mapping[str, MatrixFacts],
    frac_bits: Mapping[str, int],
    gains: Mapping[str, Gains],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the constants e1 and e2 of a matrix. Both constants are zero, except for o_proj and down_proj, whose
    inputs come from unscaled sums of other matrices."""
    block = name.rsplit(".", 1)[0]
    if name.endswith("o_proj"):
        e1 = config.hidden_size * config.rms_norm_eps * 4.0 ** -facts[f"{block}.g_proj"].cut  # the eps of g_norm
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
    activations: dict[str, Activation] | None = None,
) -> IntegerWeights:
    """Assemble the network. ``gains`` and ``matrix`` return a part by its name in ``Constants``, and ``lower_bounds``
    returns the bounds of a layer."""

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
    return IntegerWeights(
        config, embeddings, h_frac_bits, layers, final, matrix("lm_head"), h_calibrated, activations or {}
    )


def integer_weights(
    checkpoint: Checkpoint, calibration: Int | None = None, embedding_bits: int = WIDE_BITS
) -> IntegerWeights:
    """Quantise a checkpoint. ``embedding_bits`` is one of ``embedding.EMBEDDING_BITS``.

    If tokens ``calibration`` are given (``[n]`` or ``[n, B]``, for B streams), the float network runs over these
    tokens. Otherwise the float network runs only if a bound is too loose for its word, and then over random tokens of a
    fixed seed.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    check_width(config)
    packed: dict[str, PackedTrits] = {}
    facts: dict[str, MatrixFacts] = {}
    for name in config.projections:
        trits, facts[name] = quantise_matrix(config, tensors, name)
        packed[name] = PackedTrits.of(trits)
    embeddings = EmbeddingTable.from_real(tensors["model.embeddings.weight"], bits=embedding_bits)
    found = constants(checkpoint, facts, embeddings.largest, calibration)
    bounds = one_minus_lower_bounds(config, tensors)

    def matrix(name: str) -> Matrix:
        scale, calibrated = found.scales[name], name in found.calibrated
        return Matrix(packed[name], facts[name].cut, found.frac_bits[name], scale, calibrated)

    gains = found.gains.__getitem__
    return assemble(
        config,
        embeddings,
        found.h_frac_bits,
        bounds.__getitem__,
        gains,
        matrix,
        "h" in found.calibrated,
        found.activations,
    )
