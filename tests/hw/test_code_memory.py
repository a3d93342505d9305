"""The code memory between quantiser and ternary unit."""

import pytest

from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench

LATENCY = 2
SHAPES = [(4, 4, 1, 2), (4, 8, 2, 2), (2, 4, 1, 4)]
"""R, C, P, Q: two, four parts and one part a beat."""


def run(shape: tuple[int, int, int, int], pause: str) -> None:
    names = ("rows", "columns", "results_per_cycle", "codes_per_cycle")
    values = {**dict(zip(names, shape, strict=True)), "max_width": 32}
    block = CodeMemory(HwConfig("bench", **values))
    assert block.latency == LATENCY
    run_bench(block, "lutern.sim.tb_code_memory", seed=61,
              parameters={"config": values, "pause": pause, "latency": LATENCY})


@pytest.mark.parametrize("shape", SHAPES)
def test_codes_latency_and_reset(shape: tuple[int, int, int, int]) -> None:
    run(shape, "none")


@pytest.mark.parametrize("pause", ["random", "bursty", "alternating"])
def test_pauses(pause: str) -> None:
    run(SHAPES[0], pause)
