"""Splits a request for many words into jobs of a word source, and offers a job only if there is room for its words.

    i {address, count} ─► address, left ─► length of the job ─► room? ─► o (jobs)
                                │
                                └─► ahead: an address in the page that follows

A job ends at the end of its aligned block of ``burst`` words, or at the end of the request.

Cost: two cycles for each job and one for each request. Bursts of 8 words hide these cycles.
"""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.word_source import Client, SourceShape


def words_layout(shape: SourceShape, count_bits: int) -> data.StructLayout:
    """Return the layout of a request for ``count`` words from ``address``.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.
    count_bits : int
        Width of the count.
    """
    return data.StructLayout({"address": shape.address_bits, "count": count_bits})


class BurstReader(wiring.Component):
    """Makes the jobs of one client.

    Parameters
    ----------
    shape : SourceShape
        Shape of the source.
    client : Client
        The client that receives the words.
    count_bits : int
        Width of the count of a request.

    Members
    -------
    i : stream of ``words_layout``, input
        Requests. A request is accepted only after the last job of the previous request is accepted.
    room : 1 bit, input
        There is room for a whole burst. This value may be late, and then does not include the last job yet.
    o : stream of ``shape.job``, output
        The jobs.
    ahead : ``address_bits``, output
        An address in the page after the page of the next job. While the next job is in the last page of the request,
        ``ahead`` is in the first page of the memory, because the record stream begins again there.

    Numerics
    --------
    None.

    Latency
    -------
    2 cycles from a request to its first job, if there is room.

    Reference
    ---------
    None.
    """

    def __init__(self, shape: SourceShape, client: Client, count_bits: int) -> None:
        self.shape, self.client, self.count_bits = shape, client, count_bits
        self.left = Signal(count_bits)  # words of the request that are not in a job yet
        super().__init__(
            {
                "i": In(stream.Signature(words_layout(shape, count_bits))),
                "room": In(1),
                "o": Out(stream.Signature(shape.job)),
                "ahead": Out(shape.address_bits),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        burst, page_bits = self.shape.burst, self.shape.page_bits
        in_block = burst.bit_length() - 1
        address, left = Signal(self.shape.address_bits), self.left
        length, final = Signal(range(burst + 1)), Signal()
        to_end = Signal(range(burst + 1))
        m.d.comb += [
            to_end.eq(burst - address[:in_block]),
            self.o.p.address.eq(address),
            self.o.p.length.eq(length),
            self.o.p.client.eq(self.client),
        ]
        last_page: Value = Const(0, 0)
        if page_bits < self.shape.address_bits:
            page = address[page_bits:]
            last_page = Signal.like(page, name="last_page")
            next_page = Signal.like(page, name="next_page")
            m.d.sync += next_page.eq(Mux(page == last_page, 0, page + 1))
            m.d.comb += self.ahead.eq(Cat(Const(0, page_bits), next_page))
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [address.eq(self.i.p.address), left.eq(self.i.p.count)]
                if len(last_page):
                    m.d.sync += last_page.eq((self.i.p.address + self.i.p.count - 1)[page_bits:])
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
            m.d.comb += Assert(fsm.ongoing("IDLE") | fsm.ongoing("MEASURE") | fsm.ongoing("OFFER"))
            m.d.comb += Assert(fsm.ongoing("IDLE") | (left != 0))
            with m.If(self.o.valid):  # the job ends within block and request; a job with the last word is final
                m.d.comb += Assert((length != 0) & (address[:in_block] + length <= burst) & (length <= left))
                m.d.comb += Assert(((length == left) | (length == to_end)) & (final == (length == left)))
        return m


__all__ = ["BurstReader", "words_layout"]
