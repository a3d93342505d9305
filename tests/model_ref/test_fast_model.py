"""The fast integer network is the integer network."""

import numpy as np
import pytest

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.model import IntegerModel, Saturations
from lutern.model_ref.norm import ScaleConstants
from lutern.model_ref.quantize import Matrix, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 11


@pytest.mark.parametrize("streams", [1, 3, 9])
@pytest.mark.parametrize("config", [
    ModelConfig(vocab_size=301, hidden_size=96, num_hidden_layers=3, intermediate_size=1100),
    ModelConfig(vocab_size=40, hidden_size=33, num_hidden_layers=1, intermediate_size=47, use_lower_bound=False),
], ids=["several-blocks", "odd"])
def test_equal_to_the_integer_model(config: ModelConfig, streams: int) -> None:
    weights = integer_weights(random_checkpoint(config, SEED))
    plain, fast = IntegerModel(weights, Saturations()), FastModel(weights)
    plain_state, fast_state = plain.initial_state(streams), fast.initial_state(streams)
    plain_seen: list[np.ndarray] = []
    fast_seen: list[np.ndarray] = []
    for ids in np.random.default_rng(SEED).integers(0, config.vocab_size, (6, streams)):
        wanted, plain_state = plain.step(ids, plain_state, lambda stage, layer, values: plain_seen.append(values))
        got, fast_state = fast.step(ids, fast_state, lambda stage, layer, values: fast_seen.append(values))
        assert np.array_equal(got, wanted) and np.array_equal(fast_state, plain_state), f"seed {SEED}"
    assert all(np.array_equal(a, b) for a, b in zip(fast_seen, plain_seen, strict=True)), f"seed {SEED}"


@pytest.mark.parametrize("columns", [1, 4097, 8192])
def test_largest_sums_are_exact(columns: int) -> None:
    trits = np.ones((70, columns), np.int8)
    trits[1] = -1
    codes = np.full((1, columns), 127)
    sums = FastModel.multiply(None, codes, Matrix.build(trits, 0, ScaleConstants((1 << 16, 0))))  # type: ignore[arg-type]
    assert sums[0, 0] == 127 * columns and sums[0, 1] == -127 * columns and (sums[0, 2:] == 127 * columns).all()


def test_keeps_no_wide_copy() -> None:
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    weights = integer_weights(random_checkpoint(config, SEED))
    model = FastModel(weights)
    model.step(np.array([1]), model.initial_state(1))
    assert "columns_f32" not in vars(weights.lm_head) and "columns_f32" not in vars(weights.layers[0].f_proj)
