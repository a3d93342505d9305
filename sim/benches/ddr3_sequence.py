"""Bench of sequential reads of several MiB, one for each part: it checks the words and the number of cycles.

For each reader it writes into ``shares.json`` the fraction of the cycles in which data came.
"""

import json
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.ddr3 import Rule
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int


@cocotb.test()
async def share_of_the_cycles(dut: Any) -> None:
    p = bench_parameters()
    await start(dut)
    shares = []
    for number, wanted in enumerate(p["wanted"]):
        results = {
            name: getattr(dut, f"results__{number}__{name}")
            for name in ("words", "wrong", "cycles", "error", "refreshes")
        }
        for _ in range(10_000):
            words, cycles = to_int(results["words"]), to_int(results["cycles"])
            if words >= p["words"]:
                break
            await ClockCycles(dut.clk, 2000)
        assert words >= p["words"], f"reader {number}: only {words:,} of {p['words']:,} words came"
        assert to_int(results["error"]) == 0, f"reader {number}: rule {Rule(to_int(results['error'])).name} is broken"
        assert to_int(results["wrong"]) == 0, f"reader {number}: {to_int(results['wrong'])} words are wrong"
        share, formula = 2 * words / (cycles + 1), p["formula"][number]
        shares.append(share)
        print(
            f"reader {number}: {words:,} words in {cycles:,} cycles: {share:.4%}; by the formula {formula:.4%}; "
            f"{to_int(results['refreshes']):,} refreshes"
        )
        assert share >= wanted, f"reader {number}: data came in {share:.4%} of the cycles, wanted {wanted:.1%}"
        lost, expected = cycles - 2 * words, cycles * (1 - formula)
        assert abs(lost - expected) <= 2 * p["group_cycles"][number], (
            f"reader {number}: {lost} cycles were lost, not {expected:.0f}"
        )
    Path("shares.json").write_text(json.dumps(shares))
