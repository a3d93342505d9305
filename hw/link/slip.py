"""The two ends of a framed byte stream: SLIP escapes and CRC-32C.

    bytes ─► Deframer ─► bytes of a frame without its CRC, then one item "end" that says whether the frame was whole
    bytes ◄─  Framer  ◄─ bytes of a frame, the last one marked

Formats: hw/protocol.py. Cost: the Deframer takes a byte in three cycles, a line tens, so that nothing but registers is
between one step of it and the next: the placer spreads what is so small all over a large chip. The Framer takes a cycle
for a byte, two for an escaped one, one for each END, four for a CRC. The Deframer has some 130 registers (a CRC, four
bytes that may turn out to be one, and what it hands on), the Framer 40.

Reference: RFC 1055.
"""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.link.crc import Crc32c
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import CRC_BYTES, END, ESC, ESC_END, ESC_ESC, FRAME_BYTES, HEADER_BYTES

DEFRAMED = data.StructLayout({"byte": 8, "end": 1, "good": 1})
"""`end` closes a frame, with `byte` meaningless and `good` telling whether all that came before it may be believed."""

FRAMED = data.StructLayout({"byte": 8, "last": 1})
"""A byte of a frame; `last` on its final one."""


class Deframer(wiring.Component):
    """Takes escapes, END bytes and CRC off.

    Every frame that is not empty ends with one item `end`. It is `good` when the CRC fits, every ESC was followed by
    ESC_END or ESC_ESC, and the frame has at least HEADER_BYTES + CRC_BYTES and at most FRAME_BYTES bytes. Bytes beyond
    that are not handed on, so that FRAME_BYTES - CRC_BYTES bytes of buffer are always enough.

    Members: `i` raw bytes; `o` DEFRAMED; `crc` the CRC received with the frame, from the cycle in which `o` shows `end`
    to the next `end`.

    Latency: all of `o` and `crc` are registers, and `i.ready` looks at nothing else. A byte leaves two cycles after the
    fourth byte after it came, `end` two cycles after END; the next is taken when what this one gave has left.
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(DEFRAMED))
    crc: Out(32)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.checker = checker = Crc32c()

        came, has = Signal(8), Signal()  # the byte taken a cycle ago
        held = Signal(8 * CRC_BYTES)  # the last four bytes; the oldest lowest, as in a little-endian CRC
        count = Signal(range(FRAME_BYTES + 2))  # bytes of this frame so far, at most FRAME_BYTES + 1
        escaped, broken = Signal(), Signal()

        is_end, is_esc = Signal(), Signal()
        byte, is_byte = Signal(8), Signal()
        closes, emits = Signal(), Signal()
        whole = Signal()
        m.d.comb += [
            is_end.eq(came == END),
            is_esc.eq(came == ESC),
            byte.eq(came),
            is_byte.eq(~is_end & ~is_esc),
            closes.eq(is_end & ((count != 0) | escaped | broken)),
            emits.eq(is_byte & exceeds(count, CRC_BYTES - 1) & ~exceeds(count, FRAME_BYTES - 1)),
            whole.eq(exceeds(count, HEADER_BYTES + CRC_BYTES - 1) & ~exceeds(count, FRAME_BYTES)),
            self.i.ready.eq(~has & ~self.o.valid),
            checker.data.eq(byte),
            checker.start.eq(has & is_end),
            checker.valid.eq(has & is_byte),
        ]
        m.d.sync += [came.eq(self.i.payload), has.eq(self.i.valid & self.i.ready)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(has):
            m.d.sync += [
                self.o.valid.eq(closes | emits),
                self.o.p.byte.eq(held[:8]),
                self.o.p.end.eq(closes),
                self.o.p.good.eq(checker.matches & ~broken & ~escaped & whole),
            ]
            with m.If(closes):
                m.d.sync += self.crc.eq(held)
        with m.If(escaped):
            with m.If(came == ESC_END):
                m.d.comb += byte.eq(END)
            with m.Elif(came == ESC_ESC):
                m.d.comb += byte.eq(ESC)

        with m.If(has):
            with m.If(is_end):
                m.d.sync += [count.eq(0), escaped.eq(0), broken.eq(0)]
            with m.Elif(is_esc):
                m.d.sync += [escaped.eq(1), broken.eq(broken | escaped)]
            with m.Else():
                m.d.sync += [escaped.eq(0), held.eq(Cat(held[8:], byte))]
                with m.If(escaped & (came != ESC_END) & (came != ESC_ESC)):
                    m.d.sync += broken.eq(1)
                with m.If(~exceeds(count, FRAME_BYTES)):
                    m.d.sync += count.eq(count + 1)
        return m


class Framer(wiring.Component):
    """Puts CRC, escapes and END bytes on.

    Members: `i` FRAMED, at least one byte a frame; `o` raw bytes.

    Latency: END leaves in the cycle in which a frame's first byte is offered, the byte itself one cycle later.
    """

    i: In(stream.Signature(FRAMED))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.maker = maker = Crc32c()

        plain, taken = Signal(8), Signal()  # the byte to be sent, and: it leaves completely in this cycle
        offered = Signal()
        second = Signal()  # ESC has left
        crc_index = Signal(range(CRC_BYTES))
        m.d.comb += [maker.data.eq(self.i.p.byte), maker.valid.eq(self.i.valid & self.i.ready)]
        with m.If(offered):
            m.d.comb += self.o.valid.eq(1)
            with m.If((plain == END) | (plain == ESC)):
                m.d.comb += self.o.payload.eq(ESC)
                with m.If(second):
                    m.d.comb += self.o.payload.eq(ESC_END)
                    with m.If(plain == ESC):
                        m.d.comb += self.o.payload.eq(ESC_ESC)
                with m.If(self.o.ready):
                    m.d.comb += taken.eq(second)
                    m.d.sync += second.eq(~second)
            with m.Else():
                m.d.comb += [self.o.payload.eq(plain), taken.eq(self.o.ready)]

        with m.FSM():
            with m.State("START"):
                m.d.comb += [self.o.payload.eq(END), self.o.valid.eq(self.i.valid), maker.start.eq(1)]
                with m.If(self.i.valid & self.o.ready):
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [plain.eq(self.i.p.byte), offered.eq(self.i.valid), self.i.ready.eq(taken)]
                with m.If(taken & self.i.p.last):
                    m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [plain.eq(maker.crc.word_select(crc_index, 8)), offered.eq(1)]
                with m.If(taken):
                    m.d.sync += crc_index.eq(crc_index + 1)
                    with m.If(crc_index == CRC_BYTES - 1):
                        m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += [self.o.payload.eq(END), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "START"
        return m
