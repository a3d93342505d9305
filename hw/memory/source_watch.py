"""Watches a word source, and reports a source that answers wrongly or never, so that the machine cannot hang.

    accepted jobs ─► queue of {client, length} ─┐
    words that come ────────────────────────────┴─► in order? ──────────────────┬─► fault
    words are owed, or a job is pending ──────────► an answer within the limit? ┘

Cost: a counter of 16 bits. If the order of the source is not proved, the order is watched, too, which takes a counter
of 23 bits and a queue of the jobs in flight.
"""

from __future__ import annotations

from enum import IntFlag

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.word_source import SourceShape

WATCH_CYCLES = 1 << 16
"""Cycles without a word after which a source that owes words has the fault SILENT."""
ACCEPT_CYCLES = 1 << 23
"""Cycles without an accepted job or a finished write after which a source has the fault SILENT.

The limit is long, because an external memory takes milliseconds to initialise.
"""


class Fault(IntFlag):
    """The faults of a source. Only the first fault is reported.

    Members
    -------
    NONE
        The source has no fault.
    SILENT
        A word or an answer did not come in time.
    DISORDER
        A word came that was not requested, or that names another client.
    """

    NONE = 0
    SILENT = 1
    DISORDER = 2


class SourceWatch(wiring.Component):
    """Watches one word source.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.

    Members
    -------
    pending : 1 bit, input
        A job is offered to the source, or was accepted and has not ended.
    accepted : 1 bit, input
        A job is accepted in this cycle.
    reads : 1 bit, input
        The accepted job is a read. A read is allowed only while ``room`` is 1.
    client : ``client_bits``, input
        Client of the job.
    length : ``range(burst + 1)``, input
        Number of words of the job.
    room : 1 bit, output
        The queue has room for a job.
    valid : 1 bit, input
        A word comes.
    o_client : ``client_bits``, input
        Client of the word.
    owed : 1 bit, input
        The source owes words.
    fault : ``Fault``, output
        The first fault.

    Numerics
    --------
    None.

    Latency
    -------
    1 cycle from a word for the wrong client to ``fault``. A silent source causes a fault after ``WATCH_CYCLES`` without
    an awaited word, or after ``ACCEPT_CYCLES`` without an accepted job.

    Reference
    ---------
    None.
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
        """Check that every word is for the client of the oldest job that is not fully answered."""
        layout = data.StructLayout({"client": self.shape.client_bits, "length": range(self.shape.burst + 1)})
        m.submodules.jobs = jobs = SyncFIFOBuffered(width=layout.size, depth=self.queue_depth)
        asked, oldest = data.View(layout, jobs.w_data), data.View(layout, jobs.r_data)
        came = Signal(range(self.shape.burst + 1))  # words of the oldest job that have come
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
        """Return how many jobs may be in flight: about twice as many as are needed if all bursts are full."""
        return 2 * -(-self.shape.in_flight // self.shape.burst) + 4


__all__ = ["ACCEPT_CYCLES", "WATCH_CYCLES", "Fault", "SourceWatch"]
