"""Measures the largest values on calibration tokens, for tensors whose proved word would be too wide (``quantise.py``).

    tokens [n, B] ─► embeddings ─► h [n, B, d] ─► layer 0 for all tokens ─► layer 1 ─► ...
                                                       └─► largest magnitude and RMS of i, gate and h

n is the number of steps, B the number of streams and d the hidden size. Each layer of the float network runs over all
tokens before the next layer runs. This is possible because a layer's state depends only on the same layer's past. So
only the weights of one layer are in memory. The cost is one step of the float network per token, and 4 n B d bytes of
memory for h.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fixed import Int
from lutern.model_ref.float_model import Floats, Projection, build_layer, layer_step
from lutern.model_ref.ranges import Activation

TOKENS, STREAMS, SEED = 64, 4, 0
"""Steps, streams and seed of the random tokens that are used if no text is given. All tokens are equally likely."""
TEXT_TOKENS, TEXT_STREAMS = 2048, 16
"""The largest number of tokens that are used from a text, and the largest number of streams into which these tokens are
divided."""
TEXT_CHARACTERS = 16 * TEXT_TOKENS
"""Number of characters that are read from a text. A token of ordinary text has about four characters."""


class _Statistics:
    """The largest magnitude and the root mean square of all values that were added."""

    def __init__(self) -> None:
        self.largest, self.squares, self.count = 0.0, 0.0, 0

    def add(self, values: Floats) -> None:
        self.largest = float(np.maximum(self.largest, np.abs(values).max()))  # a NaN is kept
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.count += values.size

    def activation(self) -> Activation:
        return Activation(self.largest, float(np.sqrt(self.squares / self.count)))


class _Seen:
    """A projection that stores its last output, and statistics of the first ``rows`` rows of all outputs."""

    def __init__(self, inner: Projection, rows: int) -> None:
        self.inner, self.rows = inner, rows
        self.statistics = _Statistics()

    def __call__(self, x: Floats) -> Floats:
        self.last = self.inner(x)
        self.statistics.add(self.last[:, : self.rows])
        return self.last


def text_tokens(ids: list[int], ahead: Sequence[int] = ()) -> Int:
    """Return calibration tokens ``[n, B]`` from the tokens of a text. The first 2,048 tokens of the text are divided
    into up to 16 streams.

    Every stream begins with the tokens ``ahead``, as every text of the model does.
    """
    streams = max(1, min(TEXT_STREAMS, len(ids)))
    length = min(len(ids), TEXT_TOKENS) // streams
    cut = np.array(ids[: length * streams], dtype=np.int64).reshape(streams, length)
    first = np.tile(np.array(ahead, dtype=np.int64), (streams, 1))
    return np.concatenate([first, cut], axis=1).T


def observe(checkpoint: Checkpoint, ids: Int | None = None) -> dict[str, Activation]:
    """Run the float network over tokens ``[n]`` or ``[n, B]`` (B streams). Default: random tokens of a fixed seed.

    Returns the largest magnitude and the RMS of each of these values: h (the embedding, and h after each mixer of each
    layer), and the pre-activations i and gate of each layer. Keys are ``h`` and the names of the matrices:
    ``model.layers.0.attn.i_proj``, ``model.layers.0.mlp.gate_proj`` ... Raises ``LuternError`` if there is no token, or
    if a token is outside the vocabulary.
    """
    config = checkpoint.config
    if ids is None:
        ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (TOKENS, STREAMS))
    ids = np.asarray(ids, dtype=np.int64)
    ids = ids[:, None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or not ids.size or ids.min() < 0 or ids.max() >= config.vocab_size:
        raise LuternError(f"calibration needs at least one token number, and all must be below {config.vocab_size}.")
    h = checkpoint.tensors["model.embeddings.weight"][ids]  # [n, B, d]
    found: dict[str, Activation] = {}
    d, m = config.hidden_size, config.intermediate_size
    residual = _Statistics()
    residual.add(h)
    for index in range(config.num_hidden_layers):
        layer = build_layer(checkpoint, index)
        i, o, gate = _Seen(layer.i_proj, d), _Seen(layer.o_proj, d), _Seen(layer.gate_proj, m)
        layer = replace(layer, i_proj=i, o_proj=o, gate_proj=gate)
        state = np.zeros(h.shape[1:], np.float32)
        for step in range(len(h)):
            after, state = layer_step(layer, h[step], state)
            residual.add(h[step] + o.last)  # h between the mixers
            residual.add(after)
            h[step] = after
        found[f"model.layers.{index}.attn.i_proj"] = i.statistics.activation()
        found[f"model.layers.{index}.mlp.gate_proj"] = gate.statistics.activation()
    return {"h": residual.activation(), **found}
