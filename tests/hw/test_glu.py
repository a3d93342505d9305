"""The channel mixer's gate against the golden model: vectors, pauses, resets, two widths."""

from dataclasses import asdict

import pytest

from lutern.hw import activation, glu
from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.sim import tb_glu
from lutern.sim.runner import run_bench

CONFIGS = {lanes: HwConfig(f"bench-{lanes}", results_per_cycle=lanes, max_width=64) for lanes in (1, 2)}


def run(lanes: int, *, source: str = "none", sink: str = "none", beats: int = 32, seed: int = 1) -> None:
    parameters = {"config": asdict(CONFIGS[lanes]), "beats": beats, "vectors": 10, "source": source, "sink": sink}
    run_bench(Glu(CONFIGS[lanes]), "lutern.sim.tb_glu", parameters=parameters, seed=seed)


@pytest.mark.parametrize("lanes", CONFIGS)
@pytest.mark.parametrize(
    ("source", "sink"),
    [("none", "none"), ("random", "random"), ("none", "bursty"), ("alternating", "after_valid"), ("bursty", "none")],
)
def test_vectors(lanes: int, source: str, sink: str) -> None:
    run(lanes, source=source, sink=sink, seed=30 + lanes)


@pytest.mark.parametrize("beats", [1, 2, 9, 10])
def test_short_vectors_meet_the_interlock(beats: int) -> None:
    run(2, beats=beats, seed=beats)
    run(2, beats=beats, source="random", sink="random", seed=beats)


def test_latency() -> None:
    assert glu.LATENCY == tb_glu.LATENCY


def test_mutation_of_the_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glu, "SILU_HALF", glu.SILU_HALF ^ 1)
    with pytest.raises(AssertionError, match=r"glu\.v: token"):
        run(1)


def test_mutation_of_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "SEGMENT_TABLE", [activation.SEGMENT_TABLE[0] ^ 1, *activation.SEGMENT_TABLE[1:]])
    with pytest.raises(AssertionError, match=r"glu\.v: token"):
        run(1)
