"""The row widener turns three words with elements of 12 bits into four words with items of 16 bits.

    word k of three   contains the items of word k of four. The 4 low bits of each item are 0 and are not stored. In
                      their place is digit k (4 bits) of the item at the same position in the fourth word.

The widener passes three words of an embedding row with these low bits cleared, and collects the digits. The digits form
the fourth word.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, NARROW_WORDS, SPARE_BITS, takes_narrow_rows

assert ITEM_BITS == SPARE_BITS * (NARROW_WORDS + 1)


class RowWidener(wiring.Component):
    """Turns rows with elements of 12 or 16 bits into words of 16-bit items.

    Parameters
    ----------
    config : HwConfig
        A machine for which ``layouts.takes_narrow_rows`` is true.

    Members
    -------
    i : stream of ``word_bits`` bits, input
        Words of rows.
    narrow : 1 bit, input
        If this is 1, the elements of ``i`` have 12 bits. If it is 0, words pass unchanged. Constant while rows pass.
    flush : 1 bit, input
        Drops a collected word that was not taken. ``flush`` is 1 between the last word of a row and the first word of
        the next row.
    o : stream of ``word_bits`` bits, output
        Words of items of 16 bits.

    Numerics
    --------
    The block moves bits and computes nothing.

    Latency
    -------
    ``latency`` = 0 cycles. A word of ``o`` leaves in every cycle. Cost: 16 LUT4 and 12 flip-flops for every 16 bits.

    Reference
    ---------
    ``model``.
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
        """Return the first ``count`` words of ``o`` for a row of elements of 12 bits.

        Parameters
        ----------
        words
            The words of the row.
        count
            Number of words to return.
        word_bits
            Number of bits of a word.
        """
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
            if len(entering) < ITEM_BITS:  # the last bits of a word are too few for an item
                m.d.comb += leaving.eq(entering)
                continue
            digits = Signal(ITEM_BITS - SPARE_BITS, reset_less=True, name=f"digits_{start}")
            digit, item = entering[:SPARE_BITS], entering[SPARE_BITS:]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += digits.eq(Cat(digits, digit)[SPARE_BITS:])
            m.d.comb += leaving.eq(Cat(Mux(self.narrow, 0, digit), Mux(collected, digits, item)))
        return m


__all__ = ["RowWidener"]
