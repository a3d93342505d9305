"""The chip of a board: clocks, the serial line, the machine, lamps.

    oscillator ─► PLL ─┬─► gates ─► sync, memory, the SDRAM's clock pin       rx ─► Uart ─► Top ─► Uart ─► tx
                       └─► locked ─◄                                                lamps ◄─┴─► SDRAM pins

There is no reset: configuration leaves every register at its initial value, and no clock runs before the PLL is locked.
A reset would be one net to thousands of registers all over the chip, within a cycle. Where the lock is lost later, the
clocks stop until the chip is configured again, for nobody knows what registers and SDRAM hold then.

Lamps, as many as the board has: alive (blinks, a second on and a second off), receiving and answering (lit for a
twentieth of a second by a byte from and to the host), overrun (a byte was lost since the start).

Between SDRAM and machine stands one register each way, in the pins' own cells. The SDRAM's clock comes out of such a
cell too, so that it takes as long to its pin as all else, from an output of the PLL of its own: half a period after the
commands change, moved over the link (docs/boards.md has the margins).
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Subsignal
from amaranth.hdl import ClockDomain, Const, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

from lutern.boards.board import Board
from lutern.boards.pll import Pll, PllPlan, plan_pll
from lutern.hw.config import HwConfig
from lutern.hw.link import Uart
from lutern.hw.memory import any_part, timings_for
from lutern.hw.pipeline import join_streams
from lutern.hw.top import Top

SDRAM_DEGREES = 180.0
"""That the SDRAM's clock is late, to begin with."""


def plan_clocks(board: Board, config: HwConfig) -> tuple[PllPlan, int, int]:
    """The PLL of a board's chip, the rate of its link, and the cycles of a bit."""
    memory_hz = (round(any_part(config.word_bits).clock_hz),) * 2 if config.memory == "sdram" else ()
    plan = plan_pll(board.clock_hz, config.clock_hz, *memory_hz)
    return plan, *board.link.rate_at(float(plan.output_hz(0)))


class System(Elaboratable):
    """Everything on the chip, for a platform of ``board``.

    Parameters: ``board``; ``config``, one that ``Board.config`` gives; its ``clock_hz`` is made by the PLL.
    """

    def __init__(self, board: Board, config: HwConfig) -> None:
        self.board, self.config = board, config
        self.timings = timings_for(config)
        self.plan, self.baud, self.divisor = plan_clocks(board, config)
        self.clock_hz = float(self.plan.output_hz(0))

    @property
    def domains(self) -> tuple[str, ...]:
        """Clock domains, in the order of the PLL's outputs."""
        return ("sync", "memory") if self.config.memory == "sdram" else ("sync",)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = _Ports(platform)
        pll = self._add_clocks(m, ports)
        m.submodules.top = top = Top(self.config, self.timings)
        if self.config.memory == "sdram":
            _add_sdram(m, ports, top.sdram)
            m.d.comb += [pll.phase_step.eq(top.phase_step), pll.phase_dir.eq(top.phase_dir)]
        m.submodules.uart = uart = Uart(self.divisor)
        join_streams(m, uart.o, top.rx)
        join_streams(m, top.tx, uart.i)
        m.submodules.rx = rx = io.Buffer(io.Direction.Input, ports.find(*self.board.link.resource, "rx"))
        m.submodules.tx = tx = io.Buffer(io.Direction.Output, ports.find(*self.board.link.resource, "tx"))
        m.d.comb += [uart.rx.eq(rx.i), tx.o.eq(uart.tx)]
        for name, number, part, value in self.board.held:
            _drive(m, ports.find(name, number, part), Const(value, 1))
        lamps = (self._blink(m), self._stretch(m, uart.o.valid), self._stretch(m, uart.i.valid), uart.overrun)
        for place, lamp in zip(self.board.leds, lamps, strict=False):
            _drive(m, ports.find(*place), lamp)
        return m

    def _add_clocks(self, m: Module, ports: _Ports) -> Pll:
        has_sdram = self.config.memory == "sdram"
        m.submodules.pll = pll = Pll(self.plan, {2: SDRAM_DEGREES}, 2) if has_sdram else Pll(self.plan)
        m.submodules.clock = clock = io.Buffer(io.Direction.Input, ports.find(self.board.clock, 0))
        m.d.comb += pll.clki.eq(clock.i)
        for index, name in enumerate((*self.domains, *(["sdram_pin"] if has_sdram else []))):
            self._gate(m, name, pll.clocks[index], pll.locked)
        return pll

    @staticmethod
    def _gate(m: Module, name: str, clock: Signal, locked: Signal) -> None:
        """The domain ``name``, with ``clock`` from when the PLL is locked to when it no longer is."""
        free, domain = (ClockDomain(text, reset_less=True) for text in (f"{name}_free", name))
        m.domains += [free, domain]
        m.d.comb += free.clk.eq(clock)
        is_locked, was_locked, lost = (Signal(name=f"{name}_{what}") for what in ("is_locked", "was_locked", "lost"))
        m.submodules[f"{name}_synchroniser"] = FFSynchronizer(locked, is_locked, o_domain=free.name)
        m.d[free.name] += [was_locked.eq(is_locked), lost.eq(lost | (was_locked & ~is_locked))]
        # The gate takes CE over while its clock is low (FPGA-TN-02200, "Dynamic Clock Control").
        m.submodules[f"{name}_gate"] = Instance(
            "DCCA", i_CLKI=free.clk, i_CE=was_locked & is_locked & ~lost, o_CLKO=domain.clk
        )

    def _blink(self, m: Module) -> Value:
        ticks = Signal(round(self.clock_hz).bit_length())
        m.d.sync += ticks.eq(ticks + 1)
        return ticks[-1]

    def _stretch(self, m: Module, moment: Value) -> Value:
        """High for a twentieth of a second after ``moment``."""
        cycles = round(self.clock_hz / 20)
        left = Signal(range(cycles))
        with m.If(moment):
            m.d.sync += left.eq(cycles - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return left != 0


def _add_sdram(m: Module, ports: _Ports, pins: Any) -> None:
    """The part's pins, those that the board has: others are tied there."""
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
    """A platform's ports without buffers; a resource is requested once, whichever of its parts are used."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform
        self._requested: dict[tuple[str, int], Any] = {}

    def parts(self, name: str, number: int) -> list[str]:
        """Names of a resource's parts."""
        return [item.name for item in self.platform.lookup(name, number).ios if isinstance(item, Subsignal)]

    def find(self, name: str, number: int, part: str = "") -> Any:
        """The port of a resource, or of a part of one."""
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
