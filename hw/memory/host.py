"""The weights are in the memory of the host: the words of every token come over the link, in the order in which they
are read.

    host ─► RECORDS frames ─► o_host of the host port ─► FIFO ─► o_words          offset = words so far, modulo 2^32
         ─► ROW frames ────► o_host ──────────────────────────► o_row            the decoder holds a whole row
         ◄─ WANT frames ◄─── i_want ◄── what is wanted, and how much was taken

The chip keeps four counts, and a WANT frame contains all of them. ``offset`` is the next word of the record stream that
the chip waits for. ``taken`` counts the words that have left the FIFO. ``row`` counts the rows that were requested, and
``token`` is the token of the last row. ``place`` counts the words of that row that have come. Each WANT frame has the
whole state, so any frame may be lost.

*Flow.* The host may send at most ``memory_words`` words that are not taken, so there is room for every word that comes.

*Loss.* A word that is not the next one is dropped, and its frame is answered by a WANT. This WANT has the sequence
number of the last frame that ended. The host compares the WANT with what it has sent, and sends all words
again from the first missing one on. If the line falls silent, because the last frames or the last WANT are lost, the
host sends some words again.

*Rows* have frames of their own, which the host sends before the records.

A WANT is due if a row is requested, if another ``CHUNK_BYTES`` of words were taken, or if a word was dropped.

*The host port.* A run lasts as long as its words take to come, so the host port must receive while it runs:

    RECEIVE ─► DECODE ─► BEGIN ─┬─ RUN: FEED, OFFER, RUN ─► RECEIVE      tokens are stored in the background (busy)
       ▲ │                      ├─ RECORDS, ROW: COLLECT, STORE ─► RECEIVE         no answer, but a WANT if it is due
       │ └─► NOTIFY: between any two bytes, a WANT, or the answer of the run that is finished
       └────────────────────────┴─ all others ─► REPLY

A resend of the RUN in progress is answered only when it ends, and another RUN is refused. Responses go through a FIFO
of 1,024 bytes (a block RAM), so that NOTIFY takes some 30 cycles. This is less than a byte of the line, so no received
byte is lost.

Cost: the FIFO (``memory_words`` of word_bytes), one 32-bit comparison and 200 flip-flops.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory.ports import memory_members
from lutern.hw.protocol import CHUNK_BYTES, WANT, WANT_LAYOUT, host_word_layout


class HostMemory(wiring.Component):
    """Takes words from the host, in the place of a memory.

    Parameters
    ----------
    config : HwConfig
        A machine with memory "host".

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        Accepted and dropped: there is nothing to write to.
    i_read : stream of ``protocol.read_layout``, input
        Never answered: there is nothing to read.
    o_read : stream of words, output
        Never valid.
    running : 1 bit, input
        The machine runs: rows and the record stream are read.
    setup : ``protocol.SETUP_LAYOUT``, input
        The last SETUP record, constant from the cycle before ``running`` rises.
    i_start : stream of ``layouts.token_payload``, input
        {token, stream}: a request for the row of a token.
    o_row : stream of words, output
        The ``embedding_row_words`` words of the token's row.
    o_words : stream of words, output
        The words 0 to ``record_words`` - 1, repeated endlessly.
    i_host : stream of ``protocol.host_word_layout``, input
        Words of RECORDS and ROW frames. It stalls only while the decoder is not ready for a word of a row.
    o_want : stream of ``protocol.WANT_LAYOUT``, output
        {sequence, want}: a WANT frame.

    Numerics
    --------
    None.

    Latency
    -------
    0 cycles from a word of a row to ``o_row``, 2 from a word of a record to ``o_words``.

    Reference
    ---------
    hw/protocol.py.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                **memory_members(config),
                "i_host": In(stream.Signature(host_word_layout(config.word_bytes))),
                "o_want": Out(stream.Signature(WANT_LAYOUT)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        waiting = SyncFIFOBuffered(width=config.word_bits, depth=config.memory_words)
        m.submodules.waiting = ResetInserter(~self.running)(waiting)
        item = self.i_host.p
        want = Signal(WANT.layout)
        sequence = Signal(8)
        wanting = Signal()  # words of a row are expected
        is_next, accepted, dropped = Signal(), Signal(), Signal()
        moves = Signal()
        m.d.comb += [
            self.i_write.ready.eq(1),
            self.i_start.ready.eq(self.running & ~wanting),
            self.o_row.payload.eq(item.word),
            self.o_row.valid.eq(self.i_host.valid & item.row & is_next),
            self.i_host.ready.eq(~(item.row & is_next) | self.o_row.ready),
            moves.eq(self.i_host.valid & self.i_host.ready),
            waiting.w_data.eq(item.word),
            waiting.w_en.eq(moves & ~item.row & is_next),
            waiting.r_en.eq(self.o_words.ready),
            self.o_words.valid.eq(waiting.r_rdy),
            self.o_words.payload.eq(waiting.r_data),
        ]
        with m.If(item.row):
            m.d.comb += is_next.eq(wanting & (item.place == Cat(want.place, want.row)))
        with m.Else():
            m.d.comb += is_next.eq(self.running & (item.place == want.offset) & waiting.w_rdy)
        m.d.comb += accepted.eq(moves & is_next)

        due, has_dropped = Signal(), Signal()
        chunk_words = CHUNK_BYTES // config.word_bytes
        since = Signal(range(chunk_words))  # words taken since a WANT was due for them
        takes = self.o_words.valid & self.o_words.ready
        with m.If(~self.o_want.valid | self.o_want.ready):
            m.d.sync += [self.o_want.valid.eq(due), self.o_want.p.sequence.eq(sequence), self.o_want.p.want.eq(want)]
            m.d.sync += due.eq(0)
        with m.If(accepted & item.row):
            m.d.sync += want.place.eq(want.place + 1)
            with m.If(want.place + 1 == self.setup.embedding_row_words):
                m.d.sync += wanting.eq(0)
        with m.If(accepted & ~item.row):
            m.d.sync += want.offset.eq(want.offset + 1)
        with m.If(moves):
            m.d.comb += dropped.eq(has_dropped | ~is_next)
            m.d.sync += has_dropped.eq(dropped)
            with m.If(item.last):
                m.d.sync += [sequence.eq(item.sequence), has_dropped.eq(0)]
                with m.If(dropped):
                    m.d.sync += due.eq(1)
        with m.If(takes):
            m.d.sync += [want.taken.eq(want.taken + 1), since.eq(since + 1)]
            with m.If(since == chunk_words - 1):
                m.d.sync += [since.eq(0), due.eq(1)]
        with m.If(self.i_start.valid & self.i_start.ready):
            m.d.sync += [
                want.row.eq(want.row + 1),
                want.place.eq(0),
                want.token.eq(self.i_start.payload.token),
                wanting.eq(1),
                due.eq(1),
            ]
        with m.If(~self.running):
            m.d.sync += [want.eq(0), wanting.eq(0), since.eq(0), due.eq(0), has_dropped.eq(0), self.o_want.valid.eq(0)]
        return m


__all__ = ["HostMemory"]
