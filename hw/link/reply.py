"""Serialises a response: first a fixed part, then items that are read one by one from a memory.

    i ─► opcode, sequence ─► fixed part ─► items of 2 bytes (tokens) or 4 bytes (logits, counters) ─► o ─► Framer
                 fixed_index ... fixed_byte      ▲ item_address ... one cycle ... token_data, long_data

Cost: one cycle for each byte, and two more cycles for each item.
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
        "opcode": 8,  # opcode of the command, without the bit RESPONSE
        "sequence": 8,
        "fixed_count": range(FIXED_BYTES + 1),  # number of bytes of the fixed part
        "item_count": range(RUN_TOKENS + 1),
        "item_offset": 16,
    }
)


class Reply(wiring.Component):
    """Serialises one response.

    Parameters
    ----------
    long_bits : int
        Width of a logit or counter.

    Members
    -------
    i : stream of ``REPLY``, input
        Describes the response. The item is accepted together with the last byte of the response.
    o : stream of ``FRAMED``, output
        The bytes of the response.
    fixed_index : ``range(FIXED_BYTES)``, output
        Selects a byte of the fixed part.
    fixed_byte : 8 bits, input
        The byte at ``fixed_index``, in the same cycle.
    item_address : 16 bits, output
        Selects an item, for a synchronous read.
    token_data : 16 bits, input
        The token at ``item_address``, one cycle later.
    long_data : ``long_bits`` signed, input
        The logit or counter at ``item_address``, one cycle later.

    Numerics
    --------
    Logits are sign-extended to 32 bits.

    Latency
    -------
    0 cycles, because the first byte is offered in the cycle in which ``i`` becomes valid.

    Reference
    ---------
    hw/protocol.py.
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
        index = Signal.like(self.fixed_index)  # index of a byte in the fixed part, or in an item
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
