"""The memory of words over a source that is late, pauses at random, or is broken: hw/memory/words.py and its sides."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.memory import source_side, source_watch
from lutern.sim.runner import run_bench
from lutern.sim.word_memory import WordMemoryBench

VALUES: dict[str, Any] = {
    "rows": 5,
    "columns": 8,
    "codes_per_cycle": 4,
    "source": "streamed",
    "memory": "port",
    "word_bytes": 8,
    "memory_words": 128,
}
WATCH_CYCLES = 500


def run_words(
    monkeypatch: pytest.MonkeyPatch, state: str, latency: int, pause: str, testcase: Any = None, seed: int = 95
) -> None:
    monkeypatch.setattr(source_watch, "WATCH_CYCLES", WATCH_CYCLES)
    monkeypatch.setattr(source_watch, "ACCEPT_CYCLES", WATCH_CYCLES)
    values = {**VALUES, "state": state}
    run_bench(
        WordMemoryBench(HwConfig("bench", **values), latency, pauses=True),
        "lutern.sim.benches.word_memory",
        seed=seed,
        testcase=testcase,
        parameters={"config": values, "pause": pause, "latency": latency, "watch_cycles": WATCH_CYCLES},
    )


@pytest.mark.parametrize(
    ("state", "latency", "pause"),
    [("memory", 60, "random"), pytest.param("block", 200, "bursty", marks=pytest.mark.slow)],
)
def test_words(state: str, latency: int, pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_words(monkeypatch, state, latency, pause)


def test_mutation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs for which there is no room."""
    monkeypatch.setattr(source_side, "ROOM_BURSTS", -8)
    with pytest.raises(AssertionError, match="seed"):
        run_words(monkeypatch, "memory", 60, "bursty", testcase="the_stream_repeats")
