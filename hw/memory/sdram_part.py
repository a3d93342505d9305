"""A part of SDR SDRAM: the times of its data sheet in nanoseconds, and in cycles of a clock.

    SdramPart (ns) ── timings(clock_hz) ──► SdramTimings (cycles) ──► controller, model in simulation

boards/sdram_parts.py has the data of the parts, because a board chooses its part. In the address of a word, the lowest
bits are the column, followed by bank and row. So consecutive pages are in consecutive banks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lutern.model_ref.errors import LuternError

PART_BITS = (16, 32)
"""Widths of the parts in boards/sdram_parts.py."""
REFRESH_SHARE = 0.995
"""The controller's refresh interval, relative to the interval of the data sheet.

The ratio is less than 1, because a refresh waits for the burst before the refresh, and because after a reset all
refreshes wait for the power-up pause.
"""


@dataclass(frozen=True)
class SdramPart:
    """One part and speed grade. Times are in ns unless the name says otherwise.

    Parameters
    ----------
    reference : str
        Data sheet and table.
    bank_bits, row_bits, column_bits, data_bits : int
        Geometry.
    period_ns : Mapping[int, float]
        Shortest clock period in ns, for each CAS latency.
    access_ns : Mapping[int, float]
        tAC, from a clock edge to valid data, for each CAS latency.
    hold_ns : float
        tOH, the time for which data stay valid after the next clock edge.
    setup_ns, input_hold_ns : float
        tDS and tDH, used for every input, because tIS and tIH are equal or shorter.
    rc_ns, ras_ns, rp_ns, rcd_ns, rrd_ns, rfc_ns : float
        Times from one command to another. tRC: ACTIVATE to ACTIVATE of a bank. tRAS: ACTIVATE to PRECHARGE. tRP:
        PRECHARGE to ACTIVATE. tRCD: ACTIVATE to READ. tRRD: ACTIVATE to ACTIVATE of another bank. tRFC: REFRESH to
        ACTIVATE.
    wr_ns, wr_cycles
        tWR (tDPL), from the last written word to PRECHARGE. The longer of the two times applies.
    mrd_cycles : int
        tMRD, from setting the mode register to any command.
    refresh_ms, refresh_count
        The part needs ``refresh_count`` refreshes in ``refresh_ms``.
    power_up_us : float
        Pause before the first command.
    """

    name: str
    reference: str
    bank_bits: int
    row_bits: int
    column_bits: int
    data_bits: int
    period_ns: Mapping[int, float]
    access_ns: Mapping[int, float]
    hold_ns: float
    setup_ns: float
    input_hold_ns: float
    rc_ns: float
    ras_ns: float
    rp_ns: float
    rcd_ns: float
    rrd_ns: float
    rfc_ns: float
    wr_ns: float
    wr_cycles: int = 2
    mrd_cycles: int = 2
    refresh_ms: float = 64.0
    refresh_count: int = 8192
    power_up_us: float = 200.0

    @property
    def words(self) -> int:
        """Number of words of ``data_bits`` in the part."""
        return 1 << self.bank_bits + self.row_bits + self.column_bits

    @property
    def byte_count(self) -> int:
        """Capacity in bytes."""
        return self.words * self.data_bits // 8

    def cycles(self, ns: float, clock_hz: float) -> int:
        """Return the fewest whole cycles that last at least ``ns``."""
        return math.ceil(ns * clock_hz / 1e9 - 1e-6)

    def timings(self, clock_hz: float, refresh_group: int = 1) -> SdramTimings:
        """Return all times in cycles of a given clock.

        A sequential read is equally fast with every CAS latency. So the method chooses the CAS latency with the
        shortest tAC.

        Parameters
        ----------
        clock_hz : float
            Frequency of the memory's clock.
        refresh_group : int
            Number of refreshes that are sent together.
        """
        period = 1e9 / clock_hz
        latencies = [latency for latency, shortest in self.period_ns.items() if period >= shortest - 1e-6]
        if not latencies:
            shortest = min(self.period_ns.values())
            raise LuternError(
                f"{self.name} is asked to run at {clock_hz / 1e6:g} MHz, but its data sheet ends at "
                f"{1e3 / shortest:g} MHz; choose a slower clock or a faster part."
            )

        soonest = min(latencies, key=lambda latency: (self.access_ns[latency], latency))

        def least(ns: float, cycles: int = 2) -> int:
            return max(cycles, self.cycles(ns, clock_hz))

        interval = self.refresh_ms * 1e-3 / self.refresh_count * clock_hz
        return SdramTimings(
            clock_hz=clock_hz,
            data_bits=self.data_bits,
            bank_bits=self.bank_bits,
            row_bits=self.row_bits,
            column_bits=self.column_bits,
            cas_latency=soonest,
            rc=least(self.rc_ns),
            ras=least(self.ras_ns),
            rp=least(self.rp_ns),
            rcd=least(self.rcd_ns),
            rrd=least(self.rrd_ns),
            rfc=least(self.rfc_ns),
            wr=least(self.wr_ns, self.wr_cycles),
            mrd=self.mrd_cycles,
            refresh_interval=math.floor(REFRESH_SHARE * interval),
            refresh_limit=math.floor(interval * self.refresh_count),
            power_up=self.cycles(1e3 * self.power_up_us, clock_hz),
            refresh_group=refresh_group,
        )


@dataclass(frozen=True)
class SdramTimings:
    """A part at a given clock: its geometry, and every time in cycles. A time between two commands is at least 2
    cycles.

    Parameters
    ----------
    refresh_interval : int
        Cycles from one refresh of the controller to the next refresh, on average.
    refresh_limit : int
        Cycles within which each row must be refreshed.
    refresh_group : int
        Number of refreshes that are sent together.
    """

    clock_hz: float
    data_bits: int
    bank_bits: int
    row_bits: int
    column_bits: int
    cas_latency: int
    rc: int
    ras: int
    rp: int
    rcd: int
    rrd: int
    rfc: int
    wr: int
    mrd: int
    refresh_interval: int
    refresh_limit: int
    power_up: int
    refresh_group: int = 1

    @property
    def address_bits(self) -> int:
        """Number of bits of a word's address."""
        return self.bank_bits + self.row_bits + self.column_bits

    @property
    def words(self) -> int:
        """Number of words of ``data_bits`` in the part."""
        return 1 << self.address_bits

    @property
    def pin_address_bits(self) -> int:
        """Number of pins A: the address bits of a row, but at least 11 (A0 to A10)."""
        return max(self.row_bits, 11)

    @property
    def refresh_loss(self) -> float:
        """Cycles that a sequential read loses to refreshes, divided by all cycles."""
        lost = self.rp + self.refresh_group * self.rfc + self.rcd
        return lost / (self.refresh_group * self.refresh_interval)

    def with_(self, **changes: int) -> SdramTimings:
        """Return a copy with some times changed."""
        return replace(self, **changes)


def any_part(data_bits: int) -> SdramTimings:
    """Return timings at 100 MHz that suit all parts of this width in boards/sdram_parts.py.

    A part of 32 bits has 8 MB, and a part of 16 bits has 32 MB. At a slower clock these cycles still satisfy all times
    of the parts except the refresh interval, which is computed for 100 MHz.

    Parameters
    ----------
    data_bits : int
        Width of the part, 16 or 32.
    """
    if data_bits not in PART_BITS:
        raise LuternError(
            f"words of {data_bits} bits are wanted of an SDR SDRAM, whose parts have "
            f"{' or '.join(map(str, PART_BITS))}; choose word_bytes {' or '.join(str(b // 8) for b in PART_BITS)}, or "
            "another memory."
        )
    wide = data_bits == 32
    return SdramTimings(
        clock_hz=100e6,
        data_bits=data_bits,
        bank_bits=2,
        row_bits=11 if wide else 13,
        column_bits=8 if wide else 9,
        cas_latency=3,
        rc=7,
        ras=5,
        rp=3,
        rcd=3,
        rrd=2,
        rfc=7,
        wr=2,
        mrd=2,
        refresh_interval=1554 if wide else 777,
        refresh_limit=6_400_000,
        power_up=20_000,
    )


__all__ = ["SdramPart", "SdramTimings", "any_part"]
