"""Matrices that are already ternary keep their scale in the float network, the integer network and the image."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.firmware.image import convert, read_image
from lutern.measure.compare import logits
from lutern.measure.float16 import Float16Model
from lutern.model_ref.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lutern.model_ref.comparison import relative_error
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint, write_random_checkpoint
from lutern.model_ref.ternarise import CHUNK, SMALLEST_SCALE, one_magnitude, ternarise

CONFIG = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 5
TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def ternary(checkpoint: Checkpoint, dtype: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the tensors with every matrix as a scale times trits, and the scales, rounded to the stored type."""
    tensors, scales = dict(checkpoint.tensors), {}
    for name in checkpoint.config.projections:
        trits, scale = ternarise(tensors[f"{name}.weight"])
        scales[name] = float(np.asarray(scale, TYPES[dtype]))
        tensors[f"{name}.weight"] = (trits * scales[name]).astype(np.float32)
    return tensors, scales


@pytest.mark.parametrize("dtype", TYPES)
def test_the_scale_of_ternary_weights_is_their_magnitude(tmp_path: Path, dtype: str) -> None:
    plain = random_checkpoint(CONFIG, SEED)
    tensors, scales = ternary(plain, dtype)
    save_checkpoint(tmp_path / "model", CONFIG, tensors, dtype)
    write_random_checkpoint(tmp_path / "other", CONFIG, SEED, "test")
    (tmp_path / "model" / "tokenizer.json").write_bytes((tmp_path / "other" / "tokenizer.json").read_bytes())
    checkpoint = load_checkpoint(tmp_path / "model")
    count = len(CONFIG.projections)
    assert len(checkpoint.notes) == 1 and checkpoint.notes[0].startswith(f"{count} of {count} matrices are ternary")
    assert load_checkpoint(tmp_path / "other").notes == ()
    for name, scale in scales.items():
        trits, found = ternarise(checkpoint.tensors[f"{name}.weight"])
        assert found == scale and np.array_equal(trits, ternarise(plain.tensors[f"{name}.weight"])[0]), name
        share = np.count_nonzero(trits) / trits.size
        stored = np.abs(checkpoint.tensors[f"{name}.weight"].astype(np.float64))
        assert stored.mean() == pytest.approx(scale * share)  # the scale that the published code would use
    convert(tmp_path / "image", checkpoint, (tmp_path / "model" / "tokenizer.json").read_bytes(), "test")
    ids = np.random.default_rng(SEED).integers(0, CONFIG.vocab_size, (12, 1))
    wanted = logits(FloatModel(Checkpoint(CONFIG, tensors, tmp_path)), ids)
    for made in (
        FloatModel(checkpoint),
        FastModel(integer_weights(checkpoint)),
        FastModel(read_image(tmp_path / "image").weights),
        Float16Model(checkpoint),
    ):
        assert relative_error(logits(made, ids), wanted) < 0.06, f"{type(made).__name__}, seed {SEED}"
    error = relative_error(logits(FloatModel(plain), ids), wanted)
    assert error < 0.06, f"rounding the weights to trits changed the network by {error}, seed {SEED}"


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    magnitude=st.floats(2.0**-15, 2.0**13, width=32),
    size=st.sampled_from([1, 5, 255, 256, 257, 4000, CHUNK + 300]),
    share=st.floats(0.02, 1.0),
    seed=st.integers(0, 1 << 20),
)
def test_any_scale_and_any_share_of_zeros(magnitude: float, size: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    trits = random.choice([-1, 0, 1], size, p=[share / 2, 1 - share, share / 2]).astype(np.int8)
    trits[random.integers(size)] = 1
    weight = (trits * np.float32(magnitude)).astype(np.float32)
    got, scale = ternarise(weight)
    assert scale == np.float32(magnitude) == one_magnitude(weight)
    assert np.array_equal(got, trits)
    if np.count_nonzero(trits) > 1:
        place = np.flatnonzero(trits)[-1]
        weight[place] *= np.float32(1.5)
        assert one_magnitude(weight) is None
        assert ternarise(weight)[1] == pytest.approx(max(np.abs(weight.astype(np.float64)).mean(), SMALLEST_SCALE))


def test_weights_that_are_not_ternary() -> None:
    assert one_magnitude(np.zeros(10, np.float32)) is None
    assert one_magnitude(np.full(10, np.nan, np.float32)) is None
    assert one_magnitude(np.full(10, np.inf, np.float32)) is None
    assert one_magnitude(np.full(10, 1e-9, np.float32)) is None  # the published code turns these into zeros
    last = np.full(CHUNK, 0.5, np.float32)
    last[-1] = 0.25
    assert one_magnitude(last) is None
