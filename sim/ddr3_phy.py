# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""The PHY of DDR3 with models of its cells and of a part's pins, and a scan of the settings of read leveling.

    clk (ticks) ─► clocks pll, init ─► Ddr3Clocks ─► edge, memory
    LevelScan ─ settings, jobs ─► Ddr3Levels, Ddr3Controller ─► Ddr3Phy ─► cells ─► ddr3_pins ─► ddr3_dfi

ecp5_ddr3_cells.v explains what this simulation proves and what it does not prove.
"""

from __future__ import annotations

from pathlib import Path

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Elaboratable, Instance, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory import Ddr3Clocks, Ddr3Controller, Ddr3Levels, Ddr3Phy, Ddr3Start, Ddr3Timings, Dfi, WordPort
from lutern.sim.ddr3 import COMMAND_PINS, SOURCE, Ddr3Model

FOLDER = Path(__file__).parent
CELLS = FOLDER / "ecp5_ddr3_cells.v"
SOURCES = [SOURCE, CELLS, FOLDER / "ddr3_pins.v"]
INIT_TICKS = 8
"""Number of ticks in a period of the clock of `init`."""
MEMORY_TICKS = 8
"""Number of ticks in a period of the clock of `memory`."""
FLIGHT_BITS = 4
PIN_PAIRS = 2
"""Delay of commands in ddr3_pins, in pairs of clocks."""
SETTINGS = 32
"""Number of settings. The highest two bits of a setting are the slip, and the lower bits are the delay."""


def add_clocks(m: Module, phy: Ddr3Phy | Ddr3Start, tick: str = "sync") -> None:
    """Add the domains `pll`, `init`, `edge` and `memory`. Their clocks come from the domain ``tick``, whose reset
    restarts the PHY."""
    m.domains.pll = pll = ClockDomain("pll", reset_less=True)
    m.domains.init = init = ClockDomain("init")
    m.domains.edge = edge = ClockDomain("edge", reset_less=True)
    m.domains.memory = memory = ClockDomain("memory")
    count = Signal(range(INIT_TICKS), reset_less=True)
    m.d[tick] += count.eq(count + 1)
    m.d.comb += [pll.clk.eq(count[1]), init.clk.eq(count[-1]), init.rst.eq(ResetSignal(tick))]
    m.submodules.clocks = clocks = Ddr3Clocks()
    m.d.comb += [edge.clk.eq(clocks.edge), memory.clk.eq(clocks.memory)]
    m.d.comb += [getattr(clocks, name).eq(getattr(phy, name)) for name in ("stop", "reset", "ready")]


class Ddr3Pads(Elaboratable):
    """The part at the pins of ``phy``, with a delay of ``flight`` ticks for each byte.

    Attributes: ``cut`` and ``absent`` are faults of the board, which are 0 by default (see ddr3_pins.v). ``error`` and
    ``error_address`` are outputs of the part's model, and ``strobe_error`` is an output of the pins' model.
    """

    def __init__(self, phy: Ddr3Phy, flight: Value) -> None:
        self.phy, self.flight, self.strobe_error = phy, flight, Signal()
        t = phy.timings
        self.cut, self.absent = Signal(phy.byte_count), Signal(t.pin_address_bits)
        self.dfi = Dfi(t.bank_bits, t.pin_address_bits, t.word_bits).create(path=("part",))
        self.model = Ddr3Model(self.dfi, t.with_(phy_read_cycles=-PIN_PAIRS), "part")
        self.error, self.error_address = self.model.error, self.model.error_address

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, pins, dfi = self.phy.timings, self.phy.pins, self.dfi
        m.domains.part = part = ClockDomain("part", reset_less=True, local=True)
        m.submodules.model = self.model
        one_way = ("ck", "reset_n", "cke", "odt", *COMMAND_PINS)
        m.submodules.pins = Instance(
            "ddr3_pins",
            p_CL=t.cl,
            p_CWL=t.cwl,
            p_BANK_BITS=t.bank_bits,
            p_PIN_BITS=t.pin_address_bits,
            **{f"i_{name}": getattr(pins, name) for name in one_way},
            **{
                f"i_{name}{end}": getattr(pins, f"{name}{of}")
                for name in ("dq", "dqs")
                for end, of in (("", "_o"), ("_z", "_z"))
            },
            **{f"o_{name}_pad": getattr(pins, f"{name}_i") for name in ("dq", "dqs")},
            i_flight=self.flight,
            i_cut=self.cut,
            i_absent=self.absent,
            o_clk=part.clk,
            **{f"o_dfi_{name}": getattr(dfi, name) for name in ("reset_n", "cke", "odt")},
            **{f"o_{slot}_{name}": getattr(getattr(dfi, slot), name) for slot in ("p0", "p1") for name in COMMAND_PINS},
            **{f"o_{name}": getattr(dfi, name) for name in ("wrdata_en", "rddata_en", "wrdata")},
            i_rddata=dfi.rddata,
            o_strobe_error=self.strobe_error,
        )
        return m


class LevelScan(wiring.Component):
    """Tries the settings from ``first`` to ``last``. With each setting it writes ``rounds`` bursts and reads the bursts
    back.

    Members: ``port`` goes to the controller. ``asks`` requests ``setting`` until ``is_set`` is 1. For each byte,
    ``right`` has a bit for each setting, which is 1 if all words were read back correctly. ``bursts`` has a bit for
    each setting, which is the value of ``burst_seen`` after the reads. ``done`` is 1 at the end.
    """

    def __init__(self, timings: Ddr3Timings) -> None:
        self.shape = timings.source_shape()
        self.byte_count = timings.data_bits // 8
        super().__init__(
            {
                "port": Out(WordPort(self.shape)),
                "first": In(range(SETTINGS)),
                "last": In(range(SETTINGS)),
                "rounds": In(16),
                "asks": Out(1),
                "is_set": In(1),
                "setting": Out(range(SETTINGS)),
                "burst_seen": In(self.byte_count),
                "right": Out(SETTINGS).array(self.byte_count),
                "bursts": Out(SETTINGS).array(self.byte_count),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        port, shape = self.port, self.shape
        burst = shape.burst
        place, turn = Signal(range(burst)), Signal(16)
        word, seed, expected = (
            Signal(shape.word_bits, name=name, init=0x1F2E3D4C5B6A7988) for name in ("word", "seed", "expected")
        )
        came = Signal(range(burst + 1))
        wrong = Signal(self.byte_count)

        def after(value: Signal) -> Value:
            """Return a pseudo-random word that differs in many bits from ``value``."""
            rotated = Cat(value[-29:], value[:-29])
            return (rotated ^ (value << 3) ^ (value >> 7) ^ 0x9E3779B97F4A7C15F39CC0605CEDC835)[: shape.word_bits]

        base = Signal(shape.address_bits)
        m.d.comb += [
            base.eq((turn * 0x2B) * burst),
            port.ahead.eq(base),
            port.job.p.address.eq(base + place),
            port.job.p.word.eq(word),
        ]
        differs = port.word ^ expected
        width = 8 * self.byte_count
        now = Signal(range(SETTINGS))
        with m.If(port.valid):
            m.d.sync += [came.eq(came + 1), expected.eq(after(expected))]
            for byte in range(self.byte_count):
                bits = Cat(differs[width * beat + 8 * byte :][:8] for beat in range(len(port.word) // width))
                with m.If(bits.any()):
                    m.d.sync += wrong[byte].eq(1)
        with m.FSM():
            with m.State("BEGIN"):
                m.d.sync += now.eq(self.first)
                m.next = "SET"
            with m.State("SET"):
                m.d.comb += self.asks.eq(1)
                m.d.sync += [turn.eq(0), wrong.eq(0)]
                with m.If(self.is_set):
                    m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.sync += [place.eq(0), seed.eq(word), came.eq(0)]
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [port.job.valid.eq(1), port.job.p.write.eq(1)]
                with m.If(port.job.ready):
                    m.d.sync += [word.eq(after(word)), place.eq(place + 1)]
                    with m.If(place == burst - 1):
                        m.d.sync += expected.eq(seed)
                        m.next = "READ"
            with m.State("READ"):
                m.d.comb += [port.job.valid.eq(1), port.job.p.length.eq(burst)]
                with m.If(port.job.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(came == burst):
                    m.d.sync += turn.eq(turn + 1)
                    m.next = "PREPARE"
                    with m.If(turn == self.rounds - 1):
                        m.next = "JUDGE"
            with m.State("JUDGE"):
                for byte in range(self.byte_count):
                    m.d.sync += [
                        self.right[byte].bit_select(now, 1).eq(~wrong[byte]),
                        self.bursts[byte].bit_select(now, 1).eq(self.burst_seen[byte]),
                    ]
                m.d.sync += now.eq(now + 1)
                m.next = "SET"
                with m.If(now == self.last):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += self.done.eq(1)
        m.d.comb += self.setting.eq(now)
        return m


class Ddr3PhyBench(wiring.Component):
    """PHY, part and scan. The setting of byte 1 is the setting of byte 0 xor ``other``, so a test can distinguish the
    bytes."""

    def __init__(self, timings: Ddr3Timings) -> None:
        self.timings = timings
        byte_count = timings.data_bits // 8
        super().__init__(
            {
                "flight": In(FLIGHT_BITS),
                "first": In(range(SETTINGS)),
                "last": In(range(SETTINGS)),
                "other": In(range(SETTINGS)),
                "rounds": In(16),
                **{f"{name}_{byte}": Out(SETTINGS) for name in ("right", "bursts") for byte in range(byte_count)},
                "done": Out(1),
                "error": Out(5),
                "strobe_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t = self.timings
        m.submodules.phy = phy = Ddr3Phy(t)
        add_clocks(m, phy)
        m.submodules.pads = pads = Ddr3Pads(phy, self.flight.replicate(phy.byte_count))
        controller, levels, scan = Ddr3Controller(t), Ddr3Levels(t.data_bits // 8), LevelScan(t)
        for name, part in (("controller", controller), ("levels", levels), ("scan", scan)):
            m.submodules[name] = DomainRenamer({"sync": "memory"})(part)
        wiring.connect(m, scan.port, controller.port)
        wiring.connect(m, controller.dfi, phy.dfi)
        wiring.connect(m, levels.settings, phy.levels)
        byte, asked = Signal(range(levels.byte_count)), Signal()
        setting = Signal(range(SETTINGS))
        m.d.comb += [
            setting.eq(scan.setting),
            levels.i.p.byte.eq(byte),
            levels.i.valid.eq(scan.asks & ~asked),
            levels.o.ready.eq(1),
            scan.is_set.eq(levels.o.valid & (byte == levels.byte_count - 1)),
            scan.burst_seen.eq(levels.settings.burst_seen),
        ]
        with m.If(byte == 1):
            m.d.comb += setting.eq(scan.setting ^ self.other)
        m.d.comb += Cat(levels.i.p.delay, levels.i.p.slip).eq(setting)
        with m.If(levels.i.valid & levels.i.ready):
            m.d.memory += asked.eq(1)
        with m.If(levels.o.valid):
            m.d.memory += [asked.eq(0), byte.eq(byte + 1)]
        for name in ("first", "last", "rounds"):
            m.d.comb += getattr(scan, name).eq(getattr(self, name))
        m.d.comb += [
            *(getattr(self, f"right_{n}").eq(scan.right[n]) for n in range(levels.byte_count)),
            *(getattr(self, f"bursts_{n}").eq(scan.bursts[n]) for n in range(levels.byte_count)),
            self.done.eq(scan.done),
            self.error.eq(pads.error),
            self.strobe_error.eq(pads.strobe_error),
        ]
        return m


__all__ = [
    "CELLS",
    "FLIGHT_BITS",
    "INIT_TICKS",
    "MEMORY_TICKS",
    "SETTINGS",
    "SOURCES",
    "Ddr3Pads",
    "Ddr3PhyBench",
    "LevelScan",
    "add_clocks",
]
