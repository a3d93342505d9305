"""Takes a request for many words apart into bursts of the SDRAM controller, each only when there is room for it.

    i {address, count} ─► address, left ─► length of the burst ─► room? ─► o (jobs)
                                │
                                └─► ahead: the page behind this one

Cost: three cycles a job, of which a burst of 8 words hides all; no cycle between two requests that a burst would not
hide.
"""

from __future__ import annotations

from amaranth.hdl import Assert, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.sdram_controller import BURST, job_layout
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.protocol import ADDRESS_BITS

BURST_BITS = BURST.bit_length() - 1
PIPELINE_WORDS = 3 * BURST + 10
"""Words, and the CAS latency more, that may be on their way when ``room`` is seen: the burst that is offered, the one
that waits in the controller, the one that is read, registers, and the age of the level from which ``room`` comes."""

REQUEST = data.StructLayout({"address": ADDRESS_BITS, "count": ADDRESS_BITS})


class BurstReader(wiring.Component):
    """See above.

    Parameters: ``client``, who it reads for. Members: ``i`` requests, a new one is taken when the last job of the one
    before was; ``room``: there is room for PIPELINE_WORDS + CAS latency; ``o`` jobs; ``ahead``: the page that follows
    the next job's, the first one of the memory behind the last page of the request (which repeats, if anything follows
    in order).
    """

    def __init__(self, timings: SdramTimings, client: int) -> None:
        self.timings, self.client = timings, client
        super().__init__(
            {
                "i": In(stream.Signature(REQUEST)),
                "room": In(1),
                "o": Out(stream.Signature(job_layout(timings))),
                "ahead": Out(timings.bank_bits + timings.row_bits),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        column_bits = self.timings.column_bits
        address, left = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        last_page = Signal.like(self.ahead)
        length, final = Signal(range(BURST + 1)), Signal()
        to_end = Signal(range(BURST + 1))
        page = address[column_bits:]
        m.d.comb += [
            to_end.eq(BURST - address[:BURST_BITS]),
            self.o.p.address.eq(address),
            self.o.p.length.eq(length),
            self.o.p.client.eq(self.client),
        ]
        m.d.sync += self.ahead.eq(Mux(page == last_page, 0, page + 1))
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [address.eq(self.i.p.address), left.eq(self.i.p.count)]
                m.d.sync += last_page.eq((self.i.p.address + self.i.p.count - 1)[column_bits:])
                with m.If(self.i.valid & (self.i.p.count != 0)):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [length.eq(Mux(left < to_end, left, to_end)), final.eq(left <= to_end)]
                with m.If(self.room):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [address.eq(address + length), left.eq(left - length)]
                    m.next = "MEASURE"
                    with m.If(final):
                        m.next = "IDLE"
        if platform == "formal":
            m.d.comb += Assert(fsm.ongoing("IDLE") | (left != 0))
            with m.If(self.o.valid):  # within the block and the request, and it ends with its last word
                m.d.comb += Assert((length != 0) & (address[:BURST_BITS] + length <= BURST) & (length <= left))
                m.d.comb += Assert(((length == left) | (length == to_end)) & (final == (length == left)))
        return m


__all__ = ["PIPELINE_WORDS", "REQUEST", "BurstReader"]
