"""A helper that reads the logits of the head and of the top-k memory through the port of the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cocotb.triggers import FallingEdge, RisingEdge


async def read_back(
    dut: Any, name: str, wanted: Mapping[tuple[int, int], int], places: Iterable[tuple[int, int]], seed: int
) -> None:
    """Assert that each place (stream, address) has the wanted value. An address is driven in each cycle, and its data
    come one cycle later."""
    before: tuple[int, int] | None = None
    await RisingEdge(dut.clk)
    for stream, address in places:
        dut.logits_stream.value, dut.address.value = stream, address
        await FallingEdge(dut.clk)
        got = int(dut.data.value.to_signed())
        if before is not None:
            where = f"{name}.data: stream {before[0]}: address {before[1]}"
            assert got == wanted[before], f"{where}: got {got}, expected {wanted[before]}, seed {seed}"
        before = stream, address
        await RisingEdge(dut.clk)
