"""Bench of the skid buffer: items come in order and are not lost, ready is one cycle late, and no cycle is lost."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, start, to_int

ITEMS = 300
BITS = 16


@cocotb.test()
async def items_pass(dut: Any) -> None:
    """Every item that enters leaves, also with pauses at input and output. If there are no pauses, an item leaves in
    the cycle in which it enters."""
    pauses = bench_parameters()
    board = Scoreboard("skid", seed=bench_seed(), bits=BITS)
    entered = StreamMonitor(dut, "i", on_item=lambda cycle, item: board.expect(item))
    left = StreamMonitor(dut, "o", on_item=board.check)
    source = StreamSource(dut, "i", pause=pauses["i"], seed=bench_seed())
    sink = StreamSink(dut, "o", pause=pauses["o"], seed=bench_seed() + 1)
    await start(dut)
    draw = random.Random(bench_seed())
    source.queue(draw.getrandbits(BITS) for _ in range(ITEMS))
    await sink.receive(ITEMS)
    board.finish()
    if pauses["i"] == pauses["o"] == "none":
        assert [c for c, _ in entered.items] == [c for c, _ in left.items], (
            f"every item must leave in the cycle in which it enters, seed {bench_seed()}"
        )


@cocotb.test()
async def one_item_waits(dut: Any) -> None:
    """If the output is blocked, exactly one item enters before the input stalls."""
    dut.o__ready.value = 0
    source = StreamSource(dut, "i")
    entered = StreamMonitor(dut, "i")
    await start(dut)
    source.queue([1, 2, 3])
    first = cycle_now()
    while cycle_now() < first + 10:
        await FallingEdge(dut.clk)
    assert entered.payloads == [1]
    assert to_int(dut.o__payload) == 1
