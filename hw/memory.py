"""Image memory on the chip, and the reader that turns it into the stream.

    host writes ──► words x word_bits ──► reader ──► o_words (one word a cycle)
    host reads  ──►                          └─────► o_read

A token reads three spans, in this order: the head of the stream (the embedding's operation), the row of the token in
the embedding table, the rest of the stream. After configuration the memory is empty: everything arrives over the link.
One word a cycle while ready; two cycles from a request to its first word, one idle cycle between spans.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.head import TOKEN
from lutern.hw.protocol import ADDRESS_BITS, READ_LAYOUT, SETUP_LAYOUT, write_layout


class ImageMemory(wiring.Component):
    """Block RAM behind the weight-stream interface.

    Members: ``i_write`` {address, word}; ``i_read`` {address, count} answered on ``o_read`` with exactly ``count``
    words; ``i_start`` {token} answered on ``o_words`` with the stream of one token; ``setup`` held while running.
    Requests are served one at a time; host reads and tokens never overlap because the host port is one thread.

    The head of the stream has at least one word. Latency: the first word is valid 2 cycles after a request is accepted.
    """

    latency = 2

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_write": In(stream.Signature(write_layout(config.word_bytes))),
                "i_read": In(stream.Signature(READ_LAYOUT)),
                "o_read": Out(stream.Signature(config.word_bits)),
                "i_start": In(stream.Signature(TOKEN)),
                "o_words": Out(stream.Signature(config.word_bits)),
                "setup": In(SETUP_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.config.word_bits, depth=self.config.memory_words, init=[])
        write = memory.write_port()
        read = memory.read_port()
        m.d.comb += [
            self.i_write.ready.eq(1),
            write.addr.eq(self.i_write.payload.address),
            write.data.eq(self.i_write.payload.word),
            write.en.eq(self.i_write.valid),
        ]

        setup = self.setup
        address, left = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        span = Signal(2)  # spans still to come after this one
        offset, row = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        to_host, valid = Signal(), Signal()
        idle = (left == 0) & (span == 0) & ~valid
        output_ready = Mux(to_host, self.o_read.ready, self.o_words.ready)
        advance = ~valid | output_ready
        issue = advance & (left != 0)
        m.d.comb += [
            self.i_read.ready.eq(idle),
            self.i_start.ready.eq(idle & ~self.i_read.valid),
            read.addr.eq(address),
            read.en.eq(advance),
            self.o_read.valid.eq(valid & to_host),
            self.o_words.valid.eq(valid & ~to_host),
            self.o_read.payload.eq(read.data),
            self.o_words.payload.eq(read.data),
        ]
        m.d.sync += row.eq(setup.embedding_base + offset)  # the product has a register of its own
        with m.If(advance):
            m.d.sync += valid.eq(left != 0)
        with m.If(issue):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.Elif((left == 0) & (span == 2)):
            m.d.sync += [address.eq(row), left.eq(setup.embedding_row_words), span.eq(1)]
        with m.Elif((left == 0) & (span == 1)):
            m.d.sync += [
                address.eq(setup.stream_base + setup.head_words),
                left.eq(setup.stream_words - setup.head_words),
                span.eq(0),
            ]
        with m.If(self.i_read.valid & self.i_read.ready):
            m.d.sync += [
                to_host.eq(1),
                address.eq(self.i_read.payload.address),
                left.eq(self.i_read.payload.count),
                span.eq(0),
            ]
        with m.Elif(self.i_start.valid & self.i_start.ready):
            m.d.sync += [
                to_host.eq(0),
                address.eq(setup.stream_base),
                left.eq(setup.head_words),
                offset.eq(self.i_start.payload.token * setup.embedding_row_words),
                span.eq(2),
            ]
        return m
