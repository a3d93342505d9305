"""Jumps over periods change no cycle. The model gives the same result with and without jumps, also where the RTL is too
slow to compare."""

from __future__ import annotations

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure import cycles
from lutern.measure.steady import Steady, Times, Visitor
from lutern.model_ref.config import ModelConfig

WIDE = ModelConfig(vocab_size=40, hidden_size=256, num_hidden_layers=4, intermediate_size=128)
DEMO = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)
NARROW = ModelConfig(vocab_size=400, hidden_size=64, num_hidden_layers=7, intermediate_size=192)
STREAMED = HwConfig(
    "streamed",
    rows=5,
    columns=4,
    streams=4,
    source="streamed",
    word_bytes=2,
    memory_words=1 << 19,
    trit_fifo_words=256,
    gain_fifo_words=256,
    max_state=8192,
    max_vocab=400,
)
MACHINES = (
    (preset("sim-64"), WIDE, 1),
    (preset("resident-85f"), WIDE, 1),
    (STREAMED, WIDE, 1),
    (STREAMED, NARROW, 3),
    (STREAMED.with_(name="short", trit_fifo_words=16, gain_fifo_words=64, gain_fifo_groups=3), NARROW, 1),
    (STREAMED.with_(name="slow lanes", columns=2, codes_per_cycle=2, word_bytes=2), WIDE, 1),
    (preset("stream-x16"), DEMO, 8),  # rows are fetched long before the model has computed the reader of records so far
    (HwConfig("four results", rows=8, columns=8, streams=2, results_per_cycle=4, max_vocab=400), NARROW, 2),
)


@pytest.mark.parametrize("chained", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "chained"])
@pytest.mark.parametrize(("config", "model", "streams"), MACHINES, ids=lambda item: getattr(item, "name", None))
def test_no_cycle_changes(
    config: HwConfig, model: ModelConfig, streams: int, chained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cycles.token_cycles(model, config, streams, chained=chained)
    jumped = []
    jump = Steady.jump
    monkeypatch.setattr(Steady, "jump", lambda self, most: jumped.append(jump(self, most)) or jumped[-1])
    assert cycles.token_cycles(model, config, streams, chained=chained) == found
    assert sum(jumped) > 0, "the model must jump"
    monkeypatch.setattr(Steady, "jump", lambda self, most: 0)
    assert cycles.token_cycles(model, config, streams, chained=chained) == found


class Counting:
    """A state of two times and a count."""

    def __init__(self) -> None:
        self.clock, self.still, self.left = 0, 100, 50

    def visit(self, visitor: Visitor) -> None:
        self.clock, self.still = visitor.time(self.clock), visitor.time(self.still)
        self.left = visitor.count(self.left)

    def period(self) -> None:
        self.clock, self.left = self.clock + 7, self.left - 2


def test_a_jump_ends_before_a_count_runs_out() -> None:
    state = Counting()
    steady = Steady(state.visit, lambda: state.clock)
    for _ in range(2):
        state.period()
        assert steady.jump(1000) == 0
    state.period()
    assert steady.jump(1000) == 21
    assert (state.clock, state.still, state.left) == (7 * 24, 100, 2)


def test_times_of_different_speeds_forbid_a_jump() -> None:
    """Two times that grow at different speeds forbid a jump, because one time would overtake the other."""
    state = Counting()
    steady = Steady(state.visit, lambda: state.clock)
    for _ in range(6):
        state.period()
        state.still += 3
        assert steady.jump(1000) == 0


def test_times() -> None:
    times = Times([1, 2, 3, 7, 11, 20], most=6)
    assert [times.back(place) for place in range(1, 7)] == [20, 11, 7, 3, 2, 1]
    times.append(21)
    assert (len(times), times.pop(), times.pop(), times.back(1)) == (6, 2, 3, 21)
    times.forget(20)
    assert (len(times), times.pop()) == (2, 20)
