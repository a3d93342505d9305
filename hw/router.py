"""The record router: takes the stream apart, and unpacks groups of items from its words.

    words ─► router ─┬─► o_op      operations, assembled from their words
                     ├─► o_gains   words of gains
                     ├─► o_trits   beats of trits
                     └─► o_embed   words of one row of the embedding table

A header costs one cycle, a word one. Nothing is buffered here but an operation under assembly.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    HEADER_KIND_BITS,
    HEADER_LENGTH_BITS,
    OPERATION,
    OPERATION_BITS,
    Record,
    group_shape,
    shape_bits,
)


class RecordRouter(wiring.Component):
    """Sends each record where its header says.

    Members: ``i`` words; ``o_op`` operations; ``o_gains``, ``o_trits``, ``o_embed`` words. A header of an unknown kind
    is skipped with its words (the host checks the program; this keeps the machine from stopping on erased memory).

    Latency: 0 for words (a combinational path with a registered selection), 1 for an operation after its last word.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        word = stream.Signature(config.word_bits)
        super().__init__(
            {
                "i": In(word),
                "o_op": Out(stream.Signature(OPERATION)),
                "o_gains": Out(word),
                "o_trits": Out(word),
                "o_embed": Out(word),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        op_words = -(-OPERATION_BITS // self.config.word_bits)
        kind, left = Signal(HEADER_KIND_BITS), Signal(HEADER_LENGTH_BITS)
        assembled = Signal(op_words * self.config.word_bits)
        op_left = Signal(range(op_words + 1), init=op_words)
        moved = self.i.valid & self.i.ready

        with m.If(left == 0):
            m.d.comb += self.i.ready.eq(1)
            with m.If(moved):
                m.d.sync += Cat(kind, left).eq(self.i.payload)
        with m.Else():
            with m.If(moved):
                m.d.sync += left.eq(left - 1)
            with m.Switch(kind):
                for record, output in (
                    (Record.GAINS, self.o_gains),
                    (Record.TRITS, self.o_trits),
                    (Record.EMBED, self.o_embed),
                ):
                    with m.Case(record):
                        m.d.comb += [output.valid.eq(self.i.valid), self.i.ready.eq(output.ready)]
                with m.Case(Record.OP):
                    m.d.comb += self.i.ready.eq(op_left != 0)
                    with m.If(moved):
                        m.d.sync += [
                            assembled.eq(Cat(assembled, self.i.payload)[self.config.word_bits :]),
                            op_left.eq(op_left - 1),
                        ]
                with m.Default():
                    m.d.comb += self.i.ready.eq(1)
        m.d.comb += [
            self.o_gains.payload.eq(self.i.payload),
            self.o_trits.payload.eq(self.i.payload),
            self.o_embed.payload.eq(self.i.payload),
            self.o_op.payload.as_value().eq(assembled[: shape_bits(OPERATION)]),
            self.o_op.valid.eq(op_left == 0),
        ]
        with m.If(self.o_op.valid & self.o_op.ready):
            m.d.sync += op_left.eq(op_words)
        return m


class GroupUnpacker(wiring.Component):
    """Words to groups: P elements with 1, 2 or 4 items each, aligned to words as ``layouts.group_shape`` says.

    Members: ``i`` words; ``items`` (1, 2 or 4; held while groups of one operation are taken; 0: no operation, nothing
    is taken); ``o`` one group a transfer, element-major, first item lowest (unused upper bits are junk); ``flush`` with
    the transfer of an operation's last group: what is left of its word is dropped.

    Throughput: one group a cycle where a word holds one or more, else one word a cycle. Latency: 1.
    """

    def __init__(self, config: HwConfig, item_bits: int, choices: tuple[int, ...]) -> None:
        self.config = config
        self.item_bits = item_bits
        self.choices = choices
        self.group_bits = {items: config.results_per_cycle * items * item_bits for items in choices}
        super().__init__(
            {
                "i": In(stream.Signature(config.word_bits)),
                "items": In(range(max(choices) + 1)),
                "flush": In(1),
                "o": Out(stream.Signature(StructLayout({"group": max(self.group_bits.values())}))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word_bits = self.config.word_bits
        shapes = {items: group_shape(self.config, self.item_bits, items) for items in self.choices}
        most_words = max(words for _, words in shapes.values())
        buffer = Signal(most_words * word_bits, reset_less=True)
        groups_left = Signal(range(max(groups for groups, _ in shapes.values()) + 1))
        words_held = Signal(range(most_words + 1))
        taken = self.o.valid & self.o.ready
        refill = (groups_left == 0) | (taken & ((groups_left == 1) | self.flush))

        m.d.comb += [
            self.o.valid.eq(groups_left != 0),
            self.o.payload.group.eq(buffer),
            self.i.ready.eq(refill & ~(taken & self.flush) & (self.items != 0)),
        ]
        with m.Switch(self.items):
            for items in self.choices:
                groups, words = shapes[items]
                with m.Case(items):
                    with m.If(taken):
                        m.d.sync += groups_left.eq(Mux(self.flush, 0, groups_left - 1))
                        if groups > 1:
                            m.d.sync += buffer.eq(buffer >> self.group_bits[items])
                    with m.If(self.i.valid & self.i.ready):
                        if words == 1:
                            m.d.sync += [buffer.eq(self.i.payload), groups_left.eq(groups)]
                        else:
                            m.d.sync += [
                                buffer.word_select(words_held, word_bits).eq(self.i.payload),
                                words_held.eq(Mux(words_held == words - 1, 0, words_held + 1)),
                                groups_left.eq(words_held == words - 1),
                            ]
        return m
