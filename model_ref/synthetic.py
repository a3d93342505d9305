"""Random checkpoints of any shape: what tests run when no trained one has the shape they need.

Matrices are normal with a deviation of 0.02 (the published initialisation), gains near 1, lower bounds normal: every
stage sees ordinary values. The seed decides everything.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import ModelConfig

INITIALIZER_RANGE = 0.02
GAIN_RANGE = 0.1


def random_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """A checkpoint with random float32 tensors; it has no folder and no tokenizer."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes.items():
        values = random.standard_normal(shape)
        if "norm" in name:
            values = 1 + GAIN_RANGE * values
        elif name == "model.embeddings.weight":
            pass
        elif name != "model.lower_bounds":
            values = INITIALIZER_RANGE * values
        tensors[name] = values.astype(np.float32)
    return Checkpoint(config, tensors, Path("synthetic"))
