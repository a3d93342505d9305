"""The float network as a float16 run of the published code computes it, for comparison with the integer network.

    weights ─► float16 ─► trits and scale in float16     (`weight_quant` works in the type of the weights)
    BL(x): norm and codes in float32 inside the kernel, q a / 127 ─► float16, T s in float16, sums ─► float16
    every other operation: operands float16, computed in float32, result ─► float16; the state S stays float32

BL is a ternary layer. q, a, T and s are defined in model_ref/float_model.py: q are the codes of the input and a its
largest magnitude, T are the trits and s is their scale. float16 values are stored in float32 arrays and rounded by
`half`. BLAS adds in another order than a GPU, which changes the error of this run by a tenth of its value. The run
takes as long as the float network, plus about 20 roundings for each element of h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.float_model import Floats, codes, lower_bounds, rms, sigmoid, silu
from lutern.model_ref.ternarise import SMALLEST_SCALE, one_magnitude


def half(x: Any) -> Floats:
    """Round to the nearest float16; values beyond 65504 become infinity, as in float16."""
    with np.errstate(over="ignore"):
        rounded: Floats = np.asarray(x, np.float32).astype(np.float16).astype(np.float32)
    return rounded


@dataclass(frozen=True)
class HalfLinear:
    """One ternary projection. ``weight`` is T s (see above) rounded to float16 and transposed: [columns, rows]."""

    gain: Floats
    weight: Floats

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str) -> HalfLinear:
        stored = half(checkpoint.tensors[f"{name}.weight"])
        gain = half(checkpoint.tensors[f"{name}.norm.weight"])
        if one_magnitude(stored) is not None:  # ternary already, see ``ternarise.py``
            return cls(gain, np.ascontiguousarray(stored.T))
        mean = half(np.float32(np.abs(stored).mean(dtype=np.float64)))
        factor = half(1 / np.maximum(mean, np.float32(SMALLEST_SCALE)))
        trits = np.clip(np.rint(half(stored * factor)), -1, 1)
        weight = np.ascontiguousarray(half(trits / factor).T)
        return cls(gain, weight)

    def __call__(self, x: Floats) -> Floats:
        q, step = codes(rms(x, self.gain))
        return half(half(q * step) @ self.weight)


class Float16Model:
    """The float16 run of one checkpoint, with the interface of ``FloatModel``."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.config = checkpoint.config
        self.gains: dict[str, Floats] = {
            name: half(tensor) for name, tensor in checkpoint.tensors.items() if name.endswith("norm.weight")
        }
        self.embeddings = checkpoint.tensors["model.embeddings.weight"]
        self.linear = {name: HalfLinear.of(checkpoint, name) for name in checkpoint.config.projections}
        bounds = np.zeros((self.config.num_hidden_layers, self.config.hidden_size), np.float32)
        if self.config.use_lower_bound:
            bounds = half(lower_bounds(half(checkpoint.tensors["model.lower_bounds"])))
            bounds[0] = 0
        self.bounds = bounds

    def initial_state(self, streams: int) -> Floats:
        return np.zeros((self.config.num_hidden_layers, streams, self.config.hidden_size), np.float32)

    def step(self, ids: NDArray[np.int64], state: Floats) -> tuple[Floats, Floats]:
        """Return the logits [B, V] and the next state [L, B, d] after one token of each of B streams (L: layers)."""
        h = half(self.embeddings[ids])
        new_state = np.empty_like(state)
        eps = self.config.rms_norm_eps
        for index in range(self.config.num_hidden_layers):
            prefix, bound = f"model.layers.{index}.", self.bounds[index]
            attn = {x: self.linear[f"{prefix}attn.{x}_proj"] for x in "ifgo"}
            x = half(rms(h, self.gains[f"{prefix}attn_norm.weight"], eps))
            f = half(bound + half(half(1 - bound) * half(sigmoid(attn["f"](x)))))
            i = half(silu(attn["i"](x)) * half(1 - f))
            new_state[index] = f * state[index] + i
            g = rms(attn["g"](x), self.gains[f"{prefix}attn.g_norm.weight"], eps)
            h = half(h + attn["o"](half(g * silu(half(new_state[index])))))
            y = half(rms(h, self.gains[f"{prefix}mlp_norm.weight"], eps))
            gate, up = np.split(self.linear[f"{prefix}mlp.gate_proj"](y), 2, axis=-1)
            h = half(h + self.linear[f"{prefix}mlp.down_proj"](half(silu(gate) * up)))
        return self.linear["lm_head"](half(rms(h, self.gains["model.norm.weight"], eps))), new_state


__all__ = ["Float16Model", "half"]
