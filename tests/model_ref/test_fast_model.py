"""The fast form of the integer network, compiled and in NumPy, gives exactly the results of the integer network."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lutern.model_ref import compiled_model
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fast_model import FastModel, block_sums
from lutern.model_ref.fixed import S32_MAX
from lutern.model_ref.model import IntegerModel, Saturations
from lutern.model_ref.packed_trits import PackedTrits
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 11
FORMS = {"compiled": FastModel, "numpy": partial(FastModel, compiled=False)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> object:
    return FORMS[request.param]


def assert_equal(weights: IntegerWeights, form, ids: np.ndarray, note: str, state=None) -> Saturations:
    """Check that logits, state, trace and counts of both models are equal for the tokens ``ids [T, B]``, from the given
    state or from zeros."""
    models = IntegerModel(weights, Saturations()), form(weights, Saturations())
    states = [model.initial_state(ids.shape[1]) if state is None else state for model in models]
    for row in ids:
        seen: list[list[tuple[str, int, np.ndarray]]] = [[], []]
        outs = [
            model.step(row, state, lambda *stage, found=found: found.append(stage))
            for model, state, found in zip(models, states, seen, strict=True)
        ]
        states = [state for _, state in outs]
        for (stage, layer, wanted), (*place, got) in zip(*seen, strict=True):
            assert place == [stage, layer] and np.array_equal(got, wanted), f"{stage} of layer {layer}, {note}"
            assert got.dtype == np.int64
        assert np.array_equal(outs[0][0], outs[1][0]) and np.array_equal(*states), note
    assert models[0].saturations.counts == models[1].saturations.counts, note
    return models[0].saturations


@pytest.mark.parametrize("streams", [1, 3, 9])
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(vocab_size=301, hidden_size=96, num_hidden_layers=3, intermediate_size=1100),
        ModelConfig(vocab_size=40, hidden_size=33, num_hidden_layers=1, intermediate_size=47, use_lower_bound=False),
    ],
    ids=["several-blocks", "odd"],
)
def test_equal_to_the_integer_model(config: ModelConfig, streams: int, form) -> None:
    weights = integer_weights(random_checkpoint(config, SEED))
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (6, streams))
    assert_equal(weights, form, ids, f"seed {SEED}")


def scaled(checkpoint: Checkpoint, random: np.random.Generator) -> Checkpoint:
    """Return the tensors, some multiplied by powers of ten, with some elements zero or far from the others."""
    tensors = dict(checkpoint.tensors)
    for name, tensor in tensors.items():
        powers = [-2, -1, 0, 0, 1, 2] if "norm" in name or "embeddings" in name else [-1, 0, 0, 2, 4]
        changed = tensor * np.float32(10.0 ** random.choice(powers))
        outliers = random.random(tensor.shape) < 0.02
        changed[outliers] *= np.float32(random.choice([0, 1, 30]))
        tensors[name] = changed.astype(np.float32)
    tensors["model.embeddings.weight"][0] = 0  # a token whose embedding is zero
    return replace(checkpoint, tensors=tensors)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_of_extreme_numbers(seed: int, form) -> None:
    random = np.random.default_rng(seed)
    config = ModelConfig(
        vocab_size=int(random.integers(2, 60)),
        hidden_size=int(random.integers(1, 150)),
        num_hidden_layers=int(random.integers(1, 4)),
        intermediate_size=int(random.integers(1, 300)),
        use_lower_bound=bool(random.integers(2)),
    )
    weights = integer_weights(scaled(random_checkpoint(config, seed), random))
    weights = replace(weights, h_frac_bits=weights.h_frac_bits + int(random.choice([0, 0, 5, 9])))
    ids = random.integers(0, config.vocab_size, (4, int(random.integers(1, 5))))
    ids[0, 0] = 0
    size = config.num_hidden_layers, ids.shape[1], config.hidden_size
    state = random.integers(-S32_MAX, S32_MAX, size, endpoint=True) >> random.integers(0, 40)
    assert_equal(weights, form, ids, f"seed {seed}, {config}", state)


def test_saturations_are_counted_alike(form) -> None:
    """The projections are large enough to clip words, and one embedding is much larger than the others."""
    config = ModelConfig(vocab_size=40, hidden_size=96, num_hidden_layers=2, intermediate_size=72)
    checkpoint = random_checkpoint(config, SEED)
    tensors = dict(checkpoint.tensors)
    for name in tensors:
        if name.endswith(("i_proj.weight", "gate_proj.weight")):
            tensors[name] = tensors[name] * np.float32(1e6)
    weights = integer_weights(replace(checkpoint, tensors=tensors))
    weights = replace(weights, h_frac_bits=weights.h_frac_bits + 9)
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (8, 4))
    counts = assert_equal(weights, form, ids, f"seed {SEED}")
    assert counts.of("i") > 0 and counts.of("gate") > 0 and counts.of("h") > 0
    state = np.random.default_rng(SEED).choice([-S32_MAX, S32_MAX], (2, 4, 96))
    assert assert_equal(weights, form, ids, f"seed {SEED}", state).of("S") > 0


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("streams", [1, 7])
def test_several_threads(threads: int, streams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of rows is not a multiple of the number of rows that a thread takes at a time."""
    monkeypatch.setattr(compiled_model, "THREADED_TRITS", 0)
    monkeypatch.setattr(compiled_model, "thread_count", lambda: threads)
    config = ModelConfig(vocab_size=3001, hidden_size=97, num_hidden_layers=2, intermediate_size=1501)
    weights = integer_weights(random_checkpoint(config, SEED))
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (3, streams))
    assert_equal(weights, FastModel, ids, f"seed {SEED}")


def test_largest_sums(form) -> None:
    """8,192 trits of one sign meet 8,192 codes of 127, in the down_proj of a GLU whose channels are all equal."""
    config = ModelConfig(vocab_size=4, hidden_size=8, num_hidden_layers=1, intermediate_size=8192)
    checkpoint = random_checkpoint(config, SEED)
    tensors = dict(checkpoint.tensors)
    for name in ("gate_proj.weight", "down_proj.weight", "down_proj.norm.weight"):
        full = f"model.layers.0.mlp.{name}"
        tensors[full] = np.ones_like(tensors[full])
    weights = integer_weights(replace(checkpoint, tensors=tensors))
    codes: list[np.ndarray] = []
    model = form(weights)
    model.decode(np.array([1]), model.initial_state(1), lambda stage, layer, values: codes.append(np.abs(values)))
    assert any(values.shape == (1, 8192) and (values == 127).all() for values in codes)
    assert_equal(weights, form, np.array([[1], [2], [3]]), f"seed {SEED}")


@pytest.mark.parametrize("columns", [1, 4097, 8192])
def test_largest_sums_are_exact_in_numpy(columns: int) -> None:
    trits = np.ones((70, columns), np.int8)
    trits[1] = -1
    codes = np.full((1, columns), 127)
    sums = block_sums(codes, PackedTrits.of(trits))
    assert sums[0, 0] == 127 * columns and sums[0, 1] == -127 * columns and (sums[0, 2:] == 127 * columns).all()


def test_keeps_no_wide_copy(form) -> None:
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    weights = integer_weights(random_checkpoint(config, SEED))
    model = form(weights)
    model.step(np.array([1]), model.initial_state(1))
    assert "columns_f32" not in vars(weights.lm_head) and "columns_f32" not in vars(weights.layers[0].f_proj)


def test_the_state_that_is_given_stays(form) -> None:
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    model = form(integer_weights(random_checkpoint(config, SEED)))
    state = model.initial_state(3)
    _, _, following = model.decode(np.array([1, 2, 3]), state)
    assert not state.any() and following.any()
    part = following[:, ::2]  # not contiguous, like the states of only some of the conversations
    assert np.array_equal(model.decode(np.array([4, 5]), part)[0], model.decode(np.array([4, 5]), part.copy())[0])
