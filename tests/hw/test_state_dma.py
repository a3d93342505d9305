"""The DMA of the state against its model: words narrower and wider than a place, several streams, chained runs,
pauses."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from types import ModuleType
from typing import Any

import pytest

from lutern.hw import mlgru, state_dma
from lutern.hw.config import HwConfig
from lutern.hw.mlgru import Mlgru
from lutern.hw.state_dma import StateDma
from lutern.sim.benches.with_dma import WithDma
from lutern.sim.benches.with_shared_blocks import WithSharedBlocks
from lutern.sim.runner import run_bench


def machine(lanes: int, word_bytes: int, streams: int) -> HwConfig:
    return HwConfig(
        f"state-{lanes}-{word_bytes}-{streams}",
        rows=5 * lanes * max(1, word_bytes // 4),
        columns=4,
        results_per_cycle=lanes,
        codes_per_cycle=4,
        streams=streams,
        source="streamed",
        state="memory",
        word_bytes=word_bytes,
        max_width=64,
        max_state=4 * 128,
    )


def run(lanes: int, word_bytes: int, streams: int, *, pause: str = "none", beats: int = 12, seed: int = 1) -> None:
    config = machine(lanes, word_bytes, streams)
    parameters = {"config": asdict(config), "beats": beats, "layers": 3, "steps": 3, "pause": pause}
    run_bench(StateDma(config), "lutern.sim.benches.state_dma", parameters=parameters, seed=seed)


SHAPES = [(1, 2, 2), (1, 4, 1), (2, 64, 4)]
"""P, word bytes and T of machines whose words contain half a place, one place, and eight places."""


@pytest.mark.parametrize("pause", ["none", "random", "bursty"])
@pytest.mark.parametrize(("lanes", "word_bytes", "streams"), SHAPES)
def test_runs(lanes: int, word_bytes: int, streams: int, pause: str) -> None:
    run(lanes, word_bytes, streams, pause=pause, seed=30 + lanes)


def run_mlgru(
    lanes: int,
    word_bytes: int,
    streams: int,
    *,
    active: int = 1,
    chained: bool = False,
    beats: int = 12,
    pause: str = "none",
    memory: str = "none",
    seed: int = 1,
) -> None:
    config = machine(lanes, word_bytes, streams)
    parameters = {
        "config": asdict(config),
        "layers": 2,
        "beats": beats,
        "tokens": 5,
        "active": active,
        "group": 5,
        "chained": chained,
        "first": 0,
        "source": pause,
        "sink": pause,
        "memory": memory,
    }
    run_bench(WithSharedBlocks(WithDma(config)), "lutern.sim.benches.mlgru_with_dma", parameters=parameters, seed=seed)


RECURRENCES = [(1, 4, 1, 1, False), (2, 4, 4, 4, False), (2, 4, 4, 3, True)]


@pytest.mark.parametrize(("pause", "memory"), [("none", "none"), ("random", "bursty")])
@pytest.mark.parametrize(("lanes", "word_bytes", "streams", "active", "chained"), RECURRENCES)
def test_recurrence(
    lanes: int, word_bytes: int, streams: int, active: int, chained: bool, pause: str, memory: str
) -> None:
    run_mlgru(lanes, word_bytes, streams, active=active, chained=chained, pause=pause, memory=memory, seed=40 + streams)


def mutant(module: ModuleType, right: str, wrong: str) -> dict[str, Any]:
    """Return the names that a module defines after a passage of its source was replaced."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"the source must contain {right!r} once, but has it {source.count(right)} times"
    names: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(right, wrong), "mutant", "exec", dont_inherit=True), names)
    return names


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("[saves.eq(1), ", "[saves.eq(0), "),
        ("with m.If(used):", "with m.If(1):"),
        ("word_select(of_stream,", "word_select(self.final_stream,"),
        ("Mux(self.chained, self.final_stream, 0)", "0"),
        ("layer_base + self.state_words", "layer_base + self.state_words + 1"),
        ("m.If(~self.goes_on)", "m.If(0)"),
    ],
    ids=["not-saved", "loaded-too-early", "base", "chained", "layer", "end"],
)
def test_mutation_is_found(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateDma, "elaborate", mutant(state_dma, right, wrong)["StateDma"].elaborate)
    with pytest.raises(AssertionError, match="seed"):
        run(1, 4, 2, pause="random", beats=3, seed=3)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("~self.window.loaded", "Const(0, 1)"), ("(self.chained & source.any())", "0")],
    ids=["not-waited-for", "stream-before"],
)
def test_mutation_of_the_window_is_found(right: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = mutant(mlgru, right, wrong)["Mlgru"]
    for name in ("_s_missing", "_window"):
        monkeypatch.setattr(Mlgru, name, getattr(names, name))
    with pytest.raises(AssertionError, match="seed"):
        run_mlgru(2, 4, 4, active=2, chained=True, seed=5)
