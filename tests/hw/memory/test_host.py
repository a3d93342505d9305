"""hw/memory/host.py, the memory whose words the host sends, without the blocks around it."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Elaboratable

from lutern.hw.config import HwConfig
from lutern.hw.memory import HostMemory
from lutern.sim.runner import run_bench

VALUES: dict[str, Any] = {
    "rows": 5,
    "columns": 2,
    "codes_per_cycle": 2,
    "source": "streamed",
    "memory": "host",
    "word_bytes": 2,
    "memory_words": 1024,
}


def run(pause: str, block: type[HostMemory] = HostMemory) -> None:
    run_bench(
        block(HwConfig("bench", **VALUES)),
        "lutern.sim.benches.host_memory",
        seed=91,
        parameters={"config": VALUES, "pause": pause, "frames": 90},
    )


@pytest.mark.parametrize("pause", ["none", "random", "bursty"])
def test_host_memory(pause: str) -> None:
    run(pause)


class Mute(HostMemory):
    """A mutant that drops a word without sending a WANT."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(~self.i_start.valid):
            m.d.sync += self.o_want.valid.eq(0)
        return m


def test_mutation_is_found() -> None:
    with pytest.raises(AssertionError, match="seed 91"):
        run("none", Mute)
