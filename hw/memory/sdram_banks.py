"""The state of the banks of an SDR SDRAM, and the commands to the banks. `SdramController` decides which command is
next.

    Banks ── what is open, what may come next ─► decision ─► Commands ─► pins
      ▲                                                         │
      └─────────────── every command changes its bank ──────────┘

`OpenRows` contains the logic that all kinds of DRAM share.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from lutern.hw.memory.dram_rows import ACTIVATE, NOP, PRECHARGE, REFRESH, SET_MODE, Countdown, OpenRows, RowCycles
from lutern.hw.memory.sdram_part import SdramTimings

BURST = 8  # words
INIT_REFRESHES = 8  # refreshes after power-up, as the data sheets require
MODE_BURST = 3  # code of BL 8
SINGLE_WRITE = 1 << 9


class Banks(OpenRows):
    """Stores the state of the banks and the data pins: which rows are open, and when the next commands may be sent.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    timings : SdramTimings
        The part at its clock.
    client_bits : int
        Width of ``client``.

    Members
    -------
    recover : Countdown
        Cycles from a WRITE until a PRECHARGE.
    quiet : Countdown
        Cycles from a READ until the part has released the data pins.
    burst : Countdown
        Number of words that are left of the burst that is being read. One word comes in each cycle.
    burst_bank, burst_client : registers
        Bank and client of the burst that is being read.
    """

    def __init__(self, m: Module, timings: SdramTimings, client_bits: int) -> None:
        t = timings
        super().__init__(m, RowCycles(t.bank_bits, t.row_bits, t.rp, t.rcd, max(t.ras, t.rc - t.rp), t.rrd))
        self.recover = Countdown(m, "recover", t.wr)
        self.quiet_cycles = BURST + t.cas_latency + 2  # until the part has released the data pins, plus one cycle
        self.quiet = Countdown(m, "quiet", self.quiet_cycles)
        self.burst = Countdown(m, "burst", BURST)
        self.burst_bank, self.burst_client = Signal(t.bank_bits), Signal(client_bits)

    def can_close(self, bank: Value) -> Value:
        """Return whether the bank may be precharged."""
        return self.held(bank) & self.recover.over & (self.burst.over | (self.burst_bank != bank))

    def all_rest(self) -> Value:
        """Return whether all banks may be precharged."""
        return self.burst.over & self.recover.over & self.all_held()


class Commands:
    """Drives the command pins from registers, and records each command in ``banks``.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    timings : SdramTimings
        The part at its clock.
    pins
        The pins of the part.
    banks : Banks
        The state that the commands change.
    initialised : 1 bit
        The mode register of the part is set. Until then the masks (dqm) are 1.
    word : Value
        The data of a WRITE.

    Members
    -------
    command : 3 bits, register
        The command on the pins.
    pause : register
        Cycles until the next command of the states that `start_states` adds.
    left : register
        Number of refreshes that are left in the state REFRESH.
    """

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
        """Put a command on the pins in the next cycle.

        Parameters
        ----------
        code : int
            ras_n, cas_n and we_n, from bit 0.
        bank, address : Value | int
            The pins ba and a.
        """
        self._m.d.sync += [self.command.eq(code), self._pins.ba.eq(bank), self._pins.a.eq(address)]

    def close(self, bank: Value) -> None:
        """Send PRECHARGE to one bank."""
        self.give(PRECHARGE, bank)
        self._banks.close(bank)

    def activate(self, bank: Value, row: Value) -> None:
        """Send ACTIVATE of a row."""
        self.give(ACTIVATE, bank, row)
        self._banks.activate(bank, row)

    def close_all(self, refreshes: int) -> None:
        """Send PRECHARGE to all banks. The REFRESH commands follow in the state REFRESH.

        Parameters
        ----------
        refreshes : int
            Number of refreshes.
        """
        self.give(PRECHARGE, 0, Const(1 << 10, len(self._pins.a)))
        self._banks.close_all()
        self._m.d.sync += [self.pause.eq(self._timings.rp - 1), self.left.eq(refreshes - 1)]
        self._m.next = "REFRESH"

    def start_states(self, initialised: Signal) -> None:
        """Add the states between power-up and the first job, and the states for refreshes between jobs.

        Parameters
        ----------
        initialised : Signal
            Register that becomes 1 when the mode register is set.
        """
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
        with m.State("END"):  # the pause after the last command, without the present cycle
            with m.If(initialised & (self.pause == 1)):
                m.next = "RUN"
            with m.If(~initialised & (self.pause == 0)):
                self.give(SET_MODE, 0, MODE_BURST | t.cas_latency << 4 | SINGLE_WRITE)
                m.d.sync += [self.pause.eq(t.mrd - 1), initialised.eq(1)]
