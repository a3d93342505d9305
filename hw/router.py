"""The record router sends each record to its block. Two more blocks unpack groups of items and assemble beats.

    words ─► router ─┬─► o_op      operations, assembled from their words
                     ├─► o_gains   words of gains                                 ─► GroupUnpacker
                     ├─► o_trits   words of trits (source "streamed")             ─► BeatAssembler
                     └─► checked   a block of records ends with this word         ─► the signature (weight_check.py)

A word of trits leaves with an additional top bit, which is 1 if the word is a whole beat (in a record of SHORT_TRITS).
Each word takes one cycle, and so does each word of a header. The router buffers only the operation that it assembles.
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
    """Sends each record to the output that belongs to the kind in its header.

    The words of a record CHECK are skipped. Records of an unknown kind are skipped, too, so that the machine does not
    hang on erased memory.

    Parameters
    ----------
    config : HwConfig
        ``word_bits``.

    Members
    -------
    i : stream of ``word_bits`` bits, input
        Words of the record stream.
    o_op : stream of ``layouts.OPERATION``, output
        Operations.
    o_gains : stream of ``word_bits`` bits, output
        Words of gains.
    o_trits : stream of ``word_bits`` + 1 bits, output
        Words of trits. The top bit is 1 in records of SHORT_TRITS.
    checked : 1 bit, output
        The word that is taken in this cycle is the last word of a record CHECK.

    Numerics
    --------
    None.

    Latency
    -------
    0 cycles for words, because the path is combinational and a register selects the output. An operation leaves 1 cycle
    after its last word.

    Reference
    ---------
    None.
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
        # Two registers are computed one cycle early. between: the next word belongs to a header. of_op: the next word
        # belongs to an operation. The register of operations is wide, so its enable has a high fan-out.
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
    """Assembles words to beats, with the first word in the lowest bits.

    Parameters
    ----------
    config : HwConfig
        ``word_bits``, ``beat_bits``.

    Members
    -------
    i : stream of ``word_bits`` + 1 bits, input
        Words. If the top bit is 1, the word is a whole beat, and the other bits of the beat are undefined.
    o : stream of ``beat_bits`` bits, output
        Beats.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 1 cycle after the last word of a beat. A register holds the beat while the next beat is assembled. A
    word enters in every cycle if each beat has left when the last word of the next beat arrives.

    Reference
    ---------
    None.
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
        before = Signal((self.words - 1) * len(word), reset_less=True)  # all words except the last
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
    """Unpacks words to groups of P elements with 1, 2 or 4 items per element.

    Parameters
    ----------
    config : HwConfig
        ``word_bits``, ``results_per_cycle`` (P). ``layouts.group_shape`` defines how groups are aligned to words.
    choices : tuple of int
        Values that ``items`` may have.

    Members
    -------
    i : stream of ``word_bits`` bits, input
        Words of items.
    items : ``range(max(choices) + 1)``, input
        Number of items of an element. Constant while the groups of one operation are taken. 0 means that there is no
        operation, so no word is taken.
    flush : 1 bit, input
        Is 1 with the transfer of an operation's last group. The groups that follow in the same word are dropped.
    o : stream of groups of P x ``max(choices)`` x 16 bits, output
        One group per transfer, element after element, with the first item in the lowest bits. Unused upper bits are
        undefined.

    Numerics
    --------
    None.

    Latency
    -------
    1 cycle after the last word of a group. If a word contains one or more groups, a group leaves in every cycle.
    Otherwise a word enters in every cycle.

    Reference
    ---------
    None.
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
        whole, full = Signal(), Signal.like(groups_left, name="full")  # the word ends a group; groups of a word
        shifted: Value = buffer  # undefined after the last group of a word
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
