"""Computes for the cycle model when the codes of a vector are written, and when their scales can be read.

    norm ─► scalars (127 / largest, scale) ─► code pass of each stream ─► code memory, two banks ─► lanes

All times are cycles, and values "show" as ``cycles.py`` defines. The computation takes constant time per beat of codes.
"""

from __future__ import annotations

from lutern.firmware.schedule import Operation
from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.norm import RmsNorm
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.scalar import NormScalar
from lutern.hw.norm.statistics import largest_latency
from lutern.hw.pipeline import CREDITS
from lutern.measure.steady import Visitor
from lutern.measure.timing import ReaderAhead


class CodeTimes:
    """The times of the norm's scalar unit, the quantiser and the code memory.

    ``column_ready`` has, for each column beat of the last operation, the cycle from which its codes can be read.
    ``scale_shows`` has, for each stream, the cycle from which its scale shows. ``reader`` reads codes for the lanes.
    """

    def __init__(self, config: HwConfig, streams: int) -> None:
        self.config, self.streams = config, streams
        self.largest_latency = largest_latency(config)
        self.reader = ReaderAhead(CREDITS, CodeMemory.read_latency_of(config))
        self.column_ready: list[int] = []
        self.scale_shows: list[int] = []
        self._scalar_idle = 0
        self._last_read = 0
        self._bank_free = [0, 0]
        self._bank = 0

    def quantise(self, op: Operation, shows: int, vector_end: int) -> int:
        """Compute scalars and code passes of an operation; return the cycle in which the operation was accepted.

        The operation shows from cycle ``shows`` on, and the last beat of its vector enters the norm in cycle
        ``vector_end``.
        """
        taken = accepted = max(shows, self._scalar_idle)
        eps, new_vector = op.eps, op.new_vector
        largest = vector_end + self.largest_latency
        parts = self.config.columns // self.config.codes_per_cycle
        self.scale_shows = []
        for stream in range(self.streams):  # each stream is like an operation; the codes of stream 0 wait for a bank
            begins = max(largest, accepted + 1 + NormScalar.preparation[eps]) if new_vector else accepted
            [(first_read, scale)], accepted = RmsNorm.schedule(
                eps, begins=begins, beats=op.beats, streams=1, new_vector=new_vector, last_read=self._last_read
            )
            self.scale_shows.append(scale)
            if stream == 0:
                first_read = max(first_read, self._bank_free[self._bank])
            self.column_ready = []
            for index in range(op.beats):
                whole = index % parts == parts - 1
                if whole or index == op.beats - 1:
                    stored = first_read + index + Quantiser.latency
                    self.column_ready.append(stored + CodeMemory.written_latency(self.config, whole=whole))
            self._last_read = first_read + op.beats - 1
        self._scalar_idle = accepted
        return taken

    def reuse(self, op: Operation) -> None:
        """Use the codes of the previous operation also for ``op``."""
        self.column_ready = [0] * op.column_beats

    def free_bank(self) -> None:
        """Free the bank whose codes no later operation needs, after its last code was read. The next codes are written
        to the other bank.
        """
        self._bank_free[self._bank] = self.reader.read + CodeMemory.bank_latency
        self._bank = 1 - self._bank

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.reader.visit(visitor)
        self._bank_free = [visitor.time(when) for when in self._bank_free]
        self._scalar_idle, self._last_read = visitor.time(self._scalar_idle), visitor.time(self._last_read)
        visitor.same(self._bank)


__all__ = ["CodeTimes"]
