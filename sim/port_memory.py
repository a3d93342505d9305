"""The memory that a simulated board has at the port of a machine (memory "port"): how it answers, and which cycles it
counts.

    machine ─► jobs ─► WordMemory (port_memory.h, in the harness) ─► their words, in order          clock: memory_clk

The model can represent any DRAM with its controller: words come after a latency, one a cycle, except while the memory
refreshes. Random pauses show that nothing depends on when a word comes. ``WordCounts`` says where the cycles of the
memory's clock went.
"""

from __future__ import annotations

import ctypes
from dataclasses import astuple, dataclass, fields
from typing import Any

from lutern.model_ref.errors import LuternError

REFRESH_INTERVAL_S, REFRESH_S = 7.8e-6, 350e-9
"""A refresh is due every 7.8 us, and takes 350 ns in a part of 8 Gbit: JESD79-3, tREFI and tRFC."""
NEVER = (1 << 64) - 1


@dataclass(frozen=True)
class WordTiming:
    """The times in which a memory of words answers, in cycles of its own clock.

    latency_least, latency_most
        cycles, at least 1, from a job to its first word if no other job is ahead; drawn for each job. Answers stay in
        order.
    refresh_interval, refresh_cycles
        no word comes in the last ``refresh_cycles`` of every ``refresh_interval``; 0 means never.
    busy_share, pause_share
        shares of the cycles in which no job is taken, and in which an available word is held back; seeded by ``seed``.
    silent_from
        a fault: number of words after which the memory answers nothing more.
    swap_from
        a fault: number of jobs after which two reads for different clients are answered in the wrong order, once. Not
        for AXI4, whose answers are in order.
    error_from
        a fault, only for AXI4: number of beats of a port after which it answers everything with SLVERR.
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
                    f"WordTiming: {small} is {getattr(self, small)}, but {large} is {getattr(self, large)}; give at "
                    "most that."
                )

    @classmethod
    def dram(cls, clock_hz: float, **others: Any) -> WordTiming:
        """Return the timing of a DRAM: a latency of 100 cycles, and refreshes of DDR3 at ``clock_hz``; ``others``
        override."""
        interval, cycles = int(REFRESH_INTERVAL_S * clock_hz), -int(-REFRESH_S * clock_hz // 1)
        return cls(**{"refresh_interval": interval, "refresh_cycles": cycles, **others})

    def numbers(self) -> ctypes.Array[ctypes.c_uint64]:
        """Return the fields in the form that the harness takes."""
        values = [NEVER if value is None else value for value in astuple(self)]
        shares = [field.name.endswith("share") for field in fields(self)]
        whole = [round(65536 * value) if share else value for value, share in zip(values, shares, strict=True)]
        return (ctypes.c_uint64 * len(whole))(*whole)


@dataclass(frozen=True)
class WordCounts:
    """Cycles of a memory of words since its timing was set; each is counted under one cause.

    words, writes
        a word was read, or written.
    latency, refresh, pause, silent
        a word was due and none was given, because the oldest job is younger than its latency, the memory refreshed, a
        random pause held it back, or the memory is silent for good.
    not_asked
        no job waits.
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
        """Cycles in which a word was due and none was given."""
        return self.latency + self.refresh + self.pause + self.silent

    def __sub__(self, earlier: WordCounts) -> WordCounts:
        """Return the counts since ``earlier``."""
        return WordCounts(*(a - b for a, b in zip(astuple(self), astuple(earlier), strict=True)))


__all__ = ["WordCounts", "WordTiming"]
