"""The skid buffer."""

from __future__ import annotations

import pytest

from lutern.hw.pipeline import Skid
from lutern.sim.runner import run_bench

PAUSES = ("none", "random", "bursty", "alternating")


@pytest.mark.parametrize("output", [*PAUSES, "after_valid"])
@pytest.mark.parametrize("input_", PAUSES)
def test_skid(input_: str, output: str) -> None:
    run_bench(Skid(16), "lutern.sim.benches.skid", parameters={"i": input_, "o": output}, seed=31)
