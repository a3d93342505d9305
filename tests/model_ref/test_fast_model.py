"""The fast integer network is the integer network."""

from dataclasses import replace

import numpy as np
import pytest

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fast_model import FastModel, block_sums
from lutern.model_ref.model import IntegerModel, Saturations
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 11


@pytest.mark.parametrize("streams", [1, 3, 9])
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(vocab_size=301, hidden_size=96, num_hidden_layers=3, intermediate_size=1100),
        ModelConfig(vocab_size=40, hidden_size=33, num_hidden_layers=1, intermediate_size=47, use_lower_bound=False),
    ],
    ids=["several-blocks", "odd"],
)
def test_equal_to_the_integer_model(config: ModelConfig, streams: int) -> None:
    weights = integer_weights(random_checkpoint(config, SEED))
    plain, fast = IntegerModel(weights, Saturations()), FastModel(weights, Saturations())
    plain_state, fast_state = plain.initial_state(streams), fast.initial_state(streams)
    plain_seen: list[np.ndarray] = []
    fast_seen: list[np.ndarray] = []
    for ids in np.random.default_rng(SEED).integers(0, config.vocab_size, (6, streams)):
        wanted, plain_state = plain.step(ids, plain_state, lambda stage, layer, values: plain_seen.append(values))
        got, fast_state = fast.step(ids, fast_state, lambda stage, layer, values: fast_seen.append(values))
        assert np.array_equal(got, wanted) and np.array_equal(fast_state, plain_state), f"seed {SEED}"
    assert all(np.array_equal(a, b) for a, b in zip(fast_seen, plain_seen, strict=True)), f"seed {SEED}"
    assert {values.dtype for values in fast_seen} == {np.dtype(np.int64)}


def test_saturations_are_counted_alike() -> None:
    """Projections so large that words clip, and an embedding that stands out."""
    config = ModelConfig(vocab_size=40, hidden_size=96, num_hidden_layers=2, intermediate_size=72)
    checkpoint = random_checkpoint(config, SEED)
    tensors = dict(checkpoint.tensors)
    for name in tensors:
        if name.endswith(("i_proj.weight", "gate_proj.weight")):
            tensors[name] = tensors[name] * np.float32(1e6)
    weights = integer_weights(replace(checkpoint, tensors=tensors))
    weights = replace(weights, h_frac_bits=weights.h_frac_bits + 9)
    counts = Saturations(), Saturations()
    models = IntegerModel(weights, counts[0]), FastModel(weights, counts[1])
    states = [model.initial_state(4) for model in models]
    for ids in np.random.default_rng(SEED).integers(0, config.vocab_size, (8, 4)):
        outs = [model.step(ids, state) for model, state in zip(models, states, strict=True)]
        states = [state for _, state in outs]
        assert np.array_equal(outs[0][0], outs[1][0]) and np.array_equal(*states), f"seed {SEED}"
    assert counts[0].counts == counts[1].counts and counts[0].of("i") > 0 and counts[0].of("gate") > 0


@pytest.mark.parametrize("columns", [1, 4097, 8192])
def test_largest_sums_are_exact(columns: int) -> None:
    trits = np.ones((70, columns), np.int8)
    trits[1] = -1
    codes = np.full((1, columns), 127)
    sums = block_sums(codes, trits)
    assert sums[0, 0] == 127 * columns and sums[0, 1] == -127 * columns and (sums[0, 2:] == 127 * columns).all()


def test_keeps_no_wide_copy() -> None:
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    weights = integer_weights(random_checkpoint(config, SEED))
    model = FastModel(weights)
    model.step(np.array([1]), model.initial_state(1))
    assert "columns_f32" not in vars(weights.lm_head) and "columns_f32" not in vars(weights.layers[0].f_proj)
