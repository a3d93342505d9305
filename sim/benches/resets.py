"""A reset in the middle of a vector, for benches with one source, one sink, and a method `restart` that resets the
reference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge


async def reset_after(dut: Any, bench: Any, sent_count: int, items: Iterable[int]) -> None:
    """Reset when ``sent_count`` items have been sent since the start. Then ``items`` replace the queued items."""
    while bench.source.sent_count < sent_count:
        await FallingEdge(dut.clk)
    await RisingEdge(dut.clk)
    dut.rst.value = 1
    bench.restart()
    bench.sink.received.clear()
    bench.source.clear()
    bench.source.queue(items)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
