"""hw/memory/words.py and its two sides, with a source that is late, pauses at random, or is broken."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.memory import WordPort, any_part, source_side, source_watch
from lutern.hw.memory.sdram_controller import sdram_shape
from lutern.hw.top import SerialTop, Top
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


@pytest.mark.slow
def test_mutation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench finds jobs for whose words the FIFO has no room."""
    monkeypatch.setattr(source_side, "ROOM_BURSTS", -8)
    with pytest.raises(AssertionError, match="seed"):
        run_words(monkeypatch, "memory", 60, "bursty", testcase="the_stream_repeats")


def test_a_port_of_the_top() -> None:
    """With memory "port" both top levels have the word port, and its shape follows from the machine."""
    config = HwConfig("port", **{**VALUES, "memory_words": 1 << 24, "words_in_flight": 256})
    for top in (Top(config), SerialTop(config, 10)):
        shape = top.source_shape
        assert shape is not None and dict(top.signature.members)["words"].signature.members == WordPort(shape).members
        assert (shape.word_bits, shape.address_bits, shape.in_flight) == (64, 24, 256)
        assert source_side.fifo_depth(shape) == 512
    assert Top(config.with_(memory="block")).source_shape is None
    assert source_side.fifo_depth(sdram_shape(any_part(16))) == 64
