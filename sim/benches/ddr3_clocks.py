"""Bench of the start of the DDR3 PHY's clocks: the order of the steps, and the clocks that run in each step."""

from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from lutern.sim.runner import bench_parameters
from lutern.sim.streams import cycle_now, start, to_int

LEVELS = ("stop", "reset", "pause", "ready")


@cocotb.test()
async def starts_in_order(dut: Any) -> None:
    """The steps come in order with the right distances, stopped clocks do not move, and the reset lasts until the end
    of the start."""
    given = bench_parameters()
    await start(dut)
    events: list[tuple[str, int, int]] = []
    was = dict.fromkeys((*LEVELS, "edge", "memory"), 0)
    moves = dict.fromkeys(("edge", "memory"), 0)
    for _ in range(given["ticks"]):
        await FallingEdge(dut.clk)
        now = {name: to_int(getattr(dut, name)) for name in was}
        for name in LEVELS:
            if now[name] != was[name]:
                events.append((name, now[name], cycle_now()))
        stopped_for = cycle_now() - events[-1][2] if events and was["stop"] and now["stop"] else 0
        if stopped_for > given["step"] // 2:
            assert now["edge"] == was["edge"], f"edge moves while it is stopped, tick {cycle_now()}"
        if now["reset"]:
            assert not now["memory"], f"the clock of memory is high in reset, tick {cycle_now()}"
        if not now["ready"]:
            assert to_int(dut.memory_reset), f"memory has left its reset before ready, tick {cycle_now()}"
        else:
            for name in moves:
                moves[name] += now[name] != was[name]
        was = now
    wanted = [("stop", 1), ("reset", 1), ("reset", 0), ("stop", 0), ("pause", 1), ("pause", 0), ("ready", 1)]
    assert [event[:2] for event in events] == wanted, f"the steps come in a wrong order: {events}"
    steps = [(b[2] - a[2]) // given["step"] for a, b in pairwise(events)]
    assert steps == [1, 1, 1, 2, 3, 0], f"the distances between the steps are wrong: {events}"
    assert not to_int(dut.memory_reset) and moves["edge"] in (2 * moves["memory"] + n for n in (-1, 0, 1)), (
        f"edge must run twice as fast as memory, which must have left its reset: {moves}"
    )
