"""The image memory on the chip and its reader."""

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.memory import ImageMemory
from lutern.sim.runner import run_bench

LATENCY = 2


@pytest.mark.parametrize(
    ("columns", "pause"), [(4, "none"), (16, "none"), (4, "random"), (4, "bursty"), (16, "alternating")]
)
def test_memory(columns: int, pause: str) -> None:
    values = {"columns": columns, "memory_words": 128}
    memory = ImageMemory(HwConfig("bench", **values))
    assert memory.latency == LATENCY
    run_bench(memory, "lutern.sim.tb_memory", seed=81,
              parameters={"config": values, "pause": pause, "latency": LATENCY})
