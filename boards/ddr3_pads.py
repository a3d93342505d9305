"""Connects the PHY of DDR3 to a chip: adds its clocks, and the buffers of its pins.

    PLL ─► (ECLKBRIDGECS ─►) domain pll ─► Ddr3Clocks ─► edge, memory
    dfi, levels ─► Ddr3Phy ─► OBZ: ck, commands, addresses      BB: dq, dqs

Each bidirectional pin has its own enable, from a cell that the edge clock drives.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, Const, Instance, Module, Signal
from amaranth.lib import io

from lutern.boards.ddr3_wiring import RESOURCE, Ddr3Wiring
from lutern.hw.memory import Ddr3Clocks, Ddr3Phy

OUTPUTS = ("ck", "cke", "reset_n", "odt", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a")


def add_ddr3_clocks(m: Module, phy: Ddr3Phy, clock: Signal, wiring: Ddr3Wiring) -> None:
    """Add the domains `pll`, `edge` and `memory`; ``clock`` is twice as fast as `memory`."""
    m.domains.pll = pll = ClockDomain("pll", reset_less=True)
    m.domains.edge = edge = ClockDomain("edge", reset_less=True)
    m.domains.memory = memory = ClockDomain("memory")
    if wiring.both_edges:
        m.submodules.ddr3_bridge = Instance("ECLKBRIDGECS", i_CLK0=clock, i_SEL=Const(0), o_ECSOUT=pll.clk)
    else:
        m.d.comb += pll.clk.eq(clock)
    m.submodules.ddr3_clocks = clocks = Ddr3Clocks()
    m.d.comb += [edge.clk.eq(clocks.edge), memory.clk.eq(clocks.memory)]
    m.d.comb += [getattr(clocks, name).eq(getattr(phy, name)) for name in ("stop", "reset", "ready")]


def add_ddr3_pads(m: Module, ports: Any, phy: Ddr3Phy, wiring: Ddr3Wiring) -> None:
    """Add the buffers of all pins that the board has."""
    present = ports.parts(*RESOURCE)
    for name in OUTPUTS:
        if name in present:
            _output(m, ports, name, getattr(phy.pins, name))
    for name, level in wiring.held:
        _output(m, ports, name, Const(-level, len(ports.find(*RESOURCE, name))))
    for name in ("dq", "dqs"):
        port = ports.find(*RESOURCE, name)
        given, free, taken = (getattr(phy.pins, f"{name}_{end}") for end in "ozi")
        for bit in range(len(port)):
            m.submodules[f"ddr3_{name}_{bit}"] = Instance(
                "BB", i_I=given[bit], i_T=free[bit], o_O=taken[bit], io_B=port.io[bit]
            )


def _output(m: Module, ports: Any, name: str, value: Any) -> None:
    """Add an output. Pins that the part does not use, such as higher addresses, are low."""
    m.submodules[f"ddr3_{name}"] = buffer = io.Buffer(io.Direction.Output, ports.find(*RESOURCE, name))
    m.d.comb += buffer.o.eq(value)


__all__ = ["OUTPUTS", "add_ddr3_clocks", "add_ddr3_pads"]
