"""The bytes of a response: a fixed part, then items that are read from a memory one by one.

    i ─► opcode, sequence ─► fixed part ─► items of 2 bytes (tokens) or 4 bytes (logits, counters) ─► o ─► Framer
                 fixed_index ... fixed_byte      ▲ item_address ... one cycle ... token_data, long_data

Cost: one byte a cycle, and two cycles more an item.
"""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.link.slip import FRAMED
from lutern.hw.protocol import INFO, RESPONSE, RUN_TOKENS, Opcode

FIXED_BYTES = INFO.byte_count  # the longest fixed part
LOGIT_BITS = 24
LONG_ITEMS = (Opcode.LOGITS, Opcode.COUNTERS)
"""Commands whose items have 4 bytes."""

REPLY = data.StructLayout(
    {
        "opcode": 8,  # of the command; RESPONSE is set here
        "sequence": 8,
        "fixed_count": range(FIXED_BYTES + 1),  # bytes
        "item_count": range(RUN_TOKENS + 1),
        "item_offset": 16,
    }
)


class Reply(wiring.Component):
    """Serialises one response.

    Members: `i` REPLY, taken with the response's last byte; `o` FRAMED; `fixed_index` names a byte of the fixed part,
    which comes in the same cycle on `fixed_byte`; `item_address` for a synchronous read of the tokens and the longer
    items, whose data comes one cycle later on `token_data` or `long_data`.

    Latency: the first byte leaves in the cycle in which `i` is valid.
    """

    def __init__(self, long_bits: int = LOGIT_BITS) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(REPLY)),
                "o": Out(stream.Signature(FRAMED)),
                "fixed_index": Out(range(FIXED_BYTES)),
                "fixed_byte": In(8),
                "item_address": Out(16),
                "token_data": In(16),
                "long_data": In(signed(long_bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        reply = self.i.p
        are_long = Signal()
        index = Signal.like(self.fixed_index)  # of a byte: of the fixed part, of an item
        items_left = Signal.like(reply.item_count)
        address, item = Signal(16), Signal(32)
        sends = Signal()
        m.d.comb += [
            are_long.eq(reply.opcode.matches(*LONG_ITEMS)),
            self.fixed_index.eq(index),
            self.item_address.eq(address),
            sends.eq(self.o.valid & self.o.ready),
            self.i.ready.eq(sends & self.o.p.last),
        ]
        with m.FSM():
            with m.State("OPCODE"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.o.p.byte.eq(reply.opcode | RESPONSE)]
                m.d.sync += [index.eq(0), items_left.eq(reply.item_count), address.eq(reply.item_offset)]
                with m.If(sends):
                    m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.byte.eq(reply.sequence),
                    self.o.p.last.eq((reply.fixed_count == 0) & (reply.item_count == 0)),
                ]
                with m.If(sends):
                    with m.If(self.o.p.last):
                        m.next = "OPCODE"
                    with m.Elif(reply.fixed_count == 0):
                        m.next = "ADDRESS"
                    with m.Else():
                        m.next = "FIXED"
            with m.State("FIXED"):
                ends = index == reply.fixed_count - 1
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.p.byte.eq(self.fixed_byte),
                    self.o.p.last.eq(ends & (reply.item_count == 0)),
                ]
                with m.If(sends):
                    m.d.sync += index.eq(index + 1)
                    with m.If(ends):
                        m.next = "ADDRESS"
                        with m.If(self.o.p.last):
                            m.next = "OPCODE"
            with m.State("ADDRESS"):
                m.d.sync += index.eq(0)
                m.next = "DATA"
            with m.State("DATA"):
                m.d.sync += [
                    item.eq(Mux(are_long, self.long_data, self.token_data)),
                    address.eq(address + 1),
                    items_left.eq(items_left - 1),
                ]
                m.next = "ITEM"
            with m.State("ITEM"):
                ends = index == Mux(are_long, 3, 1)
                m.d.comb += [self.o.valid.eq(1), self.o.p.byte.eq(item[:8]), self.o.p.last.eq(ends & (items_left == 0))]
                with m.If(sends):
                    m.d.sync += [index.eq(index + 1), item.eq(Cat(item[8:], item[-8:]))]
                    with m.If(self.o.p.last):
                        m.next = "OPCODE"
                    with m.Elif(ends):
                        m.next = "ADDRESS"
        return m
