"""The memory at the port of a simulated machine with memory "port": the times in which the memory answers, and the
cycles that it counts.

    machine ─► jobs ─► WordMemory (port_memory.h, in the harness) ─► words of the jobs, in order    clock: memory_clk

The model can represent any DRAM with its controller. Words come after a latency, one per cycle, except while the memory
refreshes. Random pauses show that no result depends on the time at which a word comes. ``WordCounts`` counts the cycles
of the memory's clock by their cause.
"""

from __future__ import annotations

import ctypes
from dataclasses import astuple, dataclass, fields
from typing import Any

from lutern.model_ref.errors import LuternError

REFRESH_INTERVAL_S, REFRESH_S = 7.8e-6, 350e-9
"""A refresh is due every 7.8 us (tREFI), and takes 350 ns in a part of 8 Gbit (tRFC). Both times are from JESD79-3."""
NEVER = (1 << 64) - 1


@dataclass(frozen=True)
class WordTiming:
    """The times in which a memory of words answers, in cycles of the memory's clock.

    latency_least, latency_most
        Smallest and largest number of cycles, at least 1, from a job to its first word if no other job waits. The
        latency of each job is random. Answers stay in order.
    refresh_interval, refresh_cycles
        No word comes in the last ``refresh_cycles`` cycles of every ``refresh_interval`` cycles. 0 means that there are
        no refreshes.
    busy_share
        Fraction of the cycles in which no job is accepted, chosen at random with ``seed``.
    pause_share
        Fraction of the cycles in which an available word is held back, chosen at random with ``seed``.
    silent_from
        A fault: after this number of words the memory sends no more answers.
    swap_from
        A fault: after this number of jobs, two reads for different clients are answered once in the wrong order. Not
        for AXI4, whose answers are in order.
    error_from
        A fault, only for AXI4: after this number of beats, a port answers every transaction with SLVERR.
    """

    latency_least: int = 100
    latency_most: int = 100
    refresh_interval: int = 0
    refresh_cycles: int = 0
    busy_share: float = 0.0
    pause_share: float = 0.0
    seed: int = 0
    silent_from: int | None = None
    swap_from: int | None = None
    error_from: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            least, most = int(field.name.startswith("latency")), 1 if field.name.endswith("share") else NEVER
            if not least <= value <= most:
                raise LuternError(f"WordTiming: {field.name} is {value}; give a number from {least} to {most}.")
        for small, large in (("latency_least", "latency_most"), ("refresh_cycles", "refresh_interval")):
            if getattr(self, small) > getattr(self, large):
                raise LuternError(
                    f"WordTiming: {small} is {getattr(self, small)}, but {large} is {getattr(self, large)}; give "
                    f"{small} a value of at most {getattr(self, large)}."
                )

    @classmethod
    def dram(cls, clock_hz: float, **others: Any) -> WordTiming:
        """Return the timing of a DRAM: a latency of 100 cycles, and refreshes of DDR3 at ``clock_hz``. The fields in
        ``others`` override these values."""
        interval, cycles = int(REFRESH_INTERVAL_S * clock_hz), -int(-REFRESH_S * clock_hz // 1)
        return cls(**{"refresh_interval": interval, "refresh_cycles": cycles, **others})

    def numbers(self) -> ctypes.Array[ctypes.c_uint64]:
        """Return the fields in the format of the harness."""
        values = [NEVER if value is None else value for value in astuple(self)]
        shares = [field.name.endswith("share") for field in fields(self)]
        whole = [round(65536 * value) if share else value for value, share in zip(values, shares, strict=True)]
        return (ctypes.c_uint64 * len(whole))(*whole)


@dataclass(frozen=True)
class WordCounts:
    """Cycles of a memory of words since its timing was set. Each cycle is counted under one cause.

    words
        A word was read.
    writes
        A word was written.
    latency
        No word came, because the latency of the oldest job has not passed.
    refresh
        No word came, because the memory refreshed.
    pause
        No word came, because of a random pause.
    silent
        No word came, because of the fault ``silent_from``.
    not_asked
        No word came, because no job waited.
    """

    words: int = 0
    writes: int = 0
    latency: int = 0
    refresh: int = 0
    pause: int = 0
    silent: int = 0
    not_asked: int = 0

    @property
    def withheld(self) -> int:
        """Cycles in which a job waited for a word and no word came."""
        return self.latency + self.refresh + self.pause + self.silent

    def __sub__(self, earlier: WordCounts) -> WordCounts:
        """Return the counts since ``earlier``."""
        return WordCounts(*(a - b for a, b in zip(astuple(self), astuple(earlier), strict=True)))


__all__ = ["WordCounts", "WordTiming"]
