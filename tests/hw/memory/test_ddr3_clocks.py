"""The start of the DDR3 PHY's clocks, simulated with models of the cells."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Elaboratable, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.hw.memory.ddr3_clocks import STEP_CYCLES, Ddr3Start
from lutern.sim.ddr3_phy import CELLS, INIT_TICKS, add_clocks
from lutern.sim.runner import run_bench


class StartBench(wiring.Component):
    """``Ddr3Start`` and ``Ddr3Clocks`` in a component whose ports are their signals."""

    def __init__(self) -> None:
        names = ("stop", "reset", "pause", "ready", "edge", "memory", "memory_reset")
        super().__init__({name: Out(1) for name in names})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.start = begin = Ddr3Start()
        add_clocks(m, begin)
        m.d.comb += [getattr(self, name).eq(getattr(begin, name)) for name in ("stop", "reset", "pause", "ready")]
        m.d.comb += [
            self.edge.eq(ClockSignal("edge")),
            self.memory.eq(ClockSignal("memory")),
            self.memory_reset.eq(ResetSignal("memory")),
        ]
        return m


def test_ddr3_clocks() -> None:
    run_bench(
        StartBench(),
        "lutern.sim.benches.ddr3_clocks",
        sources=[CELLS],
        parameters={"ticks": 2000, "step": STEP_CYCLES * INIT_TICKS},
    )
