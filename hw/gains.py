"""The supply of gains: words of the stream to groups, ahead of the vectors that want them.

    words ─► FIFO ─► unpacker ─► FIFO of groups ─► gain join
                        ▲
                        └── operations: how many groups, of how many items

Results appear P at a time, a beat a cycle at the end of a matrix, and a group may take several words: the groups that
wait make up for that.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, SUPPLY_OP, TUPLE_GAINS
from lutern.hw.results import GROUP
from lutern.hw.router import GroupUnpacker
from lutern.hw.stages import link

GAIN_TUPLES = (1, 2, TUPLE_GAINS)


class GainSupply(wiring.Component):
    """Groups of every operation that has some, in order.

    Members: ``i_op`` operations (``SUPPLY_OP``); ``i`` words of gains; ``o`` groups: P elements with 1, 2 or 4 items
    each, unused upper bits are junk.

    Latency: a group that arrives in an empty supply shows 4 cycles after its last word; a group a cycle, where its
    words come as fast.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.group = StructLayout({GROUP: config.results_per_cycle * TUPLE_GAINS * ITEM_BITS})
        super().__init__(
            {
                "i_op": In(stream.Signature(SUPPLY_OP)),
                "i": In(stream.Signature(config.word_bits)),
                "o": Out(stream.Signature(self.group)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, op = self.config, self.i_op.payload
        m.submodules.words = words = SyncFIFOBuffered(width=config.word_bits, depth=config.gain_fifo_words)
        m.submodules.unpacker = unpacker = GroupUnpacker(config, GAIN_TUPLES)
        m.submodules.groups = groups = SyncFIFOBuffered(width=self.group.size, depth=config.gain_fifo_groups)
        link(m, self.i, words.w_stream)
        link(m, words.r_stream, unpacker.i)
        number, last = Signal(16, init=1), Signal()  # of the group that is taken next: the first is 1
        taken = unpacker.o.valid & groups.w_rdy
        m.d.comb += [
            unpacker.items.eq(Mux(self.i_op.valid, op.items, 0)),
            unpacker.flush.eq(last),
            unpacker.o.ready.eq(groups.w_rdy),
            groups.w_en.eq(unpacker.o.valid),
            groups.w_data.eq(unpacker.o.payload.group),
            self.i_op.ready.eq(taken & last),
            self.o.valid.eq(groups.r_rdy),
            self.o.payload.group.eq(groups.r_data),
            groups.r_en.eq(self.o.ready),
        ]
        # Known a cycle ahead. Behind an operation's last group it is not; none is taken in that cycle.
        m.d.sync += last.eq(Mux(taken, number + 1 == op.groups, number == op.groups))
        with m.If(taken):
            m.d.sync += number.eq(Mux(last, 1, number + 1))
        return m
