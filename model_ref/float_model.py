"""Computes the published network in NumPy float32 (arXiv 2406.02528, sections 3.1 to 3.3), as the released code does.

    ids ─► embeddings ─► h ─┬─ L times ──────────────────────────────────────────────────┐
                            │  x = rms(h)   i, f, g = BL(x)   S = f S + (1-f) silu(i)    │
                            │  h += BL_o(rms(g) * S * sigmoid(S))                        │
                            │  gate, up = BL_gate(rms(h))   h += BL_down(silu(gate) up)  │
                            └──────────────────────────► rms ─► BL_lm_head ─► logits     ┘

    BL(x) : y = rms(x, w);  a = max(max|y|, 1e-5);  q = clamp(round(127 y / a), -128, 127);  out = (T q) s a / 127

In BL (BitLinear), T and s are the trits and the scale of the matrix, w the gains of its norm, and q the codes. L is the
number of layers, d the hidden size, m the intermediate size and B the number of streams. A step decodes one token of
every stream. The trits are computed once. The products of trits and int8 codes are computed in float32 and are exact,
because a sum of m <= 65536 codes stays below 2^24. A step needs B * ``config.trits`` multiplications and additions, and
about 30 B L d elementwise operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import NORM_EPS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.ternarise import ternarise

Floats: TypeAlias = NDArray[np.float32]

SMALLEST_ABSMAX = np.float32(1e-5)  # from the published code, avoids a division by zero for an all-zero vector


def rms(x: Floats, gain: Floats, eps: float = NORM_EPS) -> Floats:
    """Return the root-mean-square norm over the last axis, without mean subtraction (section 3.1)."""
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    normed: Floats = x * (1 / np.sqrt(mean_square + np.float32(eps))) * gain
    return normed


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), computed through tanh, which does not overflow."""
    half = np.float32(0.5)
    value: Floats = half + half * np.tanh(half * x)
    return value


def silu(x: Floats) -> Floats:
    return x * sigmoid(x)


def codes(y: Floats) -> tuple[Floats, Floats]:
    """Return the int8 codes of each vector [..., n], as float32, and the real value of a code step [..., 1]."""
    factor = 127 / np.maximum(np.abs(y).max(axis=-1, keepdims=True), SMALLEST_ABSMAX)
    scaled = y * factor
    # The fused kernel rounds halves away from zero. np.rint would round halves to even.
    rounded = np.copysign(np.floor(np.abs(scaled) + np.float32(0.5)), scaled)
    return np.clip(rounded, -128, 127), 1 / factor


@dataclass(frozen=True)
class BitLinear:
    """One ternary projection with its norm, from [B, columns] to [B, rows]."""

    gain: Floats  # [columns], gains of the projection's norm
    trits: Floats  # [columns, rows], transposed for the product
    scale: np.float32

    def __call__(self, x: Floats) -> Floats:
        q, step = codes(rms(x, self.gain))  # [B, columns], [B, 1]
        out: Floats = (q @ self.trits) * (self.scale * step)  # [B, rows]
        return out


Projection: TypeAlias = Callable[[Floats], Floats]
"""A BitLinear, or an object that wraps a BitLinear and observes its output."""


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer, with the checkpoint's names."""

    attn_norm: Floats  # [d]
    i_proj: Projection  # [d, d]
    f_proj: Projection  # [d, d]
    g_proj: Projection  # [d, d]
    g_norm: Floats  # [d]
    o_proj: Projection  # [d, d]
    lower_bound: Floats  # [d], least value of the forget gate, which is 0 in the first layer
    mlp_norm: Floats  # [d]
    gate_proj: Projection  # [2m, d], gate rows then up rows
    down_proj: Projection  # [d, m]
    eps: float  # eps of attn_norm, g_norm and mlp_norm


def lower_bounds(weights: Floats) -> Floats:
    """Return the lower bounds LB [L, d] (section 3.3.1): a softmax over the layers, then the running sum over the
    layers without the first layer."""
    exponentials = np.exp(weights - weights.max(axis=0))
    shares = exponentials / exponentials.sum(axis=0)
    bounds: Floats = np.cumsum(shares, axis=0, dtype=np.float32) - shares[0]
    return bounds


def bit_linear(checkpoint: Checkpoint, name: str) -> BitLinear:
    """Return the projection whose tensor has this name followed by ``.weight``."""
    trits, scale = ternarise(checkpoint.tensors[f"{name}.weight"])
    transposed = np.ascontiguousarray(trits.T.astype(np.float32))
    return BitLinear(checkpoint.tensors[f"{name}.norm.weight"], transposed, np.float32(scale))


def build_layer(checkpoint: Checkpoint, index: int) -> Layer:
    """Return one layer's parameters."""
    tensors, prefix = checkpoint.tensors, f"model.layers.{index}."
    bound = np.zeros(checkpoint.config.hidden_size, np.float32)  # a bound of 0 leaves f unchanged
    if checkpoint.config.use_lower_bound and index > 0:
        bound = lower_bounds(tensors["model.lower_bounds"])[index]
    return Layer(
        attn_norm=tensors[f"{prefix}attn_norm.weight"],
        i_proj=bit_linear(checkpoint, f"{prefix}attn.i_proj"),
        f_proj=bit_linear(checkpoint, f"{prefix}attn.f_proj"),
        g_proj=bit_linear(checkpoint, f"{prefix}attn.g_proj"),
        g_norm=tensors[f"{prefix}attn.g_norm.weight"],
        o_proj=bit_linear(checkpoint, f"{prefix}attn.o_proj"),
        lower_bound=bound,
        mlp_norm=tensors[f"{prefix}mlp_norm.weight"],
        gate_proj=bit_linear(checkpoint, f"{prefix}mlp.gate_proj"),
        down_proj=bit_linear(checkpoint, f"{prefix}mlp.down_proj"),
        eps=checkpoint.config.rms_norm_eps,
    )


def layer_step(layer: Layer, h: Floats, state: Floats) -> tuple[Floats, Floats]:
    """Compute one layer for one token of every stream. Return the new h and the new state, both ``[B, d]`` like ``h``
    and ``state``.
    """
    # Token mixer, the MLGRU (section 3.3.1).
    x = rms(h, layer.attn_norm, layer.eps)  # [B, d]
    f: Floats = layer.lower_bound + (1 - layer.lower_bound) * sigmoid(layer.f_proj(x))  # [B, d]
    s: Floats = f * state + (1 - f) * silu(layer.i_proj(x))  # [B, d]
    h = h + layer.o_proj(rms(layer.g_proj(x), layer.g_norm, layer.eps) * silu(s))  # [B, d]
    # Channel mixer, the GLU (section 3.3.2).
    gate, up = np.split(layer.gate_proj(rms(h, layer.mlp_norm, layer.eps)), 2, axis=-1)  # [B, m] each
    return h + layer.down_proj(silu(gate) * up), s  # [B, d]


class FloatModel:
    """The float network of one checkpoint. ``step`` decodes one token of every stream."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.embeddings = checkpoint.tensors["model.embeddings.weight"]  # [V, d]
        self.layers = [build_layer(checkpoint, index) for index in range(self.config.num_hidden_layers)]
        self.norm = checkpoint.tensors["model.norm.weight"]  # [d]
        self.lm_head = bit_linear(checkpoint, "lm_head")  # [V, d]

    def initial_state(self, streams: int) -> Floats:
        """Return the state before the first token: zeros [L, B, d]."""
        return np.zeros((self.config.num_hidden_layers, streams, self.config.hidden_size), np.float32)

    def step(self, ids: ArrayLike, state: Floats, hidden: list[Floats] | None = None) -> tuple[Floats, Floats]:
        """Decode one token of every stream.

        Parameters
        ----------
        ids: token numbers [B].
        state: [L, B, d]. It is not changed.
        hidden: a list to which the embedding and each layer's output are appended, L + 1 arrays [B, d].

        Returns logits [B, V] (V: vocabulary) and the next state [L, B, d]. Raises ``LuternError`` for other token
        numbers or shapes.
        """
        ids = np.asarray(ids)
        vocab_size = self.config.vocab_size
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or ((ids < 0) | (ids >= vocab_size)).any():
            raise LuternError(f"step needs one token number below {vocab_size} for each stream, but was given {ids!r}.")
        next_state = np.empty_like(state)
        h = self.embeddings[ids]  # [B, d]
        if hidden is not None:
            hidden.append(h)
        for index, layer in enumerate(self.layers):
            h, next_state[index] = layer_step(layer, h, state[index])
            if hidden is not None:
                hidden.append(h)
        return self.lm_head(rms(h, self.norm, self.config.rms_norm_eps)), next_state  # [B, V], [L, B, d]
