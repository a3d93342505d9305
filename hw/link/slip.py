"""The two ends of a framed byte stream: the Deframer removes SLIP escapes and CRC-32C, and the Framer adds them.

    bytes ─► Deframer ─► bytes of a frame without its CRC, then one item "end" that says whether the frame is good
    bytes ◄─  Framer  ◄─ bytes of a frame, with a mark at the last byte

hw/protocol.py has the formats.

Cost: the Deframer takes three cycles per byte, while a line takes tens of cycles. So every step of the Deframer starts
and ends at registers. This helps because the placer spreads small blocks over a large chip. The Framer takes one cycle
for a byte, two cycles for an escaped byte, one cycle for each END, and four cycles for a CRC. The Deframer has some 130
registers (a CRC, four bytes that may be the CRC of the frame, and its outputs), and the Framer has 40.

Reference: RFC 1055.
"""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.link.crc import Crc32c
from lutern.hw.pipeline import exceeds
from lutern.hw.protocol import CRC_BYTES, END, ESC, ESC_END, ESC_ESC, FRAME_BYTES, HEADER_BYTES

DEFRAMED = data.StructLayout({"byte": 8, "end": 1, "good": 1})
"""`end` closes a frame. If `end` is 1, `byte` has no meaning, and `good` is 1 if the bytes of the frame are valid."""

FRAMED = data.StructLayout({"byte": 8, "last": 1})
"""A byte of a frame. `last` marks the last byte of the frame."""


class Deframer(wiring.Component):
    """Removes escapes, END bytes and CRC.

    Every frame that is not empty ends with one item `end`. The frame is `good` if the CRC is correct, every ESC was
    followed by ESC_END or ESC_ESC, and the frame has at least HEADER_BYTES + CRC_BYTES and at most FRAME_BYTES bytes.
    Further bytes are dropped, so a buffer of FRAME_BYTES - CRC_BYTES bytes is always enough.

    Parameters
    ----------
    None.

    Members
    -------
    i : stream of 8 bits, input
        Raw bytes.
    o : stream of ``DEFRAMED``, output
        The bytes of the frames, and their ends.
    crc : 32 bits, output
        The CRC that came with the frame, from the cycle in which ``o`` shows `end` to the next `end`.

    Numerics
    --------
    None.

    Latency
    -------
    A byte leaves two cycles after the fourth byte that follows it, and `end` leaves two cycles after END. The next byte
    is accepted when the item of the present byte has left. All bits of ``o`` and ``crc`` are registers, and ``i.ready``
    depends only on registers.

    Reference
    ---------
    RFC 1055 (SLIP); RFC 3720 (CRC-32C).
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(DEFRAMED))
    crc: Out(32)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.checker = checker = Crc32c()

        came, has = Signal(8), Signal()  # the byte that was accepted a cycle ago, and whether there is one
        held = Signal(8 * CRC_BYTES)  # the last four bytes, with the oldest byte lowest, as in a little-endian CRC
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
    """Adds CRC, escapes and END bytes.

    Parameters
    ----------
    None.

    Members
    -------
    i : stream of ``FRAMED``, input
        The bytes of a frame. A frame has at least one byte.
    o : stream of 8 bits, output
        Raw bytes.

    Numerics
    --------
    None.

    Latency
    -------
    END leaves in the cycle in which a frame's first byte is offered, and the byte itself leaves one cycle later.

    Reference
    ---------
    RFC 1055 (SLIP); RFC 3720 (CRC-32C).
    """

    i: In(stream.Signature(FRAMED))
    o: Out(stream.Signature(8))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.maker = maker = Crc32c()

        plain, taken = Signal(8), Signal()  # the byte to be sent, and whether its last bits leave in this cycle
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
