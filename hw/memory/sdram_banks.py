"""The banks of a part of SDR SDRAM and the commands to them: what `SdramController` decides with.

    Banks ── what is open, what may come next ─► decision ─► Commands ─► pins
      ▲                                                         │
      └─────────────── every command changes its bank ──────────┘

Every time of the data sheet is a `Countdown`: it starts with a command, and a register holds whether it is over.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value

from lutern.hw.memory.sdram_part import SdramTimings

BURST = 8  # words
INIT_REFRESHES = 8  # after power-up, as the data sheets ask for
MODE_BURST = 3  # code of BL 8
SINGLE_WRITE = 1 << 9

# ras_n, cas_n, we_n, from bit 0
NOP, READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, SET_MODE = 0b111, 0b101, 0b001, 0b110, 0b010, 0b100, 0b000


class Countdown:
    """Cycles until something is allowed: after ``start(n)`` in cycle t, the register ``over`` is 1 from t + n on."""

    def __init__(self, m: Module, name: str, most: int) -> None:
        self._m, self._more = m, Signal(range(max(2, most)), name=f"{name}_more")
        self.over = Signal(name=f"{name}_over", init=1)
        with m.If(~self.over):
            m.d.sync += [self._more.eq(self._more - 1), self.over.eq(self._more == 0)]

    def start(self, cycles: int | Value) -> None:
        """Statements that start it, for ``cycles`` of 1 and more."""
        self._m.d.sync += [self._more.eq(cycles - 2), self.over.eq(cycles == 1)]

    def left(self) -> Value:
        """Cycles until it is over."""
        return Mux(self.over, 0, self._more + 1)


def _of(signals: list[Any], bank: Value) -> Value:
    return Array(signals)[bank]


class Banks:
    """The state of the banks and the data pins: which rows are open, and how long the next commands must wait."""

    def __init__(self, m: Module, timings: SdramTimings, client_bits: int) -> None:
        t = self._timings = timings
        banks = range(1 << t.bank_bits)
        self.is_open = [Signal(name=f"open_{b}") for b in banks]
        self.rows = [Signal(t.row_bits, name=f"row_{b}") for b in banks]
        # The command after the last ACTIVATE or PRECHARGE may come.
        self.settle = [Countdown(m, f"settle_{b}", max(t.rp, t.rcd)) for b in banks]
        self.hold_cycles = max(t.ras, t.rc - t.rp)
        self.hold = [Countdown(m, f"hold_{b}", self.hold_cycles) for b in banks]
        self.next_activate = Countdown(m, "next_activate", t.rrd)
        self.recover = Countdown(m, "recover", t.wr)
        self.quiet_cycles = BURST + t.cas_latency + 2  # the part has let go of the data pins, and a cycle more
        self.quiet = Countdown(m, "quiet", self.quiet_cycles)
        self.burst = Countdown(m, "burst", BURST)
        self.burst_bank, self.burst_client = Signal(t.bank_bits), Signal(client_bits)

    def page_state(self, bank: Value, row: Value) -> tuple[Value, Value]:
        """Whether the bank is open, and with this row."""
        return _of(self.is_open, bank), _of(self.rows, bank) == row

    def settled(self, bank: Value) -> Value:
        """Whether the bank may get its next command."""
        return _of([countdown.over for countdown in self.settle], bank)

    def can_close(self, bank: Value) -> Value:
        """Whether the bank may be precharged."""
        held = _of([countdown.over for countdown in self.hold], bank)
        return held & self.recover.over & (self.burst.over | (self.burst_bank != bank))

    def all_rest(self) -> Value:
        """Whether all banks may be precharged."""
        rested = self.burst.over & self.recover.over
        for countdown in self.hold:
            rested = rested & countdown.over
        return rested


class Commands:
    """The command pins, in a register after the decision; every command changes the state of its banks."""

    def __init__(
        self, m: Module, timings: SdramTimings, pins: Any, banks: Banks, initialised: Signal, word: Value
    ) -> None:
        self._m, self._timings, self._pins, self._banks = m, timings, pins, banks
        command = Signal(3, init=NOP)
        m.d.comb += Cat(pins.ras_n, pins.cas_n, pins.we_n).eq(command)
        selected = Signal()
        powered = Signal()
        m.d.comb += [pins.cs_n.eq(~selected), pins.cke.eq(powered), pins.dqm.eq(Mux(initialised, 0, ~0))]
        m.d.sync += [selected.eq(1), powered.eq(1), command.eq(NOP), pins.dq_oe.eq(0), pins.dq_o.eq(word)]
        self.command = command
        t = timings
        pause = Signal(range(max(t.power_up, t.rfc) + 1), init=t.power_up)
        left = Signal(range(max(INIT_REFRESHES, t.refresh_group)))
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        self.pause, self.left = pause, left

    def give(self, code: int, bank: Value | int = 0, address: Value | int = 0) -> None:
        """Put a command on the pins in the next cycle."""
        self._m.d.sync += [self.command.eq(code), self._pins.ba.eq(bank), self._pins.a.eq(address)]

    def close(self, bank: Value) -> None:
        """Send PRECHARGE to one bank."""
        m, banks = self._m, self._banks
        self.give(PRECHARGE, bank)
        with m.Switch(bank):
            for b, settle in enumerate(banks.settle):
                with m.Case(b):
                    m.d.sync += banks.is_open[b].eq(0)
                    settle.start(self._timings.rp)

    def activate(self, bank: Value, row: Value) -> None:
        """Send ACTIVATE of a row."""
        m, banks, t = self._m, self._banks, self._timings
        self.give(ACTIVATE, bank, row)
        banks.next_activate.start(t.rrd)
        with m.Switch(bank):
            for b, settle in enumerate(banks.settle):
                with m.Case(b):
                    m.d.sync += [banks.is_open[b].eq(1), banks.rows[b].eq(row)]
                    settle.start(t.rcd)
                    banks.hold[b].start(banks.hold_cycles)

    def close_all(self, refreshes: int) -> None:
        """Send PRECHARGE to all banks; ``refreshes`` times REFRESH follow, in the state REFRESH."""
        self.give(PRECHARGE, 0, Const(1 << 10, len(self._pins.a)))
        closed = (bank.eq(0) for bank in self._banks.is_open)
        self._m.d.sync += [self.pause.eq(self._timings.rp - 1), self.left.eq(refreshes - 1), *closed]
        self._m.next = "REFRESH"

    def start_states(self, initialised: Signal) -> None:
        """Add the states from power-up to the first job, and those of the refreshes between jobs."""
        m, t = self._m, self._timings
        with m.State("POWER"):
            with m.If(self.pause == 0):
                self.close_all(INIT_REFRESHES)
        with m.State("REFRESH"):
            with m.If(self.pause == 0):
                self.give(REFRESH)
                m.d.sync += [self.pause.eq(t.rfc - 1), self.left.eq(self.left - 1)]
                with m.If(self.left == 0):
                    m.next = "END"
        with m.State("END"):  # the last command's time, less this cycle
            with m.If(initialised & (self.pause == 1)):
                m.next = "RUN"
            with m.If(~initialised & (self.pause == 0)):
                self.give(SET_MODE, 0, MODE_BURST | t.cas_latency << 4 | SINGLE_WRITE)
                m.d.sync += [self.pause.eq(t.mrd - 1), initialised.eq(1)]
