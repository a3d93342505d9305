"""Compares embeddings of 12 bits with embeddings of 16 bits: bytes of the image, error of the logits.

    tokens ─┬─► float32 ───────────────────► logits ─┐
            ├─► integer, embeddings of 16 bits ──────┼─► relative RMS error against float32, and of 12 bits against 16
            └─► integer, embeddings of 12 bits ──────┘   fraction of tokens whose largest logit is the same

Weights are bfloat16, as in the releases. So 16 bits store their embeddings exactly, and 12 bits lose one of the 8 bits
of the mantissa. Three networks run over 256 tokens, which takes half a minute for all shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lutern.firmware.contents import image_bytes
from lutern.measure.compare import SEED, logits, synthetic
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.comparison import relative_error
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.quantise import integer_weights

TOKENS, STREAMS = 32, 8
WIDTHS = (128, 256, 512, 1024)
VOCAB, LAYERS = 4096, 4


@dataclass(frozen=True)
class Cost:
    """Figures of one checkpoint; dictionaries are keyed by the bits of an embedding.

    ``between`` is the error with 12 bits relative to 16 bits. ``same`` is the fraction of tokens for which the largest
    logit is the same with 12 bits as with 16 bits.
    """

    name: str
    config: ModelConfig
    image_bytes: dict[int, int]
    errors: dict[int, float]
    between: float
    same: float


def shape(width: int) -> ModelConfig:
    """Return a network of this width, whose channel mixer is 2.75 times as wide, as in the releases."""
    return ModelConfig(vocab_size=VOCAB, hidden_size=width, num_hidden_layers=LAYERS, intermediate_size=11 * width // 4)


def cost(name: str, checkpoint: Checkpoint) -> Cost:
    """Run a checkpoint on seeded tokens and compare."""
    config = checkpoint.config
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (TOKENS, STREAMS))
    wanted = logits(FloatModel(checkpoint), ids)
    found = {bits: logits(FastModel(integer_weights(checkpoint, None, bits)), ids) for bits in EMBEDDING_BITS}
    wide, narrow = (found[bits] for bits in EMBEDDING_BITS)
    return Cost(
        name,
        config,
        {bits: image_bytes(config, bits)[0] for bits in EMBEDDING_BITS},
        {bits: relative_error(found[bits], wanted) for bits in EMBEDDING_BITS},
        relative_error(narrow, wide),
        float((narrow.argmax(axis=-1) == wide.argmax(axis=-1)).mean()),
    )


def synthetic_cost(width: int) -> Cost:
    """Return the figures of a random checkpoint of this width."""
    return cost(f"random, d {width}", synthetic(shape(width), bfloat16=True))


__all__ = ["WIDTHS", "Cost", "cost", "shape", "synthetic_cost"]
