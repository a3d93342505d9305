"""Compares the errors of two networks against float32: the integer network, and a float16 run of the same checkpoint.

    tokens ─┬─► float32 ─────────────────► logits ─┐
            ├─► integer (what the chip computes) ──┼─► relative RMS errors, and their ratio
            └─► float16 (measure/float16.py) ──────┘

This comparison is a gate: the integer network's error must be at most 0.8 times the float16 run's error. It does not
justify word lengths, because the error of the logits hardly depends on them: one code that flips to its neighbour flips
later codes. ``word_lengths.py`` justifies word lengths stage by stage. The comparison runs three networks over 48
tokens. With a vocabulary V of 32000 and a width d of 1024, it takes half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lutern.measure.float16 import Float16Model
from lutern.model_ref.checkpoint import Checkpoint, load_checkpoint
from lutern.model_ref.comparison import relative_error
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.evaluate import SteppedModel
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import COUNTED, Saturations
from lutern.model_ref.quantise import integer_weights

SEED, TOKENS, STREAMS = 1, 24, 2
GATE = 0.8
"""Largest allowed error of the integer network, divided by the float16 run's error."""
REFERENCE = Path(__file__).parents[1] / "tests" / "data" / "tiny"
"""Checkpoint and logits of the published implementation. A clone contains them, an installed wheel does not."""
SHAPES = {
    "odd width": ModelConfig(vocab_size=64, hidden_size=97, num_hidden_layers=3, intermediate_size=255),
    "no lower bound": ModelConfig(
        vocab_size=256, hidden_size=128, num_hidden_layers=2, intermediate_size=512, use_lower_bound=False
    ),
    "no power of two": ModelConfig(vocab_size=256, hidden_size=320, num_hidden_layers=6, intermediate_size=896),
}
DEVIATIONS = (("norm", (1.05, 0.26)), ("embeddings", (0.0, 0.6)), ("lower_bounds", (0.0, 0.5)), ("", (0.0, 0.02)))
"""(part of a tensor's name, (mean, standard deviation) of the reference's tensors). The first match is used."""
LARGE = {"V 32000": ModelConfig(vocab_size=32000, hidden_size=1024, num_hidden_layers=4, intermediate_size=2816)}


@dataclass(frozen=True)
class Comparison:
    """Errors of one checkpoint's logits against float32, and how many values the integer network clipped."""

    name: str
    config: ModelConfig
    integer: float
    float16: float
    saturated: int

    @property
    def share(self) -> float:
        """The integer network's error divided by the float16 run's error; 0 if the float16 run overflows."""
        return self.integer / self.float16 if np.isfinite(self.float16) else 0.0

    @property
    def passes(self) -> bool:
        return self.share <= GATE and not self.saturated


def compare(name: str, checkpoint: Checkpoint, expected: tuple[NDArray, NDArray] | None = None) -> Comparison:
    """Compare on random tokens (seeded), or on ``expected``: ids [T] and the published float32 logits [T, V]."""
    if expected is None:
        random = np.random.default_rng(SEED)
        ids = random.integers(0, checkpoint.config.vocab_size, (TOKENS, STREAMS))
        wanted = logits(FloatModel(checkpoint), ids)
    else:
        ids, wanted = expected[0][:, None], expected[1][:, None]
    counts = Saturations()
    integer = relative_error(logits(FastModel(integer_weights(checkpoint), counts), ids), wanted)
    float16 = relative_error(logits(Float16Model(checkpoint), ids), wanted)
    return Comparison(name, checkpoint.config, integer, float16, sum(counts.of(tensor) for tensor in COUNTED))


def synthetic(config: ModelConfig, bfloat16: bool = False, seed: int = SEED) -> Checkpoint:
    """Return a random checkpoint with the means and deviations of ``DEVIATIONS``, in float32 or rounded to bfloat16.

    The releases are stored in bfloat16. A conversion of such weights to float16 flips fewer trits.
    """
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes.items():
        mean, deviation = next(value for part, value in DEVIATIONS if part in name)
        values = (mean + deviation * random.standard_normal(shape)).astype(np.float32)
        tensors[name] = values.astype(ml_dtypes.bfloat16).astype(np.float32) if bfloat16 else values
    return Checkpoint(config, tensors, Path("synthetic"))


def reference() -> Comparison | None:
    """Compare on the checkpoint and logits in ``REFERENCE``; return None if this folder is not installed."""
    if not REFERENCE.is_dir():
        return None
    expected = np.load(REFERENCE / "expected.npz")
    return compare("tests/data/tiny", load_checkpoint(REFERENCE), (expected["ids"], expected["logits"]))


def logits(model: SteppedModel, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logits [T, B, V] of T tokens in each of B streams, ``ids`` [T, B]; V is the vocabulary."""
    state = model.initial_state(ids.shape[1])
    rows = []
    for tokens in ids:
        row, state = model.step(tokens, state)
        rows.append(np.asarray(row, np.float64))
    return np.array(rows)
