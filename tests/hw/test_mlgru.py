"""The recurrence against the golden model: layers, tokens, pauses, resets, two widths."""

from dataclasses import asdict

import pytest

from lutern.hw import mlgru
from lutern.hw.config import HwConfig
from lutern.hw.mlgru import Mlgru
from lutern.sim import tb_mlgru
from lutern.sim.runner import run_bench

CONFIGS = {lanes: HwConfig(f"bench-{lanes}", results_per_cycle=lanes, max_width=64, max_state=128) for lanes in (1, 2)}


def run(lanes: int, *, source: str = "none", sink: str = "none", beats: int = 16, seed: int = 1) -> None:
    config = CONFIGS[lanes]
    parameters = {"config": asdict(config), "layers": 3 if beats > 3 else 1, "beats": beats, "tokens": 6,
                  "source": source, "sink": sink}
    run_bench(Mlgru(config), "lutern.sim.tb_mlgru", parameters=parameters, seed=seed)


@pytest.mark.parametrize("lanes", CONFIGS)
@pytest.mark.parametrize(
    ("source", "sink"),
    [("none", "none"), ("random", "random"), ("none", "bursty"), ("alternating", "after_valid"), ("bursty", "none")],
)
def test_tokens(lanes: int, source: str, sink: str) -> None:
    run(lanes, source=source, sink=sink, seed=10 + lanes)


@pytest.mark.parametrize("beats", [1, 2, 3, 5, 11, 12, 13])
def test_short_vectors_meet_the_interlocks(beats: int) -> None:
    run(2, beats=beats, seed=beats)
    run(2, beats=beats, source="random", sink="random", seed=beats)


def test_latency() -> None:
    assert mlgru.LATENCY == tb_mlgru.LATENCY


@pytest.mark.parametrize("name", ["GATE_HALF", "DIFFERENCE_HALF", "STEP_HALF"])
def test_mutation_of_a_rounding_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(mlgru, name, getattr(mlgru, name) ^ 1)
    with pytest.raises(AssertionError, match=r"mlgru\.(v|S): token"):
        run(1)
