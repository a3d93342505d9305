"""The integer network compared with the published float32 logits, and properties of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lutern.model_ref import mlgru
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EmbeddingTable
from lutern.model_ref.fixed import Clipped, Int
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.ranges import row_bounds
from lutern.model_ref.synthetic import random_checkpoint

TINY = Path(__file__).parents[1] / "data" / "tiny"
PUBLISHED_FLOAT16_ERROR = 0.028
SEED = 3


def relative(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return the relative RMS error."""
    return float(np.sqrt(((got - wanted) ** 2).sum() / (wanted**2).sum()))


def logits(model: IntegerModel | FloatModel, ids: np.ndarray) -> np.ndarray:
    """Return the logits [T, V] of one stream."""
    state = model.initial_state(1)
    rows = []
    for token in ids:
        row, state = model.step(np.array([token]), state)
        rows.append(np.asarray(row)[0])
    return np.array(rows, dtype=np.float64)


def test_closer_to_float32_than_the_published_float16_path() -> None:
    expected = np.load(TINY / "expected.npz")
    model = IntegerModel(integer_weights(load_checkpoint(TINY)))
    assert relative(logits(model, expected["ids"]), expected["logits"]) <= PUBLISHED_FLOAT16_ERROR


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(vocab_size=64, hidden_size=96, num_hidden_layers=3, intermediate_size=256),
        ModelConfig(vocab_size=64, hidden_size=128, num_hidden_layers=2, intermediate_size=352, use_lower_bound=False),
    ],
    ids=["odd-width", "no-lower-bound"],
)
def test_close_to_float_on_other_shapes(config: ModelConfig) -> None:
    checkpoint = random_checkpoint(config, SEED)
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, 24)
    got = logits(IntegerModel(integer_weights(checkpoint)), ids)
    assert relative(got, logits(FloatModel(checkpoint), ids)) <= PUBLISHED_FLOAT16_ERROR, f"seed {SEED}"


def test_streams_do_not_touch_each_other() -> None:
    """In a batch, each stream gets the same bits as it gets alone."""
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    model = IntegerModel(integer_weights(random_checkpoint(config, SEED)))
    ids = np.random.default_rng(SEED).integers(0, 40, (6, 3))
    state = model.initial_state(3)
    together = []
    for row in ids:
        values, state = model.step(row, state)
        together.append(values)
    for stream in range(3):
        assert np.array_equal(np.array(together)[:, stream], logits(model, ids[:, stream])), f"seed {SEED}"


def test_a_block_of_a_prompt_is_its_tokens_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a prompt, all streams work on one text, and each layer passes its state from token to token."""
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=3, intermediate_size=48)
    model = IntegerModel(integer_weights(random_checkpoint(config, SEED)))
    prompt = np.random.default_rng(SEED).integers(0, 40, 11)
    state = model.initial_state(1)
    alone = []
    for token in prompt:
        sums, scale, state = model.decode(np.array([token]), state)
        alone.append((sums[0], scale[0][0], scale[1][0]))

    own = mlgru.update_state

    def chained(state: Int, z: Int, i: Int, frac_bits: int, clipped: Clipped | None = None) -> Int:
        left = [state[:1]]
        for stream in range(len(z)):
            left.append(own(left[-1], z[stream : stream + 1], i[stream : stream + 1], frac_bits, clipped))
        return np.concatenate(left[1:])

    monkeypatch.setattr(mlgru, "update_state", chained)
    block, together = model.initial_state(1), []
    for part in (prompt[:4], prompt[4:8], prompt[8:]):  # blocks of 4 tokens; the last one is shorter
        sums, scale, block = model.decode(part, np.repeat(block[:, -1:], len(part), axis=1))
        together += list(zip(sums, *scale, strict=True))
    assert np.array_equal(block[:, -1:], state), f"seed {SEED}"
    for token, (wanted, got) in enumerate(zip(alone, together, strict=True)):
        assert all(np.array_equal(a, b) for a, b in zip(wanted, got, strict=True)), f"token {token}, seed {SEED}"


def test_trace_shows_every_stage_in_order() -> None:
    config = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    model = IntegerModel(integer_weights(random_checkpoint(config, SEED)))
    seen: list[tuple[str, int, int]] = []
    model.decode(np.array([1]), model.initial_state(1), lambda stage, layer, v: seen.append((stage, layer, v.shape[1])))
    layer = [
        ("codes", 32),
        ("codes", 32),
        ("codes", 32),
        ("S", 32),
        ("codes", 32),
        ("h", 32),
        ("codes", 32),
        ("codes", 48),
        ("h", 32),
    ]
    wanted = [("h", -1, 32)] + [(s, index, n) for index in range(2) for s, n in layer]
    assert seen == [*wanted, ("codes", 2, 32), ("sums", 2, 40)]


def test_bounds_hold_for_any_text() -> None:
    """|BL(x)| is within its bound for any input; the test uses the worst input of each row."""
    random = np.random.default_rng(SEED)
    trits = random.integers(-1, 2, (16, 64)).astype(np.int8)
    gains = (1 + 0.3 * random.standard_normal(64)).astype(np.float32)
    bounds = row_bounds(trits, 0.05, gains)
    for row in range(16):
        aimed = trits[row] * gains
        t = aimed / np.linalg.norm(aimed) * np.sqrt(64)
        u = t * gains
        codes = np.rint(127 * u / np.abs(u).max())
        assert abs(codes @ trits[row]) * 0.05 * np.abs(u).max() / 127 <= bounds[row], f"row {row}, seed {SEED}"


def test_embedding_codes_hold_bfloat16_exactly() -> None:
    import ml_dtypes

    table = np.random.default_rng(SEED).standard_normal((50, 64)).astype(ml_dtypes.bfloat16).astype(np.float32)
    coded = EmbeddingTable.from_real(table).real()
    close = np.abs(table) >= np.abs(table).max() * 2.0**-15
    assert np.array_equal(coded[close], table[close]), f"seed {SEED}"
    assert np.abs(coded - table).max() <= np.abs(table).max() * 2.0**-18
