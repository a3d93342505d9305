"""The chip of a board: clocks, the serial line, the machine, LEDs.

    oscillator ─► PLL ─┬─► gates ─► sync, memory, the SDRAM's clock pin       rx ─► Uart ─► Top ─► Uart ─► tx
                       └─► locked ─◄                                                  LEDs ◄─┴─► SDRAM pins, or PHY

With DDR3 (`ddr3_pads.py`), only sync and init come from the clock gates. The clock of memory is made from the PLL's
first output, which reaches the tree of the edge clock on separate wires.

There is no reset. Configuration leaves every register at its initial value, and no clock runs before the PLL is locked.
The net of a reset would have to reach thousands of registers all over the chip within a cycle. If the lock is lost
later, the clocks stop until the chip is configured again, because the contents of registers and SDRAM are unknown then.

A board has up to four LEDs, in this order: alive (blinks, one second on and one second off), receiving (on for a
twentieth of a second after a byte from the host), answering (on for a twentieth of a second after a byte to the host)
and overrun (on if a byte was lost since the start).

One register is between SDRAM and machine in each direction, in the cells of the pins. The SDRAM's clock also
comes from such a cell, so its delay to the pin equals the delay of the other signals. The PLL's output for this clock
rises half a period after the commands change. The phase is adjustable over the link (docs/boards.md has the margins).
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Subsignal
from amaranth.hdl import ClockDomain, Const, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer

from lutern.boards.board import Board
from lutern.boards.ddr3_pads import add_ddr3_clocks, add_ddr3_pads
from lutern.boards.ddr3_parts import ddr3_part
from lutern.boards.ddr3_wiring import check_memory_clock
from lutern.boards.pll import Pll, PllPlan, plan_pll
from lutern.boards.retune import Tuning
from lutern.hw.config import HwConfig
from lutern.hw.link import Uart
from lutern.hw.memory import Ddr3Phy, Ddr3Timings, SdramTimings, any_part, timings_for
from lutern.hw.pipeline import join_streams
from lutern.hw.top import Top

SDRAM_DEGREES = 180.0
"""Initial delay of the SDRAM's clock."""


BLINK_BITS = 26
"""Bits of the counter of the blinking LED of a machine for any clock: 1 s at 67 MHz."""
STRETCH_CYCLES = 1 << 22
"""Cycles of a flash of an LED of a machine for any clock: 63 ms at 67 MHz."""
INIT_HZ = 25_000_000
"""Approximate frequency of the clock init, which the start of DDR3 uses."""


def plan_clocks(board: Board, config: HwConfig) -> tuple[PllPlan, int, int]:
    """Return the plan of the PLL of a board's chip, the baud rate of its link, and the cycles per bit."""
    if config.memory == "ddr3":
        check_memory_clock(config.memory_hz)
        plan = plan_pll(board.clock_hz, 2 * config.memory_hz, config.clock_hz, rough_hz=INIT_HZ)
    else:
        memory_hz = (round(any_part(config.word_bits).clock_hz),) * 2 if config.memory == "sdram" else ()
        plan = plan_pll(board.clock_hz, config.clock_hz, *memory_hz)
    return plan, *board.link.rate_at(float(plan.output_hz(pll_domains(config).index("sync"))))


def pll_domains(config: HwConfig) -> tuple[str, ...]:
    """Return the clock domains, in the order of the PLL's outputs. Only the first output reaches the edge clocks."""
    return {"sdram": ("sync", "memory"), "ddr3": ("edge", "sync", "init")}.get(config.memory, ("sync",))


def board_timings(board: Board, config: HwConfig) -> SdramTimings | Ddr3Timings | None:
    """Return the timings of ``timings_for``, with the board's modes.

    A refresh takes the time of the largest part that the board may have, because larger parts need more time.
    """
    if config.memory != "ddr3" or board.ddr3 is None:
        return timings_for(config)
    timings = timings_for(config, board.ddr3.modes)
    assert isinstance(timings, Ddr3Timings)
    parts = [
        ddr3_part(name).timings(timings.clock_hz, timings.refresh_group, board.ddr3.modes) for name in board.memory
    ]
    slowest = max((timings, *parts), key=lambda item: item.rfc)
    return timings.with_(rfc=slowest.rfc, xpr=slowest.xpr)


class System(Elaboratable):
    """Everything on the chip, for a platform of ``board``.

    Parameters
    ----------
    board : Board
        The board.
    config : HwConfig
        A machine that ``Board.config`` has returned. The PLL makes the clocks of this machine.

    Attributes
    ----------
    domains
        Clock domains of the PLL's outputs.
    clocks
        Frequency of each clock, in Hz.
    tuning
        What depends on the clock in a machine for any clock, otherwise None.
    """

    def __init__(self, board: Board, config: HwConfig) -> None:
        self.board, self.config = board, config
        self.plan, self.baud, self.divisor = plan_clocks(board, config)
        self.timings = board_timings(board, config)
        self.domains = pll_domains(config)
        made = {name: float(self.plan.output_hz(index)) for index, name in enumerate(self.domains)}
        if config.memory == "ddr3":
            made["memory"] = made["edge"] / 2
        self.clocks: dict[str, float] = {
            name: made[name] for name in ("sync", "memory", "edge", "init") if name in made
        }
        self.clock_hz = self.clocks["sync"]
        self.tuning: Tuning | None = None
        if config.has_clock_tables:
            constants = {"clock_hz": config.clock_hz, **Uart.constants_of(self.divisor)}
            self.tuning = Tuning(self.plan, constants)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = _Ports(platform)
        m.submodules.top = top = Top(self.config, self.timings)
        pll = self._add_clocks(m, ports)
        if self.config.memory == "sdram":
            _add_sdram(m, ports, top.sdram)
            m.d.comb += [pll.phase_step.eq(top.phase_step), pll.phase_dir.eq(top.phase_dir)]
        if self.config.memory == "ddr3":
            self._add_ddr3(m, ports, top, pll)
        m.submodules.uart = uart = Uart(self.divisor, self.config.has_clock_tables)
        join_streams(m, uart.o, top.rx)
        join_streams(m, top.tx, uart.i)
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, ports.find(*self.board.link.resource, "rx"))
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, ports.find(*self.board.link.resource, "tx"))
        m.d.comb += [uart.rx.eq(rx.i), tx.o.eq(uart.tx)]
        for name, number, part, value in self.board.held:
            _drive(m, ports.find(name, number, part), Const(value, 1))
        leds = (self._blink(m), self._stretch(m, uart.o.valid), self._stretch(m, uart.i.valid), uart.overrun)
        for place, led in zip(self.board.leds, leds, strict=False):
            _drive(m, ports.find(*place), led)
        return m

    def _add_clocks(self, m: Module, ports: _Ports) -> Pll:
        has_sdram = self.config.memory == "sdram"
        m.submodules.pll = pll = Pll(self.plan, {2: SDRAM_DEGREES}, 2) if has_sdram else Pll(self.plan)
        m.submodules.clock = clock = io.Buffer(io.Direction.Input, ports.find(self.board.clock, 0))
        m.d.comb += pll.clki.eq(clock.i)
        for index, name in enumerate((*self.domains, *(["sdram_pin"] if has_sdram else []))):
            if name != "edge":
                self._gate(m, name, pll.clocks[index], pll.locked)
        return pll

    def _add_ddr3(self, m: Module, ports: _Ports, top: Top, pll: Pll) -> None:
        """Add the PHY, its clocks, and the part's pins. The reset of `init` ends when the PLL is locked."""
        assert self.board.ddr3 is not None and isinstance(self.timings, Ddr3Timings)
        phy = Ddr3Phy(self.timings, self.board.ddr3.command_delay(self.timings.clock_hz))
        m.submodules.ddr3_phy = phy
        wiring.connect(m, top.dfi, phy.dfi)
        wiring.connect(m, top.levels, phy.levels)
        m.submodules.init_reset = ResetSynchronizer(~pll.locked, domain="init")
        add_ddr3_clocks(m, phy, pll.clocks[self.domains.index("edge")], self.board.ddr3)
        add_ddr3_pads(m, ports, phy, self.board.ddr3)

    @staticmethod
    def _gate(m: Module, name: str, clock: Signal, locked: Signal) -> None:
        """Add the domain ``name``, whose ``clock`` runs from when the PLL is locked until the PLL loses its lock.

        Only `init` has a reset.
        """
        free = ClockDomain(f"{name}_free", reset_less=True)
        domain = ClockDomain(name, reset_less=name != "init")
        m.domains += [free, domain]
        m.d.comb += free.clk.eq(clock)
        is_locked, was_locked, lost = (Signal(name=f"{name}_{what}") for what in ("is_locked", "was_locked", "lost"))
        m.submodules[f"{name}_synchroniser"] = FFSynchronizer(locked, is_locked, o_domain=free.name)
        m.d[free.name] += [was_locked.eq(is_locked), lost.eq(lost | (was_locked & ~is_locked))]
        # The gate samples CE while its clock is low (FPGA-TN-02200, "Dynamic Clock Control").
        m.submodules[f"{name}_gate"] = Instance(
            "DCCA", i_CLKI=free.clk, i_CE=was_locked & is_locked & ~lost, o_CLKO=domain.clk
        )

    def _blink(self, m: Module) -> Value:
        ticks = Signal(BLINK_BITS if self.config.has_clock_tables else round(self.clock_hz).bit_length())
        m.d.sync += ticks.eq(ticks + 1)
        return ticks[-1]

    def _stretch(self, m: Module, moment: Value) -> Value:
        """Return a signal that is high for a twentieth of a second after ``moment``. A machine for any clock counts
        the same cycles at every clock."""
        cycles = STRETCH_CYCLES if self.config.has_clock_tables else round(self.clock_hz / 20)
        left = Signal(range(cycles))
        with m.If(moment):
            m.d.sync += left.eq(cycles - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0


def _add_sdram(m: Module, ports: _Ports, pins: Any) -> None:
    """Add the pins of the part that are connected to the chip. All other pins are tied on the board."""
    present = ports.parts("sdram", 0)
    outputs = {
        "clk_en": pins.cke,
        "cs": ~pins.cs_n,
        "ras": ~pins.ras_n,
        "cas": ~pins.cas_n,
        "we": ~pins.we_n,
        "ba": pins.ba,
        "a": pins.a,
        "dqm": pins.dqm,
    }
    for name, value in outputs.items():
        if name in present:
            m.submodules[f"sdram_{name}"] = buffer = io.FFBuffer(
                io.Direction.Output, ports.find("sdram", 0, name), o_domain="memory"
            )
            m.d.comb += buffer.o.eq(value)
    dq = io.FFBuffer(io.Direction.Bidir, ports.find("sdram", 0, "dq"), i_domain="memory", o_domain="memory")
    m.submodules.sdram_dq = dq
    m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
    m.submodules.sdram_clk = clock = io.DDRBuffer(
        io.Direction.Output, ports.find("sdram", 0, "clk"), o_domain="sdram_pin"
    )
    m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]


class _Ports:
    """A platform's ports without buffers. A resource is requested only once, whichever of its subsignals are used."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform
        self._requested: dict[tuple[str, int], Any] = {}

    def parts(self, name: str, number: int) -> list[str]:
        """Return the names of a resource's subsignals."""
        return [item.name for item in self.platform.lookup(name, number).ios if isinstance(item, Subsignal)]

    def find(self, name: str, number: int, part: str = "") -> Any:
        """Return the port of a resource, or of its subsignal ``part``."""
        if (name, number) not in self._requested:
            parts = self.parts(name, number)
            self._requested[name, number] = self.platform.request(
                name, number, dir=dict.fromkeys(parts, "-") if parts else "-"
            )
        found = self._requested[name, number]
        return getattr(found, part) if part else found


def _drive(m: Module, port: Any, value: Value) -> None:
    buffer = io.Buffer(io.Direction.Output, port)
    m.submodules += buffer
    m.d.comb += buffer.o.eq(value)
