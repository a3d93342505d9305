"""The control of the results stage."""

from typing import Any

import pytest
from amaranth.hdl import Signal, Value

from lutern.hw.config import HwConfig
from lutern.hw.results import ResultsControl
from lutern.sim.runner import run_bench

SEED = 71
CASES = [
    (1, 1, 1, "none"),
    (2, 1, 1, "none"),
    (2, 1, 1, "random"),
    (2, 1, 1, "bursty"),
    (2, 1, 1, "alternating"),
    (1, 2, 2, "none"),
    (1, 2, 1, "random"),
    (2, 4, 4, "none"),
    (2, 4, 4, "random"),
    (2, 4, 3, "bursty"),
    (2, 4, 1, "alternating"),
]
"""Each case has P, T, the number of streams of the run, and the kind of pauses."""


def run(lanes: int, streams: int, active: int, pause: str, kind: type[ResultsControl] = ResultsControl) -> None:
    values = {"results_per_cycle": lanes, "streams": streams}
    run_bench(
        kind(HwConfig("bench", **values)),
        "lutern.sim.benches.results",
        seed=SEED,  # type: ignore[arg-type]
        parameters={"config": values, "active": active, "pause": pause},
    )


@pytest.mark.parametrize(("lanes", "streams", "active", "pause"), CASES)
def test_results_control(lanes: int, streams: int, active: int, pause: str) -> None:
    run(lanes, streams, active, pause)


def test_scales_one_stream_apart_are_found() -> None:
    class Mutant(ResultsControl):
        def _constants(self, m: Any, load: Value, place: Signal, loaded: Any) -> Any:
            return super()._constants(m, load, place ^ 1, loaded)

    with pytest.raises(AssertionError, match=rf"results\.sums, .* got 0x.* expected 0x.* seed {SEED}"):
        run(1, 2, 2, "none", Mutant)
