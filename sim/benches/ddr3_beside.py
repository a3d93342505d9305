"""Bench of a component that counts by itself: it runs for a number of ticks and writes the counts into counts.json."""

import json
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int

NAMES = ("compared", "differs", "which", "reads", "writes", "bursts", "changes")


@cocotb.test()
async def runs(dut: Any) -> None:
    """Run for ``ticks`` ticks, and write the counts."""
    await start(dut)
    await ClockCycles(dut.clk, bench_parameters()["ticks"])
    Path("counts.json").write_text(json.dumps({name: to_int(getattr(dut, name)) for name in NAMES}))
