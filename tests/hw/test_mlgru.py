"""The recurrence against the golden model: layers, tokens, streams, pauses, resets, two values of P."""

from dataclasses import asdict

import pytest
from amaranth.hdl import Cat, Const, Value

from lutern.hw import mlgru
from lutern.hw.config import HwConfig
from lutern.hw.mlgru import Mlgru
from lutern.sim.benches import mlgru as tb_mlgru
from lutern.sim.benches.with_shared_blocks import WithSharedBlocks
from lutern.sim.runner import run_bench

CONFIGS = {
    (lanes, streams): HwConfig(
        f"bench-{lanes}-{streams}", results_per_cycle=lanes, streams=streams, max_width=64, max_state=128 * streams
    )
    for lanes in (1, 2)
    for streams in (1, 4)
}
PAUSES = [
    ("none", "none"),
    ("random", "random"),
    ("none", "bursty"),
    ("alternating", "after_valid"),
    ("bursty", "none"),
]


def run(
    lanes: int,
    *,
    source: str = "none",
    sink: str = "none",
    beats: int = 16,
    seed: int = 1,
    streams: int = 1,
    active: int = 1,
    group: int = 4,
    chained: bool = False,
    first: int = tb_mlgru.OFFSET,
    **changes: int,
) -> None:
    config = CONFIGS[lanes, streams].with_(**changes)
    parameters = {
        "config": asdict(config),
        "layers": 3 if beats > 3 else 1,
        "beats": beats,
        "tokens": 6,
        "active": active,
        "group": group,
        "chained": chained,
        "first": first,
        "source": source,
        "sink": sink,
    }
    run_bench(WithSharedBlocks(Mlgru(config)), "lutern.sim.benches.mlgru", parameters=parameters, seed=seed)


@pytest.mark.parametrize("lanes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("source", "sink"), PAUSES)
def test_tokens(lanes: int, source: str, sink: str) -> None:
    run(lanes, source=source, sink=sink, seed=10 + lanes)


@pytest.mark.parametrize(
    ("lanes", "active", "chained"),
    [
        (2, 4, True),
        pytest.param(1, 4, False, marks=pytest.mark.slow),
        pytest.param(2, 3, False, marks=pytest.mark.slow),
        pytest.param(1, 3, True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(("source", "sink"), PAUSES[:3])
def test_streams(lanes: int, active: int, chained: bool, source: str, sink: str) -> None:
    run(lanes, streams=4, active=active, chained=chained, source=source, sink=sink, seed=20 + lanes)


@pytest.mark.parametrize("streams", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_states_beyond_16_bits(streams: int) -> None:
    """The run uses the last of 81,920 words of state. 32 layers of 2,560 elements need this number of words."""
    run(1, streams=streams, active=streams, max_state=81_920, first=81_920 - 3 * 16 * streams, seed=30 + streams)


@pytest.mark.parametrize("beats", [1, 2, 11, 12, *(pytest.param(some, marks=pytest.mark.slow) for some in (3, 5, 13))])
def test_short_vectors_meet_the_interlocks(beats: int) -> None:
    run(2, beats=beats, seed=beats)
    run(2, beats=beats, source="random", sink="random", seed=beats)


@pytest.mark.parametrize(("beats", "group", "active"), [(1, 1, 1), (1, 1, 4), (3, 1, 2), (7, 7, 2), (12, 6, 4)])
@pytest.mark.parametrize("chained", [pytest.param(False, marks=pytest.mark.slow), True])
def test_short_blocks_meet_the_interlocks(beats: int, group: int, active: int, chained: bool) -> None:
    run(2, streams=4, beats=beats, group=group, active=active, chained=chained, seed=beats)


def test_latency() -> None:
    assert mlgru.Mlgru.latency == tb_mlgru.LATENCY


@pytest.mark.parametrize("name", ["GATE_HALF", "DIFFERENCE_HALF", "STEP_HALF"])
def test_mutation_of_a_rounding_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(mlgru, name, getattr(mlgru, name) ^ 1)
    with pytest.raises(AssertionError, match=r"mlgru\.(v|S): token"):
        run(1)


def test_mutation_of_the_hold_of_chained_streams_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_too_few(self: Mlgru, i: list[Value], place: list[Value]) -> Value:
        return missing(self, [*i[:6], Const(0, 1), *i[7:]], place)

    missing = Mlgru._s_missing
    monkeypatch.setattr(Mlgru, "_s_missing", one_too_few)
    with pytest.raises(AssertionError, match=r"mlgru\.(v|S): token"):
        run(2, streams=4, active=2, group=6, chained=True)


def test_mutation_of_the_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlgru, "place_of", lambda config, payload: Cat(payload.index[:5], payload.stream[0], Const(0)))
    with pytest.raises(AssertionError, match=r"mlgru\.(v|S): token"):
        run(2, streams=4, active=4)
