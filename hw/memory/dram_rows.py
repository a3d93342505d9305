"""The logic that all controllers of DRAM share: the commands, the open rows, and the times until a bank's next command.

    PRECHARGE, ACTIVATE ─► OpenRows ─► page_state, settled, held ─► decision of a controller

Every time of the data sheet is a `Countdown`, which is started by a command. The register ``over`` of the `Countdown`
is 1 when the time has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, Value

# ras_n, cas_n, we_n, from bit 0
NOP, READ, WRITE, ACTIVATE, PRECHARGE, REFRESH, SET_MODE = 0b111, 0b101, 0b001, 0b110, 0b010, 0b100, 0b000


class Countdown:
    """Counts the cycles until something is allowed.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    name : str
        Prefix of the registers' names.
    most : int
        Largest number of cycles that `start` is called with.

    Members
    -------
    over : 1 bit, register
        The time has passed. After ``start(n)`` in cycle t, ``over`` is 1 from cycle t + n on.
    """

    def __init__(self, m: Module, name: str, most: int) -> None:
        self._m, self._more = m, Signal(range(max(2, most)), name=f"{name}_more")
        self.over = Signal(name=f"{name}_over", init=1)
        with m.If(~self.over):
            m.d.sync += [self._more.eq(self._more - 1), self.over.eq(self._more == 0)]

    def start(self, cycles: int | Value) -> None:
        """Start the countdown. ``cycles`` must be at least 1."""
        self._m.d.sync += [self._more.eq(cycles - 2), self.over.eq(cycles == 1)]

    def left(self) -> Value:
        """Return the cycles until the countdown is over."""
        return Mux(self.over, 0, self._more + 1)


@dataclass(frozen=True)
class RowCycles:
    """Geometry of the banks, and times in cycles.

    Parameters
    ----------
    rp, rcd : int
        tRP and tRCD, but at least 2, because a look-up shows the effect of a command only one cycle later.
    hold : int
        Cycles from ACTIVATE to PRECHARGE of a bank: tRAS, or more if tRC requires more.
    rrd : int
        Cycles from an ACTIVATE to the next ACTIVATE of any bank.
    """

    bank_bits: int
    row_bits: int
    rp: int
    rcd: int
    hold: int
    rrd: int


class OpenRows:
    """Stores the state of the banks. A controller calls `close` where it sends PRECHARGE, and `activate` where it sends
    ACTIVATE.

    Parameters
    ----------
    m : Module
        The module to which the logic is added.
    cycles : RowCycles
        Geometry and times.

    Members
    -------
    is_open : register of each bank
        Whether a row of the bank is open.
    rows : register of each bank
        The row that is open, or was open last.
    settle : Countdown of each bank
        Cycles from an ACTIVATE or PRECHARGE until the next command.
    hold : Countdown of each bank
        Cycles from an ACTIVATE until a PRECHARGE.
    next_activate : Countdown
        Cycles from an ACTIVATE of any bank until the next ACTIVATE of any bank.
    """

    def __init__(self, m: Module, cycles: RowCycles) -> None:
        self._m, self._cycles = m, cycles
        banks = range(1 << cycles.bank_bits)
        self.is_open = [Signal(name=f"open_{b}") for b in banks]
        self.rows = [Signal(cycles.row_bits, name=f"row_{b}") for b in banks]
        # when a countdown of settle is over, the bank may receive the next command after its last ACTIVATE or PRECHARGE
        self.settle = [Countdown(m, f"settle_{b}", max(cycles.rp, cycles.rcd)) for b in banks]
        self.hold = [Countdown(m, f"hold_{b}", cycles.hold) for b in banks]
        self.next_activate = Countdown(m, "next_activate", cycles.rrd)

    def page_state(self, bank: Value, row: Value) -> tuple[Value, Value]:
        """Return whether the bank is open, and whether ``row`` is the row in the bank's register."""
        return _of(self.is_open, bank), _of(self.rows, bank) == row

    def settled(self, bank: Value) -> Value:
        """Return whether the bank may receive its next command."""
        return _of([countdown.over for countdown in self.settle], bank)

    def held(self, bank: Value) -> Value:
        """Return whether the bank was open long enough for a PRECHARGE."""
        return _of([countdown.over for countdown in self.hold], bank)

    def all_held(self) -> Value:
        """Return whether all banks were open long enough for a PRECHARGE."""
        held: Value = self.hold[0].over
        for countdown in self.hold[1:]:
            held = held & countdown.over
        return held

    def close(self, bank: Value) -> None:
        """Record a PRECHARGE of one bank."""
        m = self._m
        with m.Switch(bank):
            for b, settle in enumerate(self.settle):
                with m.Case(b):
                    m.d.sync += self.is_open[b].eq(0)
                    settle.start(self._cycles.rp)

    def close_all(self) -> None:
        """Record a PRECHARGE of all banks. The caller must wait for tRP."""
        self._m.d.sync += [is_open.eq(0) for is_open in self.is_open]

    def activate(self, bank: Value, row: Value) -> None:
        """Record an ACTIVATE."""
        m = self._m
        self.next_activate.start(self._cycles.rrd)
        with m.Switch(bank):
            for b, settle in enumerate(self.settle):
                with m.Case(b):
                    m.d.sync += [self.is_open[b].eq(1), self.rows[b].eq(row)]
                    settle.start(self._cycles.rcd)
                    self.hold[b].start(self._cycles.hold)


def _of(signals: list[Any], bank: Value) -> Value:
    return Array(signals)[bank]


__all__ = ["ACTIVATE", "NOP", "PRECHARGE", "READ", "REFRESH", "SET_MODE", "WRITE", "Countdown", "OpenRows", "RowCycles"]
