"""Measures the error that each word length causes, stage by stage. A stage gets the exact float64 input, and one word
of the stage is shortened.

    float64 network ─► inputs of a stage ─► stage with a word of b bits ─► norm ─► 127 u / max|u|   against exact codes

Each cell has two figures: the RMS error of ``127 u / max|u|`` in steps of the int8 code, and the fraction of codes
that differ after rounding. Both figures depend only on the error of this word. The error of the
logits would not show it, because one flipped code flips later codes. With every 2 more bits the error falls to a
quarter, until it has no more effect on the next stage. An error of 0.01 steps flips about 0.5 % of the codes. Between
two float32 runs of the network, more than 0.5 % of the codes differ. The last rows run the integer stages of
``model_ref`` as built.

For a width d of 128 this takes seconds: a float64 pass over T tokens of B streams, and a state of 2,000 steps for every
number of guard bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref import glu, mlgru, norm
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import NORM_EPS
from lutern.model_ref.fixed import S18_MAX, Int, scalar_from_real
from lutern.model_ref.items import ITEM_EXPONENT_MAX
from lutern.model_ref.mlgru import FORGET_FRAC_BITS
from lutern.model_ref.norm import CODE_MAX
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.ternarise import ternarise
from lutern.model_ref.ternary import cut_sums, scale_sums

Real: TypeAlias = NDArray[np.float64]
Widths: TypeAlias = tuple[int, ...]
SEED, TOKENS, STREAMS, LONG_STEPS = 1, 48, 4, 2000
LONG_Z = 2.0**-11
"""1 - LB of the rows "long memory", whose state forgets over about 4,000 tokens."""


@dataclass(frozen=True)
class Cell:
    """Bits of a word, error in steps of the code (None if only codes are known), fraction of codes that differ."""

    bits: int
    steps: float | None
    differ: float


@dataclass(frozen=True)
class Row:
    """One word: the bits that are built, the matrix whose codes show its error, and the errors by width."""

    word: str
    built: int
    codes_of: str
    cells: list[Cell]


def rounded_mantissa(x: Real, bits: int) -> Real:
    """Return magnitudes rounded to ``bits`` leading bits; each element has its own exponent."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)


def rounded_fraction(x: Real, bits: int) -> Real:
    """Return values rounded to ``bits`` bits after the binary point."""
    return np.ldexp(np.rint(np.ldexp(x, bits)), -bits)


def rms(x: Real, gain: Real | float = 1.0) -> Real:
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + NORM_EPS) * gain


def sigmoid(x: Real) -> Real:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def positions(u: Real) -> Real:
    """Return ``127 u / max|u|``: codes before rounding."""
    return CODE_MAX * u / np.maximum(np.abs(u).max(axis=-1, keepdims=True), 1e-300)


def codes_at(position: Real) -> Real:
    """Return positions rounded half away from zero."""
    return np.copysign(np.floor(np.abs(position) + 0.5), position)


@dataclass(frozen=True)
class Exact:
    """One layer in float64: [T, B, n] inputs and outputs of its stages, and its weights."""

    h: Real
    x: Real  # normed with attn_norm
    gain: Real  # of f: the product of both norms' gains
    a: dict[str, Real]  # scaled outputs of f, i, g, gate, up, o
    scale: dict[str, Real]  # value of one sum, [T, B, 1]
    sums: dict[str, Real]
    z: Real  # 1 - f, where f is the forget gate
    keep: Real  # 1 - LB
    state: Real
    o_gain: Real
    h_middle: Real
    y_gain: Real  # of gate: the product of both norms' gains
    down_gain: Real


def exact_layers(checkpoint: Checkpoint, ids: Int) -> list[Exact]:
    """Run the float64 network over tokens [T, B], layer by layer."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}
    config = checkpoint.config
    bounds = np.zeros((config.num_hidden_layers, config.hidden_size))
    if config.use_lower_bound:
        shares = np.exp(tensors["model.lower_bounds"] - tensors["model.lower_bounds"].max(axis=0))
        shares /= shares.sum(axis=0)
        bounds = np.cumsum(shares, axis=0) - shares[0]
    h = tensors["model.embeddings.weight"][ids]
    layers = []
    for index in range(config.num_hidden_layers):
        layer, h = _exact_layer(checkpoint, tensors, index, 1 - bounds[index], h)
        layers.append(layer)
    return layers


def _exact_layer(
    checkpoint: Checkpoint, tensors: dict[str, Real], index: int, keep: Real, h: Real
) -> tuple[Exact, Real]:
    """Run one layer over all tokens; return its stages and its output [T, B, d]. ``keep`` is 1 - LB."""
    prefix = f"model.layers.{index}."
    scale: dict[str, Real] = {}
    sums: dict[str, Real] = {}
    outputs: dict[str, Real] = {}

    def gain(name: str) -> Real:
        return tensors[f"{prefix}{name}.weight"]

    def project(name: str, x: Real) -> Real:
        trits, s = ternarise(checkpoint.tensors[f"{prefix}{name}_proj.weight"])
        u, short = rms(x, gain(f"{name}_proj.norm")), name.split(".")[1]
        scale[short] = s * np.abs(u).max(axis=-1, keepdims=True) / CODE_MAX
        sums[short] = codes_at(positions(u)) @ trits.T.astype(np.float64)
        outputs[short] = sums[short] * scale[short]
        return outputs[short]

    x = rms(h, gain("attn_norm"))
    z = sigmoid(-project("attn.f", x)) * keep
    i = project("attn.i", x)
    state = recurrence(z, _silu(i))
    middle = h + project("attn.o", rms(project("attn.g", x), gain("attn.g_norm")) * _silu(state))
    outputs["gate"], outputs["up"] = np.split(project("mlp.gate", rms(middle, gain("mlp_norm"))), 2, axis=-1)
    layer = Exact(
        h=h,
        x=rms(h),
        gain=gain("attn_norm") * gain("attn.f_proj.norm"),
        a=outputs,
        scale=scale,
        sums=sums,
        z=z,
        keep=keep,
        state=state,
        o_gain=gain("attn.g_norm") * gain("attn.o_proj.norm"),
        h_middle=middle,
        y_gain=gain("mlp_norm") * gain("mlp.gate_proj.norm"),
        down_gain=gain("mlp.down_proj.norm"),
    )
    return layer, middle + project("mlp.down", _silu(outputs["gate"]) * outputs["up"])


def recurrence(z: Real, silu: Real, frac_bits: int | None = None) -> Real:
    """Return the states of all tokens [T, B, d], rounded to ``frac_bits`` after every step, or not rounded if None."""
    state, states = np.zeros(z.shape[1:]), np.empty_like(z)
    for step in range(len(z)):
        state = state + z[step] * (silu[step] - state)
        if frac_bits is not None:
            state = rounded_fraction(state, frac_bits)
        states[step] = state
    return states


def cell(bits: int, got: Real, wanted: Real) -> Cell:
    """Compare positions, which are codes before rounding."""
    differ = codes_at(got) != codes_at(wanted)
    return Cell(bits, float(np.sqrt(((got - wanted) ** 2).mean())), float(differ.mean()))


ELEVEN, SEVENTEEN = (7, 9, 11, 13, 15), (11, 13, 15, 17, 19)
"""Widths near the width of items, and near the width of mantissas."""


class _Sweep:
    """Shortens words of the last layer, and compares the codes that are made from these words."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        self.checkpoint = checkpoint
        self.ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (TOKENS, STREAMS))
        self.layers, self.weights = exact_layers(checkpoint, self.ids), integer_weights(checkpoint)
        self.e = self.layers[-1]
        built = self.weights.layers[-1]
        self.h_bits, self.i_bits, self.gate_bits = (
            self.weights.h_frac_bits,
            built.i_proj.frac_bits,
            built.gate_proj.frac_bits,
        )
        self.silu_i = _silu(self.e.a["i"])
        self.z_plain = sigmoid(-self.e.a["f"])
        self.long_z, self.long_silu = _long(sigmoid(-self.e.a["f"]) * LONG_Z), _long(self.silu_i)
        self.wanted_o = self.mixed(self.e.state)

    @staticmethod
    def row(word: str, built: int, codes_of: str, widths: Widths, f: Callable[[int], Real], exact: Real) -> Row:
        """Return a row of one word at all widths; ``f(bits)`` computes with the width ``bits``."""
        return Row(word, built, codes_of, [cell(bits, positions(f(bits)), positions(exact)) for bits in widths])

    def mixed(self, state: Real, swish: Callable[[Real], Real] | None = None) -> Real:
        """Return the vector that enters o_proj."""
        return self.e.sums["g"] * (swish or _silu)(state) * self.e.o_gain

    def gated(self, a: Real) -> Real:
        """Return the vector that enters down_proj."""
        return _silu(a) * self.e.a["up"] * self.e.down_gain

    def norm_path(self, bits: int) -> Real:
        """Return u times 127 / max|u|, with all short floats of the norm at this width."""
        short = rounded_mantissa(rounded_mantissa(self.e.x, bits) * self.e.gain, bits)
        largest = np.abs(short).max(axis=-1, keepdims=True)
        return short * rounded_mantissa(CODE_MAX / largest, bits)

    def forget(self, z: Real) -> Real:
        """Return the vector that enters o_proj if the forget gates, before the lower bound, are ``1 - z``."""
        return self.mixed(recurrence(z * self.e.keep, self.silu_i))

    def long_state(self, guard: int) -> Real:
        """Return the vector that enters o_proj if S of a long memory has this number of guard bits."""
        return self.mixed(recurrence(self.long_z, self.long_silu, self.i_bits + guard)[-TOKENS:])

    def sigma(self, bits: int) -> Real:
        """Return the vector that enters o_proj if all sigmoids have this width."""
        i = self.e.a["i"] * rounded_fraction(sigmoid(self.e.a["i"]), bits)
        state = recurrence(rounded_fraction(self.z_plain, bits) * self.e.keep, i)
        return self.mixed(state, lambda s: s * rounded_fraction(sigmoid(s), bits))

    def norm_rows(self) -> list[Row]:
        """Return the rows of the words from the embedding to the codes."""
        e, u = self.e, self.e.x * self.e.gain
        return [
            self.row(
                "embedding mantissa",
                11,
                "f",
                ELEVEN,
                lambda b: _embedding(self.checkpoint, self.ids, b) * self.layers[0].gain,
                self.layers[0].x * self.layers[0].gain,
            ),
            self.row("x mantissa", 17, "f", SEVENTEEN, lambda b: rounded_mantissa(e.x, b) * e.gain, u),
            self.row("gain mantissa", 11, "f", ELEVEN, lambda b: e.x * rounded_mantissa(e.gain, b), u),
            self.row("product u mantissa", 17, "f", SEVENTEEN, lambda b: rounded_mantissa(u, b), u),
            Row("x, u and 127/max", 17, "f", [cell(bits, self.norm_path(bits), positions(u)) for bits in SEVENTEEN]),
        ]

    def recurrence_rows(self) -> list[Row]:
        """Return rows of the gates and the state of the recurrence."""
        e, state_wanted = self.e, self.mixed(recurrence(self.long_z, self.long_silu)[-TOKENS:])
        return [
            self.row(
                "f, fraction bits",
                FORGET_FRAC_BITS,
                "o",
                (7, 9, 11, 13, 15),
                lambda b: self.forget(sigmoid(-rounded_fraction(e.a["f"], b))),
                self.wanted_o,
            ),
            self.row(
                "1 - f, fraction bits",
                17,
                "o",
                SEVENTEEN,
                lambda b: self.mixed(recurrence(rounded_fraction(e.z, b), self.silu_i)),
                self.wanted_o,
            ),
            self.row(
                "1 - f, long memory",
                17,
                "o",
                SEVENTEEN,
                lambda b: self.mixed(recurrence(rounded_fraction(self.long_z, b), self.long_silu)[-TOKENS:]),
                state_wanted,
            ),
            self.row(
                "1 - LB mantissa",
                11,
                "o",
                ELEVEN,
                lambda b: self.mixed(recurrence(self.z_plain * rounded_mantissa(e.keep, b), self.silu_i)),
                self.wanted_o,
            ),
            self.row("sigmoid, fraction bits", 17, "o", SEVENTEEN, self.sigma, self.wanted_o),
            self.row(
                "i, word",
                18,
                "o",
                (12, 14, 16, 18, 20),
                lambda b: self.mixed(recurrence(e.z, _silu(rounded_fraction(e.a["i"], self.i_bits - 18 + b)))),
                self.wanted_o,
            ),
            self.row(
                "S, guard bits",
                14,
                "o",
                (6, 8, 10, 14, 16),
                lambda b: self.mixed(recurrence(e.z, self.silu_i, self.i_bits + b)),
                self.wanted_o,
            ),
            self.row("S, guard, long memory", 14, "o", (6, 8, 10, 14, 16), self.long_state, state_wanted),
            self.row(
                "S at the swish",
                17,
                "o",
                SEVENTEEN,
                lambda b: self.mixed(e.state, lambda s: _block(s, b) * sigmoid(s)),
                self.wanted_o,
            ),
        ]

    def vector_rows(self) -> list[Row]:
        """Return rows of scales, h, and the gate of the channel mixer."""
        e, wanted_gate = self.e, rms(self.e.h_middle) * self.e.y_gain
        return [
            self.row(
                "scale mantissa, f and i",
                17,
                "o",
                SEVENTEEN,
                lambda b: self.mixed(
                    recurrence(
                        sigmoid(-e.sums["f"] * rounded_mantissa(e.scale["f"], b)) * e.keep,
                        _silu(e.sums["i"] * rounded_mantissa(e.scale["i"], b)),
                    )
                ),
                self.wanted_o,
            ),
            self.row(
                "scale mantissa, o",
                17,
                "gate",
                SEVENTEEN,
                lambda b: rms(e.h + e.sums["o"] * rounded_mantissa(e.scale["o"], b)) * e.y_gain,
                wanted_gate,
            ),
            self.row(
                "h, word",
                32,
                "gate",
                (16, 20, 24, 28, 32),
                lambda b: rms(rounded_fraction(e.h_middle, self.h_bits - 32 + b)) * e.y_gain,
                wanted_gate,
            ),
            self.row(
                "gate, word",
                18,
                "down",
                (12, 14, 16, 18, 20),
                lambda b: self.gated(rounded_fraction(e.a["gate"], self.gate_bits - 18 + b)),
                self.gated(e.a["gate"]),
            ),
        ]


def _block(x: Real, bits: int) -> Real:
    """Return values rounded to ``bits`` bits below the top bit of the vector's largest magnitude. All elements share
    one exponent."""
    unit = np.exp2(np.ceil(np.log2(np.abs(x).max(axis=-1, keepdims=True))) - bits)
    return np.rint(x / unit) * unit


def sweep(checkpoint: Checkpoint) -> list[Row]:
    """Return the rows of the embedding (whose codes are in the first layer), and of every word of the last layer."""
    words = _Sweep(checkpoint)
    return [*words.norm_rows(), *words.recurrence_rows(), *words.vector_rows(), *as_built(words.e, words.weights)]


def as_built(e: Exact, weights: IntegerWeights) -> list[Row]:
    """Run the integer stages of the last layer on float64 inputs, and return the fraction of codes that differ."""
    layer, streams = weights.layers[-1], e.h.shape[1]
    d, m = weights.config.hidden_size, weights.config.intermediate_size

    def scaled(name: str, sums: Real, step: int, frac_bits: int) -> Int:
        scales = [scalar_from_real(float(value)) for value in e.scale[name][step, :, 0]]
        pair = np.array([s[0] for s in scales]), np.array([s[1] for s in scales])
        cut = layer.gate_proj.cut if name == "gate" else layer.f_proj.cut if name == "f" else layer.i_proj.cut
        return scale_sums(sums[step].astype(np.int64), cut, pair, frac_bits, S18_MAX)

    def differ(vector: norm.Vector, wanted: Real) -> Any:
        return norm.quantise(vector.u[0], vector.largest[0]) != codes_at(positions(wanted))

    state = np.zeros((streams, d), dtype=np.int64)
    found: dict[str, list[Any]] = {"f": [], "o": [], "down": []}
    exact_v = e.sums["g"] * _silu(e.state) * e.o_gain
    exact_w = _silu(e.a["gate"]) * e.a["up"] * e.down_gain
    for step in range(len(e.h)):
        h = np.rint(e.h[step] * 2.0**weights.h_frac_bits).astype(np.int64)
        found["f"].append(differ(norm.gather(h, *layer.x_gains), (e.x * e.gain)[step]))
        z = mlgru.forget_gate(scaled("f", e.sums["f"], step, FORGET_FRAC_BITS), layer.one_minus_lower_bound)
        bits = layer.i_proj.frac_bits
        state = mlgru.update_state(state, z, scaled("i", e.sums["i"], step, bits), bits)
        g = cut_sums(e.sums["g"][step].astype(np.int64), layer.g_proj.cut)
        v = mlgru.gated_output(g, state, layer.state_frac_bits)
        found["o"].append(differ(norm.gather(v, *layer.v_gains), exact_v[step]))
        bits = layer.gate_proj.frac_bits
        a = scaled("gate", e.sums["gate"][..., :m], step, bits)
        up = cut_sums(e.sums["gate"][step, :, m:].astype(np.int64), layer.gate_proj.cut)
        w = norm.gather(glu.mix(glu.gate(a, bits), up), None, layer.w_gains[1])
        found["down"].append(differ(w, exact_w[step]))
    words = {"f": "norm, as built", "o": "MLGRU and norm, as built", "down": "GLU and norm, as built"}
    return [Row(words[name], 18, name, [Cell(18, None, float(np.mean(flips)))]) for name, flips in found.items()]


def _silu(a: Real) -> Real:
    return a * sigmoid(a)


def _long(x: Real) -> Real:
    """Repeat a whole sequence until there are at least LONG_STEPS tokens. The result ends with one whole sequence."""
    repeats = -(-LONG_STEPS // len(x))
    return np.concatenate([x] * repeats)


def _embedding(checkpoint: Checkpoint, ids: Int, bits: int) -> Real:
    """Return normed embeddings from a table with mantissas of ``bits`` bits and 4-bit exponents."""
    table = checkpoint.tensors["model.embeddings.weight"].astype(np.float64)
    top = int(np.frexp(np.abs(table).max())[1])
    values = table[ids]
    exponent = np.maximum(np.frexp(values)[1], top - ITEM_EXPONENT_MAX)
    return rms(np.ldexp(np.rint(np.ldexp(values, bits - exponent)), exponent - bits))
