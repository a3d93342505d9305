# amaranth: UnusedElaboratable=no
# The simulation of a component may be in the cache: then it is asked for its ports alone.
"""A machine with its DDR3 through the PHY, models of its cells and the pins of the part: what leveling is for.

    tick ─► clocks pll, init ─► Ddr3Clocks ─► edge, memory
    sync ─► Top or SerialTop ─ dfi, levels ─► Ddr3Phy ─► cells (ecp5_ddr3_cells.v) ─► ddr3_pins ─► ddr3_dfi

The machine's words are the part's, as in `DramTop`, whose simulation ends at DFI and is 10 times as fast.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Phy, Ddr3Timings, connect_member, timings_for
from lutern.hw.top import SerialTop, Top
from lutern.sim.ddr3_phy import FLIGHT_BITS, Ddr3Pads, add_clocks
from lutern.sim.dram import HIDDEN

STROBE_ERROR = 31
"""Code of ``part_error`` for a strobe or data that were not on time at the pins; ddr3.v has the others."""


def wires_layout(timings: Ddr3Timings) -> data.StructLayout:
    """What is between chip and part: ticks of each byte's flight; faults as in ddr3_pins.v."""
    byte_count = timings.data_bits // 8
    return data.StructLayout(
        {"flight": data.ArrayLayout(FLIGHT_BITS, byte_count), "cut": byte_count, "absent": timings.pin_address_bits}
    )


class Ddr3PinsTop(wiring.Component):
    """A machine with its DDR3 part behind the PHY's cells.

    Parameters: as those of ``Top``, and with ``divisor`` of ``SerialTop``. Members: the machine's but for those of the
    part; ``wires`` between chip and part; ``part_error``, ``part_error_address`` of the models. Attributes:
    ``part_timings``. Domains: sync; tick, MEMORY_TICKS of which are a cycle of the memory's clock.
    """

    part_model = "ddr3_pins"

    def __init__(self, config: HwConfig, divisor: int | None = None, timings: Ddr3Timings | None = None) -> None:
        self.config, self.timings = config, timings
        part = timings or timings_for(config)
        assert isinstance(part, Ddr3Timings), f"memory {config.memory} has no DDR3"
        self.part_timings = part
        self.machine: Any = Top(config, timings) if divisor is None else SerialTop(config, divisor, timings)
        if divisor is not None:
            self.divisor = divisor
        self._shared = [name for name in self.machine.signature.members if name not in HIDDEN]
        super().__init__(
            {
                **{name: self.machine.signature.members[name] for name in self._shared},
                "wires": In(wires_layout(part).size),
                "part_error": Out(5),
                "part_error_address": Out(part.bank_bits + part.row_bits),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t = self.part_timings
        m.submodules.machine = machine = self.machine
        m.submodules.phy = phy = Ddr3Phy(t)
        add_clocks(m, phy, "tick")
        wires = data.View(wires_layout(t), self.wires)
        m.submodules.pads = pads = Ddr3Pads(phy, wires.flight.as_value())
        wiring.connect(m, machine.dfi, phy.dfi)
        wiring.connect(m, machine.levels, phy.levels)
        m.d.comb += [
            pads.cut.eq(wires.cut),
            pads.absent.eq(wires.absent),
            self.part_error.eq(pads.error),
            self.part_error_address.eq(pads.error_address),
        ]
        with m.If(pads.strobe_error & (pads.error == 0)):
            m.d.comb += self.part_error.eq(STROBE_ERROR)
        for name in self._shared:
            connect_member(m, self, machine, name)
        return m


__all__ = ["STROBE_ERROR", "Ddr3PinsTop", "wires_layout"]
