"""The scale unit against the golden model."""

import pytest

from lutern.hw import scale
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench

LATENCY = 5


def run(
    lanes: int,
    source: str = "none",
    sink: str = "none",
    testcase: str | None = None,
    beats: int = 300,
    streams: int = 1,
) -> None:
    values = {"results_per_cycle": lanes, "streams": streams}
    unit = scale.SumScale(HwConfig("bench", **values))
    assert unit.latency == LATENCY
    run_bench(
        unit,
        "lutern.sim.benches.scale",
        seed=11 + lanes,
        testcase=testcase,
        parameters={"config": values, "source": source, "sink": sink, "latency": LATENCY, "beats": beats},
    )


@pytest.mark.parametrize(("lanes", "streams"), [(1, 1), (2, 1), (1, 4)])
def test_values_latency_and_reset(lanes: int, streams: int) -> None:
    run(lanes, beats=1500, streams=streams)


@pytest.mark.parametrize(("source", "sink"), [("random", "random"), ("none", "bursty"), ("alternating", "after_valid")])
def test_pauses(source: str, sink: str) -> None:
    run(2, source, sink)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("constant", "bit"),
    [
        ("CUT_MAX", 1),
        ("HALF", 1),
        ("EMBED_MANTISSA_BITS", 1),
        pytest.param("CUT_VALUE_BITS", 1, marks=SLOW),
        pytest.param("SHIFT_MIN", 2, marks=SLOW),
    ],
)
def test_mutation_is_found(constant: str, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, constant, getattr(scale, constant) ^ bit)
    with pytest.raises(AssertionError, match=r"scale\.values: index \d+, cycle \d+: got 0x.* expected 0x.* seed 12"):
        run(1, testcase="edges_then_random", beats=10)
