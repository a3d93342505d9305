"""The row widener: three words of an embedding row with elements of 12 bits become four with items of 16.

    word k of three   items of word k, each as it is; its 4 low bits, which are 0 in the item, are digit k of an item of
                      the fourth word, in the same place

So three words pass, with their low digits cleared, while these are collected; then comes a word that consists of them.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, NARROW_WORDS, SPARE_BITS, takes_narrow_rows

assert ITEM_BITS == SPARE_BITS * (NARROW_WORDS + 1)


class RowWidener(wiring.Component):
    """Gives rows of both formats as words of items of 16 bits.

    Members: ``i`` words; ``narrow`` whether their elements have 12 bits, held while there are rows (words of items of
    16 bits pass as they are); ``o`` words; ``flush`` between the last word of a row and the first of the next one: a
    word of digits that was not taken is dropped.

    Throughput: one word of ``o`` a cycle. Latency: 0. Cost: 16 LUT4 and 12 FF for every 16 bits.
    """

    latency = 0

    def __init__(self, config: HwConfig) -> None:
        assert takes_narrow_rows(config)
        self.word_bits = config.word_bits
        super().__init__(
            {
                "i": In(stream.Signature(config.word_bits)),
                "narrow": In(1),
                "flush": In(1),
                "o": Out(stream.Signature(config.word_bits)),
            }
        )

    @staticmethod
    def model(words: list[int], count: int, word_bits: int) -> list[int]:
        """The first ``count`` words of ``o`` that the words of a row of 12 bits an element become."""
        digits = sum((1 << SPARE_BITS) - 1 << place for place in range(0, word_bits - ITEM_BITS + 1, ITEM_BITS))
        found = []
        for start in range(0, len(words), NARROW_WORDS):
            some = words[start : start + NARROW_WORDS]
            found += [word & ~digits for word in some]
            found.append(sum((word & digits) << SPARE_BITS * place for place, word in enumerate(some, 1)))
        return found[:count]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        count = Signal(range(NARROW_WORDS + 1))
        collected = count == NARROW_WORDS
        m.d.comb += [self.o.valid.eq(self.i.valid | collected), self.i.ready.eq(self.o.ready & ~collected)]
        with m.If(self.flush | ~self.narrow):
            m.d.sync += count.eq(0)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += count.eq(count + 1)
        for start in range(0, self.word_bits, ITEM_BITS):
            entering, leaving = (port.payload[start : start + ITEM_BITS] for port in (self.i, self.o))
            if len(entering) < ITEM_BITS:  # no item
                m.d.comb += leaving.eq(entering)
                continue
            digits = Signal(ITEM_BITS - SPARE_BITS, reset_less=True, name=f"digits_{start}")
            digit, item = entering[:SPARE_BITS], entering[SPARE_BITS:]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += digits.eq(Cat(digits, digit)[SPARE_BITS:])
            m.d.comb += leaving.eq(Cat(Mux(self.narrow, 0, digit), Mux(collected, digits, item)))
        return m


__all__ = ["RowWidener"]
