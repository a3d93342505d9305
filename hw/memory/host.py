"""Weight memory on the host: the words of every token come over the link, in the order in which they are read.

    host ─► RECORDS frames ─► o_host of the host port ─► FIFO ─► o_words          offset = words so far, modulo 2^32
         ─► ROW frames ────► o_host ──────────────────────────► o_row            the decoder holds a whole row
         ◄─ WANT frames ◄─── i_want ◄── what is wanted, and how much was taken

The chip keeps four numbers, and a WANT frame says all of them: ``offset``, the next word of the record stream that it
waits for; ``taken``, the words that have left the FIFO; ``row``, how many rows it has asked for, with the ``token`` of
the last; ``place``, the words of it that came. So any WANT frame may be lost, and the next one says what it said.

*Flow.* The host may have ``memory_words`` words under way that are not taken, so there is room for every word that
comes. *Loss.* A word that is not the next one is dropped, and the frame that brought it is answered by a WANT. It bears
the sequence number of the last frame that ended: the host knows what it had sent by then, sees what is missing, and
goes back to it. If the line falls silent, because the last frames or the last WANT are lost, the host sends some words
again. *Rows* have frames of their own, which the host sends ahead of the records.

A WANT is due when a row is asked for, when another ``CHUNK_BYTES`` of words were taken, and when a word was dropped.

*The host port meanwhile.* A run lasts as long as its words take to come, so the host port must receive while it runs:

    RECEIVE ─► DECODE ─► BEGIN ─┬─ RUN: FEED, OFFER, RUN ─► RECEIVE      tokens are gathered beside this machine (busy)
       ▲ │                      ├─ RECORDS, ROW: COLLECT, STORE ─► RECEIVE         no answer but the WANT that is due
       │ └─► NOTIFY: between any two bytes, a WANT, or the answer of the run that is finished
       └────────────────────────┴─ all others ─► REPLY

A resend of the RUN in progress is answered only when it ends; another RUN is refused. Responses go through a FIFO of
1,024 bytes (a block RAM), so that NOTIFY takes some 30 cycles, less than a byte of the line, and no byte that comes is
lost.

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
    """Words from the host, in the place of a memory.

    Members: ``i_host`` words of RECORDS and ROW frames, always ready but while the decoder is not for a row's;
    ``o_want`` {sequence, want}; ``i_start``, ``o_row``, ``o_words``, ``running``, ``setup`` as other memories have
    them. There is nothing to write or to read: ``i_write`` is taken and dropped, ``i_read`` is never answered.

    Latency: a row's word leaves in the cycle in which it comes; 2 from a word of a record to ``o_words``.
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
        wanting = Signal()  # words of a row
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
        since = Signal(range(chunk_words))  # words taken
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
