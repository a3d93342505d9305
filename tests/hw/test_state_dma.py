"""The DMA of the state against its model: words narrower and wider than a place, streams, chained runs, pauses."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.state_dma import StateDma
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
    )


def run(lanes: int, word_bytes: int, streams: int, *, pause: str = "none", beats: int = 12, seed: int = 1) -> None:
    config = machine(lanes, word_bytes, streams)
    parameters = {"config": asdict(config), "beats": beats, "layers": 3, "steps": 3, "pause": pause}
    run_bench(StateDma(config), "lutern.sim.benches.state_dma", parameters=parameters, seed=seed)


SHAPES = [(1, 2, 2), (1, 4, 1), (2, 64, 4)]
"""Words of half a place, of one, of eight."""


@pytest.mark.parametrize("pause", ["none", "random", "bursty"])
@pytest.mark.parametrize(("lanes", "word_bytes", "streams"), SHAPES)
def test_runs(lanes: int, word_bytes: int, streams: int, pause: str) -> None:
    run(lanes, word_bytes, streams, pause=pause, seed=30 + lanes)
