"""Bench of the bench helpers: a register stage, right or broken, between a source and a sink."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start


@cocotb.test()
async def items_pass_in_order(dut: Any) -> None:
    parameters, seed = bench_parameters(), bench_seed()
    source = StreamSource(dut, "i", pause=parameters["source"], seed=seed)
    sink = StreamSink(dut, "o", pause=parameters["sink"], seed=seed + 1)
    board = Scoreboard("stage", seed=seed, bits=8)
    entered = StreamMonitor(dut, "i", on_item=lambda cycle, payload: board.expect(payload + parameters["error"]))
    left = StreamMonitor(dut, "o", on_item=board.check)
    await start(dut)
    items = [random.Random(seed).randrange(256) for _ in range(200)]
    source.queue(items)
    assert await sink.receive(200, timeout_cycles=200) == items
    await ClockCycles(dut.clk, 5)
    assert board.finish() == len(left.items) == 200
    latencies = {b - a for (a, _), (b, _) in zip(entered.items, left.items, strict=True)}
    print(f"latencies {sorted(latencies)}, {left.items[-1][0] - left.items[0][0] + 1} cycles")
    if parameters["source"] == parameters["sink"] == "none":
        assert latencies == {1}
        assert left.items[-1][0] - left.items[0][0] == 199
