# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""The memory model ddr3.v as an Elaboratable, and the DDR3 controller connected to the model for benches.

Ddr3Bench:        jobs ─► Ddr3Controller ─ DFI ─► ddr3_dfi (ddr3.v) ─► error, address of the error, refreshes
                  words ◄──────┘
Ddr3Sequence:     a reader of all words in order, Ddr3Controller and ddr3_dfi; every word is checked
Ddr3MemoryBench:  the memory of words over Ddr3Controller and ddr3_dfi
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, Const, DomainRenamer, Elaboratable, Instance, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Controller, Ddr3Timings, WordPort, connect_member, ddr3_memory

SOURCE = Path(__file__).with_name("ddr3.v")
COMMAND_PINS = ("cs_n", "ras_n", "cas_n", "we_n", "ba", "a")
OUTPUTS = ("reset_n", "cke", "odt", "wrdata_en", "rddata_en", "wrdata")
FILL = 0x9E3779B1
"""If the bench fills the part, each 32-bit slice of a word is the word's address times ``FILL``, modulo 2^32."""


class Rule(IntEnum):
    """The values of the model's ``error``: the rule that was broken."""

    NONE = 0
    POWER = 1
    XPR = 2
    MRD = 3
    MOD = 4
    ZQ = 5
    DLLK = 6
    INIT = 7
    RC = 8
    RAS = 9
    RP = 10
    RCD = 11
    RRD = 12
    FAW = 13
    CCD = 14
    RTP = 15
    RTW = 16
    WTR = 17
    WR = 18
    RFC = 19
    POSTPONED = 20
    DECAYED = 21
    STATE = 22
    PHASE = 23
    UNKNOWN = 24


class Ddr3Model(Elaboratable):
    """A model of PHY and part, clocked by ``domain`` and connected to ``dfi`` of a controller. If ``fill`` is true, the
    words have the contents that ``FILL`` describes.

    Attributes: ``error``, ``error_address`` and ``refreshes`` of the model.
    """

    def __init__(self, dfi: Any, timings: Ddr3Timings, domain: str = "memory", fill: bool = False) -> None:
        self.dfi, self.timings, self.domain, self.fill = dfi, timings, domain, fill
        self.error, self.refreshes = Signal(5), Signal(32)
        self.error_address = Signal(timings.bank_bits + timings.row_bits)

    @property
    def parameters(self) -> dict[str, int]:
        """The parameters of the Verilog module."""
        t = self.timings
        geometry = {
            "WORD_BITS": t.word_bits,
            "BANK_BITS": t.bank_bits,
            "ROW_BITS": t.row_bits,
            "PAGE_BITS": t.page_bits,
            "PIN_BITS": t.pin_address_bits,
            "FILL": int(self.fill),
            "CL": t.cl,
            "CWL": t.cwl,
            "RL": t.read_latency,
            "WL": t.write_latency,
            **{f"MR{number}": value for number, value in enumerate(t.mode_registers)},
        }
        times = {
            **{f"T{name.upper()}": getattr(t, name) for name in ("rc", "ras", "rp", "rcd", "rrd", "faw", "ccd", "rtp")},
            **{f"T{name.upper()}": getattr(t, name) for name in ("wtr", "wr", "rfc", "mrd", "mod", "xpr")},
            "TZQ": t.zq_init,
            "TDLLK": t.dll_lock,
            "TRESET": t.reset_low,
            "TWAKE": t.wake,
            "TREFI": t.refi,
            "REFRESH_LIMIT": t.refresh_limit,
        }
        return geometry | times

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        dfi = self.dfi
        m.submodules.part = Instance(
            "ddr3_dfi",
            **{f"p_{name}": value for name, value in self.parameters.items()},
            **{f"i_p0_{name}": getattr(dfi.p0, name) for name in COMMAND_PINS},
            **{f"i_p1_{name}": getattr(dfi.p1, name) for name in COMMAND_PINS},
            **{f"i_{name}": getattr(dfi, name) for name in OUTPUTS},
            i_clk=ClockSignal(self.domain),
            o_rddata=dfi.rddata,
            o_error=self.error,
            o_error_address=self.error_address,
            o_refreshes=self.refreshes,
        )
        return m


def _results(timings: Ddr3Timings) -> dict[str, Any]:
    return {"error": Out(5), "error_address": Out(timings.bank_bits + timings.row_bits), "refreshes": Out(32)}


class Ddr3Bench(wiring.Component):
    """Controller and part in one clock domain. ``part`` are the timings that the model checks, by default the
    controller's timings."""

    def __init__(self, timings: Ddr3Timings, part: Ddr3Timings | None = None) -> None:
        self.timings, self.part = timings, part or timings
        self.controller = Ddr3Controller(timings)
        super().__init__({"port": In(WordPort(self.controller.shape)), **_results(timings)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.controller = controller = self.controller
        m.submodules.model = model = Ddr3Model(controller.dfi, self.part, "sync")
        wiring.connect(m, wiring.flipped(self.port), controller.port)
        m.d.comb += [getattr(self, name).eq(getattr(model, name)) for name in ("error", "error_address", "refreshes")]
        return m


class Ddr3Sequence(wiring.Component):
    """Reads the whole part in order, again and again, with jobs of full bursts.

    Members: ``words`` counts the words that arrived, ``wrong`` the wrong words, and ``cycles`` the cycles from the
    first word to the last word. ``error`` and ``refreshes`` are outputs of the model.
    """

    def __init__(self, timings: Ddr3Timings) -> None:
        self.timings = timings
        self.controller = Ddr3Controller(timings)
        super().__init__({"words": Out(32), "wrong": Out(32), "cycles": Out(32), **_results(timings)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, port = self.timings, self.controller.port
        m.submodules.controller = self.controller
        m.submodules.model = model = Ddr3Model(self.controller.dfi, t, "sync", fill=True)
        burst = self.controller.shape.burst
        address, awaited = Signal(t.address_bits), Signal(t.address_bits)
        page = Signal(t.address_bits - t.page_bits)
        pattern, now = Signal(32), Signal(32)
        m.d.comb += [
            port.job.valid.eq(1),
            port.job.p.length.eq(burst),
            port.job.p.address.eq(address),
            page.eq(address[t.page_bits :] + 1),
            port.ahead.eq(page << t.page_bits),
            pattern.eq((awaited * FILL)[:32]),
        ]
        with m.If(port.job.ready):
            m.d.sync += address.eq(address + burst)
        with m.If(port.valid):
            m.d.sync += [
                awaited.eq(awaited + 1),
                self.words.eq(self.words + 1),
                self.cycles.eq(now),
                self.wrong.eq(self.wrong + (port.word != pattern.replicate(t.word_bits // 32))),
            ]
        m.d.sync += now.eq(Mux((self.words == 0) & ~port.valid, Const(1), now + 1))
        m.d.comb += [getattr(self, name).eq(getattr(model, name)) for name in ("error", "error_address", "refreshes")]
        return m


class Ddr3Sequences(wiring.Component):
    """One `Ddr3Sequence` for each part, in one bench. ``results`` has an entry with the members of each, and ``others``
    more entries at the end."""

    def __init__(self, parts: Sequence[Ddr3Timings], others: int = 0) -> None:
        self.readers = [Ddr3Sequence(part) for part in parts]
        one = wiring.Signature({name: member for name, member in self.readers[0].signature.members.items()})
        super().__init__({"results": Out(one).array(len(parts) + others)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for number, reader in enumerate(self.readers):
            m.submodules[f"reader_{number}"] = reader
            wiring.connect(m, reader, wiring.flipped(self.results[number]))
        return m


class Ddr3MemoryBench(wiring.Component):
    """The whole memory of words and its DDR3 part, with both clock domains on one clock.

    Members: the members of the memory except ``dfi``, and ``error`` and ``refreshes`` of the model.
    """

    def __init__(self, config: HwConfig, timings: Ddr3Timings) -> None:
        self.config, self.timings = config, timings
        self.memory = ddr3_memory(config, timings)
        self._shared = [name for name in self.memory.signature.members if name != "dfi"]
        super().__init__({**{name: self.memory.signature.members[name] for name in self._shared}, **_results(timings)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = DomainRenamer({"memory": "sync"})(self.memory)
        m.submodules.model = model = Ddr3Model(self.memory.dfi, self.timings, "sync")
        m.d.comb += [getattr(self, name).eq(getattr(model, name)) for name in ("error", "error_address", "refreshes")]
        for name in self._shared:
            connect_member(m, self, self.memory, name)
        return m


__all__ = ["FILL", "SOURCE", "Ddr3Bench", "Ddr3MemoryBench", "Ddr3Model", "Ddr3Sequence", "Ddr3Sequences", "Rule"]
