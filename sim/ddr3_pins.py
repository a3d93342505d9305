# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""A machine, its PHY and its DDR3 part, with models of the PHY's cells and of the part's pins, for tests of leveling.

    tick ─► clocks pll, init ─► Ddr3Clocks ─► edge, memory
    sync ─► Top, SerialTop or WordsTop ─ dfi, levels ─► Ddr3Phy ─► cells (ecp5_ddr3_cells.v) ─► ddr3_pins ─► ddr3_dfi

The machine's words are stored in the model of the part, as in `DramTop`. The simulation of `DramTop` ends at DFI, but
the simulation of `Ddr3PinsTop` includes the pins. A token of the released 370M (8.8 million cycles) takes 65 s of
processor time.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.link import HostPort
from lutern.hw.memory import Ddr3Phy, Ddr3Timings, HostLevels, connect_member, ddr3_memory, timings_for
from lutern.hw.pipeline import join_streams
from lutern.hw.top import SerialTop, Top
from lutern.sim.ddr3_phy import FLIGHT_BITS, Ddr3Pads, add_clocks
from lutern.sim.dram import HIDDEN

STROBE_ERROR = 31
"""Code of ``part_error`` for a strobe or data that were late or early at the pins. The other codes are in ddr3.v."""


def wires_layout(timings: Ddr3Timings) -> data.StructLayout:
    """Return the layout of the settings of the wires between chip and part: a delay in ticks for each byte, and the
    faults of the board. ddr3_pins.v describes the fields."""
    byte_count = timings.data_bits // 8
    return data.StructLayout(
        {"flight": data.ArrayLayout(FLIGHT_BITS, byte_count), "cut": byte_count, "absent": timings.pin_address_bits}
    )


class WordsTop(wiring.Component):
    """A machine with DDR3 but without its decoder, for tests of its memory of words. The simulation compiles quickly.

    Members: the members of ``Top`` except the taps.
    """

    def __init__(self, config: HwConfig, timings: Ddr3Timings) -> None:
        self.config, self.memory = config, ddr3_memory(config, timings)
        self.levels_of_host = HostLevels(timings.data_bits // 8)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "dfi": self.memory.signature.members["dfi"],
                "levels": self.levels_of_host.signature.members["settings"],
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.host = host = HostPort(self.config)
        m.submodules.memory = memory = self.memory
        m.submodules.levels = levels = self.levels_of_host
        for source, target in (
            (self.rx, host.i_rx),
            (host.o_tx, self.tx),
            (host.o_write, memory.i_write),
            (host.o_read, memory.i_read),
            (memory.o_read, host.i_read),
            (host.o_test, memory.i_test),
            (memory.o_test, host.i_test),
            (host.o_level, levels.i),
            (levels.o, host.i_level),
        ):
            join_streams(m, source, target)
        m.d.comb += memory.running.eq(host.running)
        wiring.connect(m, memory.dfi, wiring.flipped(self.dfi))
        wiring.connect(m, levels.settings, wiring.flipped(self.levels))
        return m


class Ddr3PinsTop(wiring.Component):
    """A machine with the cells of the PHY and with its DDR3 part. If ``words_only`` is true, the machine has no
    decoder.

    Parameters: the parameters of ``Top``, or of ``SerialTop`` if ``divisor`` is given. Members: the members of the
    machine that do not go to the part, ``wires`` between chip and part, and ``part_error`` and ``part_error_address``
    of the models. Attributes: ``part_timings``. Domains: sync and tick. MEMORY_TICKS cycles of tick are one cycle of
    the memory's clock.
    """

    part_model = "ddr3_pins"

    def __init__(
        self,
        config: HwConfig,
        divisor: int | None = None,
        timings: Ddr3Timings | None = None,
        *,
        words_only: bool = False,
    ) -> None:
        self.config, self.timings = config, timings
        part = timings or timings_for(config)
        assert isinstance(part, Ddr3Timings), f"a machine with memory {config.memory} has no DDR3"
        self.part_timings = part
        self.machine: Any
        if words_only:
            self.machine = WordsTop(config, part)
        elif divisor is None:
            self.machine = Top(config, timings)
        else:
            self.machine, self.divisor = SerialTop(config, divisor, timings), divisor
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


__all__ = ["STROBE_ERROR", "Ddr3PinsTop", "WordsTop", "wires_layout"]
