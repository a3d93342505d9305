"""A block between registers, on four pins: what lies between them is timed, and nothing is optimised away.

    i ─► shift chain (one register an input bit) ─► block ─► registers ─► XOR of 16 each ─► registers ─► XOR ─► o

Cost: a flip-flop an input bit, a flip-flop and a third of a LUT4 an output bit.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

GROUP_BITS = 16
"""Outputs that are XORed between two registers: two levels of LUT4."""


class Wrapper(wiring.Component):
    """Members: ``i`` bits for the inputs of ``block``, ``o`` a bit that depends on all its outputs."""

    def __init__(self, block: wiring.Component) -> None:
        self.block = block
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = self.block
        inputs: list[Value] = []
        outputs: list[Value] = []
        for _path, member, port in self.block.signature.flatten(self.block):
            (inputs if member.flow == wiring.In else outputs).append(Value.cast(port))
        chain = Signal(len(Cat(*inputs)), reset_less=True)
        m.d.sync += chain.eq(Cat(self.i, chain))
        m.d.comb += Cat(*inputs).eq(chain)
        held = Signal(len(Cat(*outputs)), reset_less=True)
        m.d.sync += held.eq(Cat(*outputs))
        while len(held) > 1:
            folded = Signal(-(-len(held) // GROUP_BITS), reset_less=True)
            m.d.sync += folded.eq(
                Cat(*[held[at : at + GROUP_BITS].xor() for at in range(0, len(held), GROUP_BITS)])
            )
            held = folded
        m.d.comb += self.o.eq(held)
        return m
