"""The channel mixer's gate against the golden model: vectors, pauses, resets, two values of P, one or several
streams."""

from dataclasses import asdict

import pytest
from amaranth.hdl import Cat, Const

from lutern.hw import activation, glu
from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.sim.benches import glu as tb_glu
from lutern.sim.benches.with_late_values import LateGlu
from lutern.sim.benches.with_shared_blocks import WithSharedBlocks
from lutern.sim.runner import run_bench

CONFIGS = {
    (lanes, streams): HwConfig(f"bench-{lanes}-{streams}", results_per_cycle=lanes, streams=streams, max_width=64)
    for lanes in (1, 2)
    for streams in (1, 4)
}


def run(
    lanes: int,
    *,
    source: str = "none",
    sink: str = "none",
    beats: int = 32,
    seed: int = 1,
    streams: int = 1,
    active: int = 1,
    group: int = 4,
) -> None:
    config = CONFIGS[lanes, streams]
    parameters = {
        "config": asdict(config),
        "beats": beats,
        "vectors": 10,
        "active": active,
        "group": group,
        "source": source,
        "sink": sink,
    }
    run_bench(WithSharedBlocks(LateGlu(Glu(config))), "lutern.sim.benches.glu", parameters=parameters, seed=seed)


@pytest.mark.parametrize(
    ("lanes", "streams", "active"),
    [(1, 1, 1), (2, 4, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 1, 1), (1, 4, 4)))],
)
@pytest.mark.parametrize(
    ("source", "sink"),
    [("none", "none"), ("random", "random"), ("none", "bursty"), ("alternating", "after_valid"), ("bursty", "none")],
)
def test_vectors(lanes: int, streams: int, active: int, source: str, sink: str) -> None:
    run(lanes, streams=streams, active=active, source=source, sink=sink, seed=30 + lanes)


@pytest.mark.parametrize("beats", [1, 2, 9, 10])
def test_short_vectors_meet_the_interlock(beats: int) -> None:
    run(2, beats=beats, seed=beats)
    run(2, beats=beats, source="random", sink="random", seed=beats)


@pytest.mark.parametrize(("beats", "active"), [(1, 1), (1, 4), (3, 3), (9, 2)])
def test_blocks_of_a_beat(beats: int, active: int) -> None:
    run(2, beats=beats, streams=4, active=active, group=1, seed=beats)
    run(2, beats=beats, streams=4, active=active, group=1, source="random", sink="random", seed=beats)


def test_latency() -> None:
    assert glu.Glu.latency == tb_glu.LATENCY


def test_mutation_of_the_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glu, "SILU_HALF", glu.SILU_HALF ^ 1)
    with pytest.raises(AssertionError, match=r"glu\.v: token"):
        run(1)


def test_mutation_of_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "SEGMENT_TABLE", [activation.SEGMENT_TABLE[0] ^ 1, *activation.SEGMENT_TABLE[1:]])
    with pytest.raises(AssertionError, match=r"glu\.v: token"):
        run(1)


def test_mutation_of_the_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glu, "place_of", lambda config, payload: Cat(payload.index[:5], payload.stream[0], Const(0)))
    with pytest.raises(AssertionError, match=r"glu\.v: token"):
        run(2, streams=4, active=4)
