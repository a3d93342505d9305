"""Bench of the DDR3 PHY: the gateware tries settings of read leveling, and exactly the expected settings must work."""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.ddr3 import Rule
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int

WAIT = 2000


async def scan(dut: Any, limit: int = 2000) -> dict[str, int]:
    """Run the scan that the parameters describe, and return the bit masks of the settings that work."""
    given = bench_parameters()
    for name in ("flight", "first", "last", "other", "rounds"):
        getattr(dut, name).value = given[name]
    await start(dut)
    for _ in range(limit):
        await ClockCycles(dut.clk, WAIT)
        if to_int(dut.done):
            break
    assert to_int(dut.done), f"the scan has not ended after {limit * WAIT} ticks"
    error = Rule(to_int(dut.error))
    assert error == Rule.NONE, f"rule {error.name} is broken at the pins"
    assert not to_int(dut.strobe_error), "a strobe or data at the pins was not on time"
    return {name: to_int(getattr(dut, name)) for name in ("right_0", "right_1", "bursts_0", "bursts_1")}


@cocotb.test()
async def settings_are_those_expected(dut: Any) -> None:
    """Each byte works with exactly the expected settings."""
    masks = await scan(dut)
    dut._log.info(" ".join(f"{name} {mask:032b}" for name, mask in masks.items()))
    wanted = bench_parameters()["wanted"]
    assert masks == wanted, f"the settings that work are seen as {masks}, wanted {wanted}"
