"""Functions that need less logic than a plain operator, and give the same result."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from lutern.hw.pipeline import exceeds


def test_exceeds() -> None:
    """``exceeds`` equals ``>`` for all values of six bits, with all limits of six bits and some larger limits."""
    m, value = Module(), Signal(6)
    limits = [*range(64), 64, 100, 129]
    found = [Signal(name=f"found_{limit}") for limit in limits]
    m.d.comb += [flag.eq(exceeds(value, limit)) for flag, limit in zip(found, limits, strict=True)]

    async def bench(context: Any) -> None:
        for number in range(64):
            context.set(value, number)
            assert [context.get(flag) for flag in found] == [number > limit for limit in limits]

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
