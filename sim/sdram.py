# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""The memory model sdram.v as an Elaboratable, and the SDRAM controller connected to the model for benches.

SdramBench:   jobs ─► SdramController ─► sdram_board (sdram.v) ─► error, address of the error, refreshes
              words ◄──────┘
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, DomainRenamer, Elaboratable, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory import SdramTimings, WordPort, connect_member, sdram_memory
from lutern.hw.memory.sdram_controller import SdramController, SdramPins

SOURCE = Path(__file__).with_name("sdram.v")


class Rule(IntEnum):
    """The values of the model's ``error``: the rule that was broken."""

    NONE = 0
    INIT = 1
    RC = 2
    RAS = 3
    RP = 4
    RCD = 5
    RRD = 6
    WR = 7
    RFC = 8
    MRD = 9
    STATE = 10
    DECAYED = 11
    UNKNOWN = 12
    CONTENTION = 13


class SdramModel(Elaboratable):
    """A model of the part with its I/O registers, clocked by ``domain`` and connected to ``pins`` of a controller.

    Attributes: ``error``, ``error_address`` and ``refreshes`` of the model.
    """

    def __init__(self, pins: Any, timings: SdramTimings, domain: str = "memory") -> None:
        self.pins, self.timings, self.domain = pins, timings, domain
        self.error, self.refreshes = Signal(4), Signal(32)
        self.error_address = Signal(timings.bank_bits + timings.row_bits)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, pins = self.timings, self.pins
        parameters = {
            "DATA_BITS": t.data_bits,
            "BANK_BITS": t.bank_bits,
            "ROW_BITS": t.row_bits,
            "COLUMN_BITS": t.column_bits,
            "PIN_BITS": t.pin_address_bits,
            "CL": t.cas_latency,
            "TRC": t.rc,
            "TRAS": t.ras,
            "TRP": t.rp,
            "TRCD": t.rcd,
            "TRRD": t.rrd,
            "TWR": t.wr,
            "TRFC": t.rfc,
            "TMRD": t.mrd,
            "REFRESH_LIMIT": t.refresh_limit,
            "POWER_UP": t.power_up,
        }
        outputs = ("cke", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a", "dqm", "dq_o", "dq_oe")
        m.submodules.board = Instance(
            "sdram_board",
            **{f"p_{name}": value for name, value in parameters.items()},
            **{f"i_{name}": getattr(pins, name) for name in outputs},
            i_clk=ClockSignal(self.domain),
            o_dq_i=pins.dq_i,
            o_error=self.error,
            o_error_address=self.error_address,
            o_refreshes=self.refreshes,
        )
        return m


class SdramBench(wiring.Component):
    """Controller and part in one clock domain. ``part`` are the timings that the model checks, by default the
    controller's timings."""

    def __init__(self, timings: SdramTimings, part: SdramTimings | None = None) -> None:
        self.timings, self.part = timings, part or timings
        self.controller = SdramController(timings)
        super().__init__(
            {
                "port": In(WordPort(self.controller.shape)),
                "error": Out(4),
                "error_address": Out(timings.bank_bits + timings.row_bits),
                "refreshes": Out(32),
                **{f"pin_{name}": Out(member.shape) for name, member in self.controller.pins.signature.members.items()},
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.controller = controller = self.controller
        m.submodules.model = model = SdramModel(controller.pins, self.part, "sync")
        wiring.connect(m, wiring.flipped(self.port), controller.port)
        pins = controller.pins.signature.members
        m.d.comb += [
            *(getattr(self, name).eq(getattr(model, name)) for name in ("error", "error_address", "refreshes")),
            *(getattr(self, f"pin_{name}").eq(getattr(controller.pins, name)) for name in pins),
        ]
        return m


class SdramMemoryBench(wiring.Component):
    """The whole memory and its SDRAM part, with both clock domains on one clock.

    Members: the members of the memory except the pins. Bits of ``stuck`` are read as 1 in every word. Bits of
    ``joined`` are 0 at the pins A when a column is selected. ``words`` counts the words that have left at ``o_words``.
    ``error`` and ``refreshes`` are outputs of the model.
    """

    def __init__(self, config: HwConfig, timings: SdramTimings) -> None:
        self.config, self.timings = config, timings
        self.memory = sdram_memory(config, timings)
        self._shared = [name for name in self.memory.signature.members if name != "pins"]
        super().__init__(
            {
                **{name: self.memory.signature.members[name] for name in self._shared},
                "stuck": In(timings.data_bits),
                "joined": In(timings.pin_address_bits),
                "error": Out(4),
                "refreshes": Out(32),
                "words": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        memory, pins = self.memory, self.memory.pins
        m.submodules.memory = DomainRenamer({"memory": "sync"})(memory)
        wires = SdramPins(self.timings).create()
        m.submodules.model = model = SdramModel(wires, self.timings, "sync")
        for name in SdramPins(self.timings).members:
            if name != "dq_i":
                m.d.comb += getattr(wires, name).eq(getattr(pins, name))
        with m.If(pins.ras_n & ~pins.cas_n):
            m.d.comb += wires.a.eq(pins.a & ~self.joined)
        m.d.comb += [pins.dq_i.eq(wires.dq_i | self.stuck), self.error.eq(model.error)]
        m.d.comb += self.refreshes.eq(model.refreshes)
        with m.If(memory.o_words.valid & memory.o_words.ready):
            m.d.sync += self.words.eq(self.words + 1)
        for name in self._shared:
            connect_member(m, self, memory, name)
        return m


__all__ = ["SOURCE", "Rule", "SdramBench", "SdramMemoryBench", "SdramModel"]
