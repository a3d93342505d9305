"""Bench of a sequential read of several MiB: it counts the words and the slots without a word."""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int


@cocotb.test()
async def share_of_the_slots(dut: Any) -> None:
    parameters = bench_parameters()
    for name in ("i_write", "i_read", "i_start", "i_test"):
        getattr(dut, f"{name}__valid").value = 0
    dut.stuck.value, dut.joined.value = 0, 0
    dut.setup.value = parameters["setup"]
    dut.running.value = dut.o_words__ready.value = 1
    await start(dut)
    while not to_int(dut.words):
        await ClockCycles(dut.clk, 100)
    await ClockCycles(dut.clk, 3000)
    words, refreshes = to_int(dut.words), to_int(dut.refreshes)
    await ClockCycles(dut.clk, parameters["cycles"])
    words, refreshes = to_int(dut.words) - words, to_int(dut.refreshes) - refreshes
    assert to_int(dut.error) == 0
    share, formula = words / parameters["cycles"], 1 - parameters["refresh_loss"]
    print(
        f"{words:,} words in {parameters['cycles']:,} slots: {share:.4%}; by the formula {formula:.4%}; "
        f"{refreshes:,} refreshes"
    )
    lost = parameters["cycles"] - words
    expected = parameters["cycles"] * parameters["refresh_loss"]
    assert abs(lost - expected) <= 2 * parameters["group_cycles"], f"{lost} slots lost, {expected:.0f} expected"
    assert share >= parameters["wanted"]
