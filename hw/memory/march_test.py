"""A march test, which checks a range of an external memory block by block. The pattern p of a word depends on its
address.

    up: write p │ up: read p, write ~p │ down: read ~p, write p │ up: read p

"up" and "down" are the order of the blocks, and ~p is p with all bits inverted. A block has 32 words, which are always
accessed in rising order.

The pattern begins with the lowest 16 bits of the address. The next 8 bits of the address are added (modulo 2) to both
bytes of the pattern. The highest 8 bits are added to the low byte and, rotated by one bit, to the high byte. So every
address line changes the pattern, and no two lines change it in the same way. Each 16-bit slice of a word is a copy of
these 16 bits, but the slices 1, 3, 4, 6, ... are inverted. So a burst of DDR3 that begins some DDR3 beats late never
equals the right word.

The test finds stuck and coupled bits, address lines that are stuck or joined, cells that lose their value, data lines
that fail at one polarity, and words that are sampled too early or too late. It overwrites the range.

Cost in time: 14 cycles per word for its three writes and three reads, with one clock for both domains. 16 M words take
2.3 s at 100 MHz.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.protocol import MEMORY_TEST_DONE, WRONG_BYTES, range_layout, read_layout, write_layout

BLOCK = 32

# The four elements of the test: (up, reads, writes, whether the word that is read is ~p). An element that reads and
# writes writes the inverse of the word that it has read. The first element writes p.
ELEMENTS = ((1, 0, 1, 1), (1, 1, 1, 0), (0, 1, 1, 1), (1, 1, 0, 0))


def pattern(address: int, bits: int) -> int:
    """Return the pattern p of an address, as the gateware computes it.

    Parameters
    ----------
    address : int
        Address of the word.
    bits : int
        Width of the word.
    """
    high, top = address >> 16 & 0xFF, address >> 24 & 0xFF
    low = (address ^ high * 0x0101 ^ (top | _turned(top) << 8)) & 0xFFFF
    parts = range(-(-bits // 16))
    return sum((low ^ (0xFFFF if _is_inverted(part) else 0)) << 16 * part for part in parts) & (1 << bits) - 1


def _is_inverted(part: int) -> bool:
    """Return whether this 16-bit slice of a word is inverted."""
    return bool((part ^ part >> 2) & 1)


def _turned(top: int) -> int:
    """Return a byte rotated by one bit, so that no two address lines change the same bits."""
    return (top << 1 | top >> 7) & 0xFF


def _pattern(address: Value, bits: int) -> Value:
    high, top = Cat(address[16:24], Const(0, 8))[:8], Cat(address[24:], Const(0, 8))[:8]
    low = Cat(address[:16], Const(0, 16))[:16] ^ Cat(high, high) ^ Cat(top, top[-1], top[:-1])
    return Cat(*(~low if _is_inverted(part) else low for part in range(-(-bits // 16))))[:bits]


class MemoryTest(wiring.Component):
    """Tests a range of words.

    Parameters
    ----------
    config : HwConfig
        A machine with an external memory.

    Members
    -------
    i : stream of ``protocol.range_layout``, input
        {first, count}: the range. The item is accepted in the cycle in which the result is accepted.
    o : stream of ``protocol.MEMORY_TEST_DONE.layout``, output
        The number of wrong words. For the first wrong word: its address, the expected word and the word that was read
        (the lowest 32 bits of each). The number of cycles, and which bytes were wrong in at least one word.
    o_write : stream of ``protocol.write_layout``, output
        Writes to the memory.
    o_read : stream of ``protocol.read_layout``, output
        Read requests to the memory.
    i_read : stream of words, input
        The words that ``o_read`` requested.
    busy : 1 bit, output
        A test is running.

    Numerics
    --------
    None.

    Latency
    -------
    The duration of a test depends on the memory. The result is offered 2 cycles after the last word.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig) -> None:
        self.word_bits, self.address_bits = config.word_bits, config.address_bits
        super().__init__(
            {
                "i": In(stream.Signature(range_layout(config))),
                "o": Out(stream.Signature(MEMORY_TEST_DONE.layout)),
                "o_write": Out(stream.Signature(write_layout(config))),
                "o_read": Out(stream.Signature(read_layout(config))),
                "i_read": In(stream.Signature(config.word_bits)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        result = Signal(MEMORY_TEST_DONE.layout)
        element = Signal(range(len(ELEMENTS) + 1))
        up, reads, writes, inverted = (Signal() for _ in range(4))
        with m.Switch(element):
            for number, values in enumerate(ELEMENTS):
                with m.Case(number):
                    m.d.comb += [s.eq(v) for s, v in zip((up, reads, writes, inverted), values, strict=True)]
        base, offset = (
            Signal(self.address_bits),
            Signal(self.address_bits),
        )  # the block's address, and the number of words of the range before the block
        last_offset = Signal(self.address_bits)  # offset of the last block
        last_words = Signal(range(BLOCK + 1))
        words, index = Signal(range(BLOCK + 1)), Signal(range(BLOCK + 1))
        address = Signal(self.address_bits)
        expected = Signal(self.word_bits)
        compared = Signal()
        got, wanted, its_address = Signal(self.word_bits), Signal(self.word_bits), Signal(self.address_bits)
        count = self.i.p.count
        m.d.comb += [
            self.o_read.p.address.eq(base),
            self.o_read.p.count.eq(words),
            self.o_write.p.address.eq(address),
            self.o_write.p.word.eq(expected),
            self.o.payload.eq(result),
        ]
        m.d.sync += compared.eq(0)
        self._judge(m, result, compared, got, wanted, its_address)
        with m.If(self.busy):
            m.d.sync += result.cycles.eq(result.cycles + 1)

        def begin_words(polarity: Value) -> None:
            """Begin with the first word of the block."""
            m.d.sync += [index.eq(words - 1), address.eq(base)]
            m.d.sync += expected.eq(_pattern(base, self.word_bits) ^ polarity.replicate(self.word_bits))

        def next_word(polarity: Value) -> None:
            m.d.sync += [index.eq(index - 1), address.eq(address + 1)]
            m.d.sync += expected.eq(_pattern(address + 1, self.word_bits) ^ polarity.replicate(self.word_bits))

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE") & ~fsm.ongoing("DONE"))
            with m.State("IDLE"):
                m.d.sync += [
                    element.eq(0),
                    offset.eq(0),
                    result.eq(0),
                    base.eq(self.i.p.first),
                    last_offset.eq((count - 1) & ~(BLOCK - 1)),
                    last_words.eq(((count - 1) & (BLOCK - 1)) + 1),
                ]
                with m.If(self.i.valid):
                    m.next = "BLOCK"
            with m.State("BLOCK"):
                m.d.sync += words.eq(Mux(offset == last_offset, last_words, BLOCK))
                m.next = "BEGIN"
            with m.State("BEGIN"):
                begin_words(inverted)
                m.next = "READ"
                with m.If(~reads):
                    begin_words(~inverted)
                    m.next = "WRITE"
            with m.State("READ"):
                m.d.comb += self.o_read.valid.eq(1)
                with m.If(self.o_read.ready):
                    m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += self.i_read.ready.eq(1)
                with m.If(self.i_read.valid):
                    m.d.sync += [
                        compared.eq(1),
                        got.eq(self.i_read.payload),
                        wanted.eq(expected),
                        its_address.eq(address),
                    ]
                    next_word(inverted)
                    with m.If(index == 0):
                        m.next = "NEXT"
                        with m.If(writes):
                            begin_words(~inverted)
                            m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.o_write.valid.eq(1)
                with m.If(self.o_write.ready):
                    next_word(~inverted)
                    with m.If(index == 0):
                        m.next = "NEXT"
            self._next_state(m, element, up, offset, base, last_offset)
            with m.State("DONE"):  # the last comparison was made in the previous cycle
                m.d.comb += [self.o.valid.eq(1), self.i.ready.eq(self.o.ready)]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m

    def _judge(
        self, m: Module, result: Any, compared: Signal, got: Signal, wanted: Signal, its_address: Signal
    ) -> None:
        """Add a ``compared`` word to the result: whether the word is wrong, and in which bytes."""
        differs = got ^ wanted
        lanes = [
            Cat(differs[place : place + 8] for place in range(8 * lane, self.word_bits, 8 * WRONG_BYTES)).any()
            for lane in range(WRONG_BYTES)
        ]
        with m.If(compared):
            m.d.sync += result.wrong_bytes.eq(result.wrong_bytes | Cat(lanes))
        with m.If(compared & Cat(lanes).any()):
            m.d.sync += result.errors.eq(result.errors + 1)
            with m.If(result.errors == 0):
                m.d.sync += [result.address.eq(its_address), result.wanted.eq(wanted), result.got.eq(got)]

    def _next_state(
        self, m: Module, element: Signal, up: Signal, offset: Signal, base: Signal, last_offset: Signal
    ) -> None:
        """Go to the next block, or to the first block of the next element."""
        with m.State("NEXT"):
            m.next = "BLOCK"
            with m.If(up & (offset != last_offset)):
                m.d.sync += [offset.eq(offset + BLOCK), base.eq(base + BLOCK)]
            with m.Elif(~up & (offset != 0)):
                m.d.sync += [offset.eq(offset - BLOCK), base.eq(base - BLOCK)]
            with m.Else():
                m.d.sync += element.eq(element + 1)
                # The next element begins at the first or the last block, as its direction requires.
                following_up = Signal()
                with m.Switch(element):
                    for number, values in enumerate(ELEMENTS[1:]):
                        with m.Case(number):
                            m.d.comb += following_up.eq(values[0])
                with m.If(following_up):
                    m.d.sync += [offset.eq(0), base.eq(self.i.p.first)]
                with m.Else():
                    m.d.sync += [offset.eq(last_offset), base.eq(self.i.p.first + last_offset)]
                with m.If(element == len(ELEMENTS) - 1):
                    m.next = "DONE"


__all__ = ["BLOCK", "MemoryTest", "pattern"]
