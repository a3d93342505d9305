"""A memory whose words stay in the host: for every token the host sends all words over the link, in the order of
reading.

    host ─► RECORDS frames ─► o_host of the host port ─► FIFO ─► o_words          offset = words so far, modulo 2^32
         ─► ROW frames ────► o_host ──────────────────────────► o_row            the decoder stores a whole row
         ◄─ WANT frames ◄─── i_want ◄── the next word that is expected, and the number of words taken

The chip keeps four counts and a token number, and every WANT frame contains these five values. ``offset`` is the number
of the word of the record stream that the chip waits for. ``taken`` counts the words that have left the FIFO. ``row``
counts the rows that were requested, and ``token`` is the token of the last row. ``place`` counts the words of the last
row that have come. Because each WANT frame contains the whole state, any frame may be lost.

*Flow.* The host may send at most ``memory_words`` words that are not taken yet, so the FIFO has room for every word.

*Loss.* The chip drops a word that is not the expected word, and answers the frame of this word with a WANT. The WANT
has the sequence number of the last frame that ended. The host compares the WANT with the words that it has sent, and
sends all words again, beginning with the first missing word. If the host receives no WANT, because the last frames or
the last WANT are lost, it sends some words again after a while.

*Rows* come in frames of opcode ROW, which the host sends before the records.

A WANT is due if a row is requested, if ``CHUNK_BYTES`` more bytes were taken, or if a word was dropped.

*The host port.* The words of a run arrive during the run, so the host port must receive while the machine runs:

    RECEIVE ─► DECODE ─► BEGIN ─┬─ RUN: FEED, OFFER, RUN ─► RECEIVE      tokens are stored in the background (busy)
       ▲ │                      ├─ RECORDS, ROW: COLLECT, STORE ─► RECEIVE         no answer, but a WANT if it is due
       │ └─► NOTIFY: between any two bytes, a WANT, or the answer of the run that is finished
       └────────────────────────┴─ all other commands ─► REPLY

If the host sends the RUN in progress again, the answer comes when the run ends. The port refuses a different RUN.
Responses go through a FIFO of 1,024 bytes (a block RAM), so NOTIFY takes some 30 cycles. A byte on the line takes
longer, so no received byte is lost.

Cost: the FIFO (``memory_words`` words), one 32-bit comparison and 200 flip-flops.
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
    """Receives words from the host, and has the ports of a memory.

    Parameters
    ----------
    config : HwConfig
        A machine with memory "host".

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        Accepted and dropped, because the chip stores no words.
    i_read : stream of ``protocol.read_layout``, input
        Never answered, because the chip stores no words.
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
        Words of RECORDS and ROW frames. The stream stalls only while the decoder is not ready for a word of a row.
    o_want : stream of ``protocol.WANT_LAYOUT``, output
        {sequence, want}: a WANT frame. ``sequence`` is 0 before the first frame after a SETUP. If ``running`` falls,
        ``valid`` falls, too, but the payload stays.

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
        since = Signal(range(chunk_words))  # words taken since the last WANT that was due for taken words
        takes = self.o_words.valid & self.o_words.ready
        with m.If(~self.o_want.valid | self.o_want.ready):
            m.d.sync += [self.o_want.valid.eq(due), due.eq(0)]
            with m.If(due):  # otherwise the payload is stable, because the link may still send it after a stop
                m.d.sync += [self.o_want.p.sequence.eq(sequence), self.o_want.p.want.eq(want)]
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
            m.d.sync += sequence.eq(0)
        return m


__all__ = ["HostMemory"]
