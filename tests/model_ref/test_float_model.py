"""The float network compared with vectors of the published implementation, and with itself over several streams."""

from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import bits_per_character
from lutern.model_ref.float_model import FloatModel, codes

TINY = Path(__file__).parents[1] / "data" / "tiny"


@pytest.fixture(scope="module")
def model() -> FloatModel:
    return FloatModel(load_checkpoint(TINY))


def relative_rms(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)))


def test_equals_the_published_implementation(model: FloatModel) -> None:
    expected = np.load(TINY / "expected.npz")
    state = model.initial_state(1)
    for position, token in enumerate(expected["ids"]):
        hidden: list[np.ndarray] = []
        logits, state = model.step([token], state, hidden=hidden)
        where = f"position {position}"
        assert relative_rms(logits[0], expected["logits"][position]) <= 1e-5, where
        for layer, h in enumerate(hidden):
            assert relative_rms(h[0], expected["hidden"][position, layer]) <= 1e-5, f"{where}, hidden {layer}"
        assert len(hidden) == expected["hidden"].shape[1]


def test_streams_do_not_touch_each_other(model: FloatModel) -> None:
    seed = 11
    ids = np.random.default_rng(seed).integers(0, 256, (6, 3))
    together = model.initial_state(3)
    alone = [model.initial_state(1) for _ in range(3)]
    for position in range(6):
        logits, together = model.step(ids[position], together)
        for stream in range(3):
            single, alone[stream] = model.step(ids[position, stream : stream + 1], alone[stream])
            assert relative_rms(logits[stream], single[0]) <= 1e-5, f"seed {seed}, position {position}, stream {stream}"


def test_codes_round_half_away_from_zero_and_survive_zeros() -> None:
    q, step = codes(np.array([[127, 0.5, -0.5, 1.5, 2.5, -2.5]], np.float32))
    assert q.tolist() == [[127, 1, -1, 2, 3, -3]]
    assert step.tolist() == [[1]]
    q, _ = codes(np.zeros((1, 4), np.float32))
    assert not q.any()


def test_a_state_is_not_changed_by_a_step(model: FloatModel) -> None:
    _, state = model.step([1], model.initial_state(1))
    before = state.copy()
    model.step([2], state)
    assert np.array_equal(state, before)


def test_tokens_outside_the_vocabulary_are_refused(model: FloatModel) -> None:
    for ids in ([256], [-1], [[1]], [0.5]):
        with pytest.raises(LuternError, match="token number below 256"):
            model.step(ids, model.initial_state(1))


class _Uniform:
    """A model for which all characters are equally likely, so every text needs log2(V) bits per character."""

    def initial_state(self, streams: int) -> int:
        return 0

    def step(self, ids: np.ndarray, state: int) -> tuple[np.ndarray, int]:
        return np.full((len(ids), 8), 3.0), state + 1


def test_bits_per_character_of_known_distributions() -> None:
    steps: list[tuple[int, int]] = []
    bits = bits_per_character(_Uniform(), np.arange(67) % 8, streams=4, progress=lambda *at: steps.append(at))
    assert bits == pytest.approx(3.0)
    assert steps[0] == (1, 15) and steps[-1] == (15, 15)
    with pytest.raises(LuternError, match="too few for 64 streams"):
        bits_per_character(_Uniform(), np.arange(100))
