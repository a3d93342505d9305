"""The record router: takes the records apart, unpacks groups of items from their words, joins words to beats.

    words ─► router ─┬─► o_op      operations, assembled from their words
                     ├─► o_gains   words of gains                                 ─► GroupUnpacker
                     ├─► o_trits   words of trits (source "streamed")             ─► BeatAssembler
                     └─► checked   a block of records ends with this word         ─► the signature (weight_check.py)

A word of trits goes on with a bit above it, which says that it is a beat alone (a record of SHORT_TRITS). A word costs
one cycle, of a header as well. Nothing is buffered here but an operation under assembly.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    HEADER_KIND_BITS,
    HEADER_LENGTH_BITS,
    ITEM_BITS,
    OPERATION,
    OPERATION_BITS,
    RecordKind,
    group_shape,
    header_words,
    shape_bits,
)


class RecordRouter(wiring.Component):
    """Sends each record where its header says.

    Members: ``i`` words; ``o_op`` operations; ``o_gains`` words; ``o_trits`` words, above each a bit that is 1 in
    records of SHORT_TRITS; ``checked``: the word that is taken is the last one of a record CHECK, which is skipped, as
    one of an unknown kind is (that keeps the machine from stopping on erased memory).

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
                "o_trits": Out(stream.Signature(config.word_bits + 1)),
                "checked": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        op_words = -(-OPERATION_BITS // self.config.word_bits)
        kind, left = Signal(HEADER_KIND_BITS), Signal(HEADER_LENGTH_BITS)
        assembled = Signal(op_words * self.config.word_bits)
        op_left = Signal(range(op_words + 1), init=op_words)
        moved = self.i.valid & self.i.ready
        # Known a cycle ahead: the next word belongs to a header, or to an operation, whose register is wide.
        between, of_op = Signal(init=1), Signal()

        def begin(header: Value) -> list[Any]:
            kind_, length = header[: len(kind)], header[len(kind) :][: len(left)]
            return [
                Cat(kind, left).eq(header),
                between.eq(length == 0),
                of_op.eq((kind_ == RecordKind.OP) & (length != 0)),
            ]

        with m.If(between):
            m.d.comb += self.i.ready.eq(1)
            if header_words(self.config) == 1:
                with m.If(moved):
                    m.d.sync += begin(self.i.payload)
            else:
                low, second = Signal(self.config.word_bits), Signal()
                with m.If(moved):
                    m.d.sync += [low.eq(self.i.payload), second.eq(~second)]
                with m.If(moved & second):
                    m.d.sync += begin(Cat(low, self.i.payload))
        with m.Else():
            with m.If(moved):
                m.d.sync += [left.eq(left - 1), between.eq(left == 1), of_op.eq(of_op & (left != 1))]
            with m.Switch(kind):
                for records, output in (
                    ((RecordKind.GAINS,), self.o_gains),
                    ((RecordKind.TRITS, RecordKind.SHORT_TRITS), self.o_trits),
                ):
                    with m.Case(*records):
                        m.d.comb += [output.valid.eq(self.i.valid), self.i.ready.eq(output.ready)]
                with m.Case(RecordKind.OP):
                    m.d.comb += self.i.ready.eq(op_left != 0)
                with m.Default():
                    m.d.comb += self.i.ready.eq(1)
        with m.If(of_op & self.i.valid & (op_left != 0)):
            m.d.sync += [assembled.eq(Cat(assembled, self.i.payload)[self.config.word_bits :]), op_left.eq(op_left - 1)]
        m.d.comb += [
            self.o_gains.payload.eq(self.i.payload),
            self.o_trits.payload.eq(Cat(self.i.payload, kind == RecordKind.SHORT_TRITS)),
            self.o_op.payload.as_value().eq(assembled[: shape_bits(OPERATION)]),
            self.o_op.valid.eq(op_left == 0),
            self.checked.eq(moved & (kind == RecordKind.CHECK) & (left == 1)),
        ]
        with m.If(self.o_op.valid & self.o_op.ready):
            m.d.sync += op_left.eq(op_words)
        return m


class BeatAssembler(wiring.Component):
    """Words to beats, the first word lowest.

    Members: ``i`` words, above each a bit: it is a beat alone, whose other words are anything; ``o``
    beats. A beat waits in a register while the next one is assembled.

    Latency: 1 after a beat's last word. A word a cycle as long as no beat waits longer than the next one takes to come.
    """

    latency = 1

    def __init__(self, config: HwConfig) -> None:
        self.words = config.beat_bits // config.word_bits
        assert self.words * config.word_bits == config.beat_bits
        super().__init__(
            {"i": In(stream.Signature(config.word_bits + 1)), "o": Out(stream.Signature(config.beat_bits))}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word, alone = self.i.payload[:-1], self.i.payload[-1]
        before = Signal((self.words - 1) * len(word), reset_less=True)  # all words but the last
        count = Signal(range(self.words))
        beat = Signal(len(self.o.payload), reset_less=True)
        whole = Cat(before, word)
        last = alone | (count == self.words - 1)
        advance = ~self.o.valid | self.o.ready
        m.d.comb += [self.i.ready.eq(~last | advance), self.o.payload.eq(beat)]
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(self.i.valid & last),
                beat.eq(Mux(alone, Cat(word, whole[len(word) :]), whole)),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [before.eq(whole[len(word) :]), count.eq(Mux(last, 0, count + 1))]
        return m


class GroupUnpacker(wiring.Component):
    """Words to groups: P elements with 1, 2 or 4 items each, aligned to words as ``layouts.group_shape`` says.

    Members: ``i`` words; ``items`` (1, 2 or 4; held while groups of one operation are taken; 0: no operation, nothing
    is taken); ``o`` one group a transfer, element-major, first item lowest (unused upper bits are junk); ``flush`` with
    the transfer of an operation's last group: what is left of its word is dropped.

    Throughput: one group a cycle where a word holds one or more, else one word a cycle. Latency: 1.
    """

    def __init__(self, config: HwConfig, choices: tuple[int, ...]) -> None:
        self.config = config
        self.choices = choices
        self.group_bits = {items: config.results_per_cycle * items * ITEM_BITS for items in choices}
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
        shapes = {items: group_shape(self.config, items) for items in self.choices}
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
        loads = self.i.valid & self.i.ready
        whole, full = Signal(), Signal.like(groups_left, name="full")  # a word ends a group; groups of the items in it
        shifted: Value = buffer  # behind the last group of a word anything: the next one fills the buffer
        with m.Switch(self.items):
            for items in self.choices:
                groups, words = shapes[items]
                with m.Case(items):
                    m.d.comb += [whole.eq(words_held == words - 1), full.eq(groups)]
                if groups > 1:
                    moved = buffer >> self.group_bits[items]
                    shifted = moved if shifted is buffer else Mux(self.items == items, moved, shifted)
        with m.If(taken):
            m.d.sync += groups_left.eq(Mux(self.flush, 0, groups_left - 1))
        with m.If(loads):
            m.d.sync += [
                buffer.word_select(words_held, word_bits).eq(self.i.payload),
                words_held.eq(Mux(whole, 0, words_held + 1)),
                groups_left.eq(Mux(whole, full, 0)),
            ]
        with m.Elif(taken):
            m.d.sync += buffer.eq(shifted)
        return m
