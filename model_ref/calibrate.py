"""Largest values on calibration tokens, for words that no proof makes narrow enough (``quantize.py``).

    tokens [T, B] ─► embeddings ─► h [T, B, d] ─► layer 0 over all tokens ─► layer 1 ─► ... ─► Observed(i, gate, h)

The float network, layer by layer: a layer's state depends on its own past only, so that one layer's weights are in
memory at a time. Cost: one float step a token, and 4 T B d bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .checkpoint import Checkpoint
from .errors import LuternError
from .fixed import Int
from .float_model import Floats, Projection, build_layer, layer_step
from .ranges import Observed

TOKENS, STREAMS, SEED = 64, 4, 0
"""What is drawn where no text is given: every token of the vocabulary is equally likely."""


class _Largest:
    """A projection that remembers the largest magnitude of its first ``rows`` outputs."""

    def __init__(self, inner: Projection, rows: int) -> None:
        self.inner, self.rows = inner, rows
        self.largest = 0.0

    def __call__(self, x: Floats) -> Floats:
        out = self.inner(x)
        self.largest = max(self.largest, float(np.abs(out[:, : self.rows]).max()))
        return out


def observe(checkpoint: Checkpoint, ids: Int | None = None) -> Observed:
    """Run the float network over tokens ``[T]`` or ``[T, B]`` (B streams), seeded random ones if None."""
    config = checkpoint.config
    if ids is None:
        ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (TOKENS, STREAMS))
    ids = np.asarray(ids, dtype=np.int64)
    ids = ids[:, None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or not ids.size or ids.min() < 0 or ids.max() >= config.vocab_size:
        raise LuternError(f"calibration wants token numbers below {config.vocab_size}, at least one.")
    h = checkpoint.tensors["model.embeddings.weight"][ids]  # [T, B, d]
    found = Observed([], [], float(np.abs(h).max()))
    d, m = config.hidden_size, config.intermediate_size
    largest_h = found.h
    for index in range(config.num_hidden_layers):
        layer = build_layer(checkpoint, index)
        i, o, gate = _Largest(layer.i_proj, d), _Largest(layer.o_proj, d), _Largest(layer.gate_proj, m)
        layer = replace(layer, i_proj=i, o_proj=o, gate_proj=gate)
        state = np.zeros(h.shape[1:], np.float32)
        before = largest_h
        for step in range(len(h)):
            h[step], state = layer_step(layer, h[step], state)
        largest_h = max(before + o.largest, float(np.abs(h).max()))  # between the mixers too
        found.i.append(i.largest)
        found.gate.append(gate.largest)
    return replace(found, h=largest_h)
