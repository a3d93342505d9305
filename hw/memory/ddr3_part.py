"""A part of DDR3 SDRAM: the times of its data sheet in nanoseconds, in clocks of the part, and in cycles of the
memory's clock.

    Ddr3Part (ns) ── timings(clock_hz) ──► Ddr3Timings (clocks of the part) ──► controller, model in simulation
                                               └─ cycles(clocks, from, to) ──► cycles of the memory's clock

A cycle of the memory's clock is two clocks of the part (tCK). These two clocks are the phases of DFI, and each phase
can carry one command. The time between commands in different phases is half a cycle longer or shorter than the time
between commands in one phase. So all times are stored in clocks, as in the data sheet, and `Ddr3Timings.cycles`
converts these times to whole cycles.

Data of READ and WRITE begin in phase 0. So READ is sent in phase CL mod 2, WRITE in phase CWL mod 2, and all row
commands in the phase that READ does not use.

A word has 8 beats of DDR3 (BL8). In the address of a word, the lowest bits are the column, followed by bank and row. So
consecutive pages are in consecutive banks. boards/ddr3_parts.py has the data of the parts. Reference: JEDEC JESD79-3F,
in which table 61 lists tRFC for each density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from lutern.hw.memory.ddr3_modes import Ddr3Modes
from lutern.hw.memory.word_source import SourceShape
from lutern.model_ref.errors import LuternError

BEATS = 8
"""DDR3 beats of a word (BL8)."""
GENERIC_ROW_BITS = {13: 1, 14: 2, 15: 4, 16: 8}
"""Density in Gb of a x16 part, for each number of address bits of a row."""
BURST = 8
"""Number of words of the longest job."""
MOST_POSTPONED = 8
"""Largest number of refreshes that the standard allows to postpone."""
REFRESH_SHARE = 0.995
"""The controller's refresh interval, relative to the interval of the data sheet. The ratio is less than 1, because a
refresh may wait for a job."""
RFC_NS = {1: 110.0, 2: 160.0, 4: 260.0, 8: 350.0}
"""tRFC in ns, for each density in Gb."""
PHY_READ_CYCLES = 10
"""Cycles that the PHY of the ECP5 adds to CL, for its registers and for the gearing in both directions."""


@dataclass(frozen=True)
class Ddr3Part:
    """One part and speed grade, x16. Times are in ns unless the name says otherwise.

    Parameters
    ----------
    reference : str
        Data sheet and table.
    gigabits : int
        Density, on which tRFC depends.
    row_bits, column_bits, bank_bits, data_bits : int
        Geometry. A page has 2 ** column_bits columns.
    least_period_ns : float
        Shortest tCK with CL 6 and CWL 5.
    rc_ns, ras_ns, rp_ns, rcd_ns, rrd_ns, faw_ns, wr_ns, wtr_ns, rtp_ns : float
        Times from one event to another. tRC: ACTIVATE to ACTIVATE of a bank. tRAS: ACTIVATE to PRECHARGE. tRP:
        PRECHARGE to ACTIVATE. tRCD: ACTIVATE to READ. tRRD: ACTIVATE to ACTIVATE of another bank. tFAW: window with at
        most four ACTIVATE. tWR: last beat written to PRECHARGE. tWTR: last beat written to READ. tRTP: READ to
        PRECHARGE.
    rrd_clocks, wtr_clocks, rtp_clocks, ccd_clocks : int
        The smallest values of tRRD, tWTR and tRTP in clocks, and tCCD. tCCD: READ to READ, and WRITE to WRITE.
    mrd_clocks, mod_ns, mod_clocks
        tMRD: mode register to mode register. tMOD: mode register to any other command.
    zq_init_ns, zq_init_clocks, dll_clocks
        tZQinit: duration of the long calibration. tDLLK: reset of the DLL to the first READ.
    reset_us, wake_us : float
        Time with RESET_N low, and time from the rise of RESET_N to the rise of CKE.
    refresh_ms, refresh_count
        The part needs ``refresh_count`` refreshes in ``refresh_ms``. tREFI is ``refresh_ms / refresh_count``.
    """

    name: str
    reference: str
    gigabits: int
    row_bits: int
    rc_ns: float
    ras_ns: float
    rp_ns: float
    rcd_ns: float
    faw_ns: float
    rrd_ns: float
    column_bits: int = 10
    bank_bits: int = 3
    data_bits: int = 16
    least_period_ns: float = 2.5
    wr_ns: float = 15.0
    wtr_ns: float = 7.5
    rtp_ns: float = 7.5
    rrd_clocks: int = 4
    wtr_clocks: int = 4
    rtp_clocks: int = 4
    ccd_clocks: int = 4
    mrd_clocks: int = 4
    mod_ns: float = 15.0
    mod_clocks: int = 12
    zq_init_ns: float = 640.0
    zq_init_clocks: int = 512
    dll_clocks: int = 512
    reset_us: float = 200.0
    wake_us: float = 500.0
    refresh_ms: float = 64.0
    refresh_count: int = 8192

    @property
    def rfc_ns(self) -> float:
        """tRFC in ns: from a refresh to any command."""
        return RFC_NS[self.gigabits]

    @property
    def byte_count(self) -> int:
        """Capacity in bytes."""
        return (1 << self.bank_bits + self.row_bits + self.column_bits) * self.data_bits // 8

    def timings(self, clock_hz: float, refresh_group: int = 1, modes: Ddr3Modes | None = None) -> Ddr3Timings:
        """Return all times in clocks of the part, for a given clock.

        Parameters
        ----------
        clock_hz : float
            Frequency of the memory's clock, which is half the frequency of the part's clock.
        refresh_group : int
            Number of refreshes that are sent together.
        modes : Ddr3Modes | None
            The mode registers; None for the default values.
        """
        modes = modes or Ddr3Modes()
        period = 1e9 / clock_hz / 2
        if period < self.least_period_ns - 1e-6:
            raise LuternError(
                f"{self.name} is asked to run at {2e-6 * clock_hz:g} MHz, but its data sheet ends at "
                f"{1e3 / self.least_period_ns:g} MHz with CL 6; choose a memory clock of at most "
                f"{500 / self.least_period_ns:g} MHz."
            )
        if not 1 <= refresh_group <= MOST_POSTPONED:
            raise LuternError(
                f"{self.name} is asked for {refresh_group} refreshes together; DDR3 allows 1 to {MOST_POSTPONED}."
            )

        def least(ns: float, clocks: int = 1) -> int:
            return max(clocks, math.ceil(ns / period - 1e-6))

        wr = least(self.wr_ns)
        interval = 1e6 * self.refresh_ms / self.refresh_count / period
        return Ddr3Timings(
            clock_hz=clock_hz,
            data_bits=self.data_bits,
            bank_bits=self.bank_bits,
            row_bits=self.row_bits,
            column_bits=self.column_bits,
            cl=modes.cl,
            cwl=modes.cwl,
            mode_registers=modes.registers(wr),
            rc=least(self.rc_ns),
            ras=least(self.ras_ns),
            rp=least(self.rp_ns),
            rcd=least(self.rcd_ns),
            rrd=least(self.rrd_ns, self.rrd_clocks),
            faw=least(self.faw_ns),
            ccd=self.ccd_clocks,
            rtp=least(self.rtp_ns, self.rtp_clocks),
            wtr=least(self.wtr_ns, self.wtr_clocks),
            wr=wr,
            rfc=least(self.rfc_ns),
            mrd=self.mrd_clocks,
            mod=least(self.mod_ns, self.mod_clocks),
            xpr=least(self.rfc_ns + 10.0, 5),
            zq_init=least(self.zq_init_ns, self.zq_init_clocks),
            dll_lock=self.dll_clocks if modes.dll else 0,
            reset_low=least(1e3 * self.reset_us),
            wake=least(1e3 * self.wake_us),
            refi=math.floor(interval),
            refresh_interval=math.floor(REFRESH_SHARE * interval / 2),
            refresh_limit=math.floor(interval * self.refresh_count),
            refresh_group=refresh_group,
        )


def any_ddr3_part(words: int) -> Ddr3Part:
    """Return the smallest x16 part that can store ``words`` words.

    Each of its times is the longest among the parts in boards/ddr3_parts.py.

    Parameters
    ----------
    words : int
        Number of words of 16 bytes.
    """
    for row_bits, gigabits in GENERIC_ROW_BITS.items():
        part = Ddr3Part(
            f"DDR3 x16 of {gigabits} Gb",
            "JEDEC JESD79-3F, the slowest bin",
            gigabits=gigabits,
            row_bits=row_bits,
            rc_ns=54.0,
            ras_ns=39.0,
            rp_ns=15.0,
            rcd_ns=15.0,
            rrd_ns=10.0,
            faw_ns=50.0,
        )
        if words * BEATS * part.data_bits // 8 <= part.byte_count:
            return part
    raise LuternError(
        f"{words:,} words of 16 bytes are wanted of a DDR3 part, but the largest (8 Gb) has {part.byte_count >> 4:,}; "
        "choose a smaller memory_words."
    )


@dataclass(frozen=True)
class Ddr3Timings:
    """A part at a given clock: its geometry, and every time of the data sheet in clocks of the part.

    Parameters
    ----------
    mode_registers : tuple[int, int, int, int]
        MR0 to MR3.
    refi, refresh_limit : int
        tREFI, and the time within which each row must be refreshed.
    refresh_interval : int
        *Cycles* (not clocks) from one refresh of the controller to the next refresh, on average.
    refresh_group : int
        Number of refreshes that are sent together.
    phy_read_cycles : int
        Cycles that the PHY adds to CL.
    """

    clock_hz: float
    data_bits: int
    bank_bits: int
    row_bits: int
    column_bits: int
    cl: int
    cwl: int
    mode_registers: tuple[int, int, int, int]
    rc: int
    ras: int
    rp: int
    rcd: int
    rrd: int
    faw: int
    ccd: int
    rtp: int
    wtr: int
    wr: int
    rfc: int
    mrd: int
    mod: int
    xpr: int
    zq_init: int
    dll_lock: int
    reset_low: int
    wake: int
    refi: int
    refresh_interval: int
    refresh_limit: int
    refresh_group: int = 1
    phy_read_cycles: int = PHY_READ_CYCLES

    @property
    def word_bits(self) -> int:
        """Number of bits of a word."""
        return BEATS * self.data_bits

    @property
    def page_bits(self) -> int:
        """log2 of the number of words of a page."""
        return self.column_bits - 3

    @property
    def address_bits(self) -> int:
        """Number of bits of a word's address."""
        return self.bank_bits + self.row_bits + self.page_bits

    @property
    def words(self) -> int:
        """Number of words of the part."""
        return 1 << self.address_bits

    @property
    def pin_address_bits(self) -> int:
        """Number of pins A, which carry the address of a row (``row_bits``) or a mode register (13 bits)."""
        return max(self.row_bits, 13)

    @property
    def read_phase(self) -> int:
        """DFI phase in which READ is sent."""
        return self.cl % 2

    @property
    def write_phase(self) -> int:
        """DFI phase in which WRITE is sent."""
        return self.cwl % 2

    @property
    def row_phase(self) -> int:
        """DFI phase of all other commands."""
        return 1 - self.read_phase

    @property
    def read_latency(self) -> int:
        """Cycles from a READ to its word at DFI."""
        return (self.cl + 1) // 2 + self.phy_read_cycles

    @property
    def write_latency(self) -> int:
        """Cycles from a WRITE to its word at DFI."""
        return (self.cwl + 1) // 2

    @property
    def refresh_cycles(self) -> int:
        """Cycles that a sequential read loses to a group of refreshes."""
        late = max(0, self.cycles(self.rtp, self.read_phase, self.row_phase) - self.cycles(self.ccd))
        reopen = max(2, self.cycles(self.rcd, self.row_phase, self.read_phase))
        return late + max(2, self.cycles(self.rp)) + self.refresh_group * self.cycles(self.rfc) + reopen

    @property
    def refresh_loss(self) -> float:
        """Cycles that a sequential read loses to refreshes, divided by all cycles."""
        return self.refresh_cycles / (self.refresh_group * self.refresh_interval)

    def cycles(self, clocks: int, start: int = 0, end: int = 0) -> int:
        """Return the smallest allowed number of cycles from one command to a later command.

        Parameters
        ----------
        clocks : int
            Smallest number of clocks of the part between the two commands.
        start : int
            DFI phase of the first command.
        end : int
            DFI phase of the second command.
        """
        return max(1, (start + clocks - end + 1) // 2)

    def with_(self, **changes: Any) -> Ddr3Timings:
        """Return a copy with some values changed."""
        return replace(self, **changes)

    def source_shape(self, client_bits: int = 1) -> SourceShape:
        """Return the shape of the part as a word source.

        The words in flight are the words of the present burst, the words of a burst that waits, and one word for every
        two cycles of the latency.
        """
        return SourceShape(
            word_bits=self.word_bits,
            address_bits=self.address_bits,
            in_flight=2 * BURST + (self.read_latency + 6) // 2,
            burst=BURST,
            page_bits=self.page_bits,
            client_bits=client_bits,
            is_trusted=True,
        )


__all__ = ["BURST", "MOST_POSTPONED", "Ddr3Part", "Ddr3Timings", "any_ddr3_part"]
