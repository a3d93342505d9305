"""Watches a word source from outside: one that answers wrongly or never is named, and does not hang the machine.

    jobs that it accepted ─► queue of {client, length} ─┐
    words that came ────────────────────────────────────┴─► in order?      words awaited for how long?  ─► fault

Cost: a counter of 17 bits; where the order is watched (not of a source that is proved) a queue of the jobs under way.
"""

from __future__ import annotations

from enum import IntFlag

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.word_source import SourceShape

WATCH_CYCLES = 1 << 16
"""Cycles without a word after which a source that owes words is silent."""
ACCEPT_CYCLES = 1 << 23
"""Cycles after which one is silent that accepts no job, or ends no write: an external memory takes milliseconds to
wake up."""


class Fault(IntFlag):
    """What is wrong with a source; the first fault stays."""

    NONE = 0
    SILENT = 1
    DISORDER = 2


class SourceWatch(wiring.Component):
    """See above.

    Members: ``pending``, a job is offered to the source, or was accepted and has not ended; ``reads``, ``client``,
    ``length``: a read is accepted in this cycle, only while ``room`` (of the queue) is 1; ``accepted``: a job is;
    ``valid``, ``o_client``: a word comes; ``owed``: words are awaited; ``fault``.
    """

    def __init__(self, shape: SourceShape) -> None:
        self.shape = shape
        super().__init__(
            {
                "pending": In(1),
                "accepted": In(1),
                "reads": In(1),
                "client": In(shape.client_bits),
                "length": In(range(shape.burst + 1)),
                "room": Out(1),
                "valid": In(1),
                "o_client": In(shape.client_bits),
                "owed": In(1),
                "fault": Out(Fault),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        wrong = Signal()
        limit = WATCH_CYCLES if self.shape.is_trusted else max(WATCH_CYCLES, ACCEPT_CYCLES)
        waited = Signal(range(limit))
        silent, stalled = Signal(), Signal()
        m.d.comb += self.room.eq(1)
        if not self.shape.is_trusted:
            self._watch_order(m, wrong)
            m.d.comb += stalled.eq(self.pending)
        m.d.sync += waited.eq(Mux((self.owed | stalled) & ~self.valid & ~self.accepted, waited + 1, 0))
        m.d.comb += silent.eq((self.owed & (waited >= WATCH_CYCLES - 1)) | (waited == limit - 1))
        with m.If(self.fault == Fault.NONE):
            m.d.sync += self.fault.eq(Mux(wrong, Fault.DISORDER, Mux(silent, Fault.SILENT, Fault.NONE)))
        return m

    def _watch_order(self, m: Module, wrong: Signal) -> None:
        """Every word must be for the client of the oldest job that is not answered."""
        layout = data.StructLayout({"client": self.shape.client_bits, "length": range(self.shape.burst + 1)})
        m.submodules.jobs = jobs = SyncFIFOBuffered(width=layout.size, depth=self.queue_depth)
        asked, oldest = data.View(layout, jobs.w_data), data.View(layout, jobs.r_data)
        came = Signal(range(self.shape.burst + 1))  # words of the oldest job
        ends = came + 1 == oldest.length
        m.d.comb += [
            self.room.eq(jobs.w_rdy),
            jobs.w_en.eq(self.reads),
            asked.client.eq(self.client),
            asked.length.eq(self.length),
            jobs.r_en.eq(self.valid & ends),
            wrong.eq(self.valid & (~jobs.r_rdy | (oldest.client != self.o_client))),
        ]
        with m.If(self.valid):
            m.d.sync += came.eq(Mux(ends, 0, came + 1))

    @property
    def queue_depth(self) -> int:
        """Jobs under way: twice as many as full bursts would be."""
        return 2 * -(-self.shape.in_flight // self.shape.burst) + 4


__all__ = ["ACCEPT_CYCLES", "WATCH_CYCLES", "Fault", "SourceWatch"]
