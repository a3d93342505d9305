"""The FIFO at the end of a pipeline that never stalls."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw.pipeline import CREDITS, FIFO_BITS, ROOM, CreditFifo, credits
from lutern.sim.benches.with_pipeline import FreePipeline
from lutern.sim.runner import run_bench

PAUSES = ("none", "random", "bursty", "alternating")


def run(
    stages: int, bits: int = 16, *, input_: str = "none", output: str = "none", testcase: str | None = None
) -> None:
    run_bench(
        FreePipeline(bits, stages),
        "lutern.sim.benches.credits",
        seed=37,
        testcase=testcase,
        parameters={"i": input_, "o": output, "bits": bits, "latency": stages + CreditFifo.latency},
    )


@pytest.mark.parametrize("stages", [0, 1, CREDITS - ROOM - 1])
def test_full_rate_and_room(stages: int) -> None:
    run(stages)


def test_a_wide_item_lies_in_several_fifos() -> None:
    run(3, 2 * FIFO_BITS + 1, output="random")


@pytest.mark.parametrize("output", [*PAUSES, "after_valid"])
@pytest.mark.parametrize("input_", PAUSES[:3])
def test_pauses(input_: str, output: str) -> None:
    run(7, input_=input_, output=output)


def test_a_fifo_shorter_than_the_credits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = credits.SyncFIFO

    def shorter(*, width: int, depth: int) -> Any:
        return fifo(width=width, depth=depth - 1)

    monkeypatch.setattr(credits, "SyncFIFO", shorter)
    with pytest.raises(AssertionError):
        run(2, output="bursty", testcase="items_pass")
