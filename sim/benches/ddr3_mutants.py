"""Bench of pairs of controller and part: it runs all pairs, and records the first broken rule of each pair."""

import json
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.ddr3 import Rule
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int


@cocotb.test()
async def run(dut: Any) -> None:
    parameters = bench_parameters()
    await start(dut)
    await ClockCycles(dut.clk, parameters["cycles"])
    codes = [to_int(getattr(dut, f"errors__{number}")) for number in range(parameters["pairs"])]
    Path("rules.json").write_text(json.dumps([Rule(code).name for code in codes]))
