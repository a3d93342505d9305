"""Bench of a pipeline that never stalls: items come in order and are not lost, one item passes per cycle, and no more
items enter than the FIFO has room for."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from lutern.hw.pipeline import CREDITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start

ITEMS = 300


@cocotb.test()
async def items_pass(dut: Any) -> None:
    """Every item that enters leaves, also with pauses at input and output. If there are no pauses, one item enters per
    cycle, and each item leaves after the latency."""
    parameters, seed = bench_parameters(), bench_seed()
    bits = parameters["bits"]
    board = Scoreboard("credits", seed=seed, bits=bits)
    entered = StreamMonitor(dut, "i", on_item=lambda cycle, item: board.expect(item))
    left = StreamMonitor(dut, "o", on_item=board.check)
    source = StreamSource(dut, "i", pause=parameters["i"], seed=seed)
    sink = StreamSink(dut, "o", pause=parameters["o"], seed=seed + 1)
    await start(dut)
    draw = random.Random(seed)
    source.queue(draw.getrandbits(bits) for _ in range(ITEMS))
    await sink.receive(ITEMS)
    board.finish()
    if parameters["i"] == parameters["o"] == "none":
        cycles = [cycle for cycle, _ in entered.items]
        assert [cycle + parameters["latency"] for cycle in cycles] == [cycle for cycle, _ in left.items], (
            f"every item must leave after the latency, seed {seed}"
        )
        assert cycles[-1] - cycles[0] == ITEMS - 1, f"an item must enter in every cycle, seed {seed}"


@cocotb.test()
async def a_blocked_output_leaves_as_many_inside_as_have_room(dut: Any) -> None:
    """If the output is blocked, exactly ``CREDITS`` items enter. A reset drops these items."""
    dut.o__ready.value = 0
    source = StreamSource(dut, "i")
    entered = StreamMonitor(dut, "i")
    await start(dut)
    for _ in range(2):
        entered.items.clear()
        source.queue(range(2 * CREDITS))
        await ClockCycles(dut.clk, 3 * CREDITS)
        assert entered.payloads == list(range(CREDITS))
        dut.rst.value = 1
        source.clear()
        await ClockCycles(dut.clk, 2)
        await RisingEdge(dut.clk)
        dut.rst.value = 0
