"""Puts a block between registers on four pins, so that its paths are timed and nothing is optimised away.

    i ─► shift chain (one register per input bit) ─► block ─► registers ─► XOR of 16 each ─► registers ─► XOR ─► o

The wrapper costs one flip-flop per input bit, and one flip-flop and a third of a LUT4 per output bit (`Wrapper.ff` and
`Wrapper.lut4`).
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

GROUP_BITS = 16
"""Number of outputs that are XORed between two registers, which takes two levels of LUT4."""


def _widths(outputs: int) -> list[int]:
    """Return the numbers of registers: of the outputs, then of each level of XORs after them."""
    return [outputs, *(_widths(-(-outputs // GROUP_BITS)) if outputs > 1 else ())]


class Wrapper(wiring.Component):
    """Members: ``i``, bits for the inputs of ``block``; ``o``, a bit that depends on all its outputs."""

    def __init__(self, block: wiring.Component) -> None:
        self.block = block
        super().__init__({"i": In(1), "o": Out(1)})

    def ports(self, flow: wiring.Flow) -> Value:
        """Return all inputs or all outputs of the block, concatenated."""
        return Cat(
            *[
                Value.cast(port)
                for _path, member, port in self.block.signature.flatten(self.block)
                if member.flow == flow
            ]
        )

    @property
    def ff(self) -> int:
        """Number of flip-flops of the wrapper itself."""
        return len(self.ports(wiring.In)) + sum(_widths(len(self.ports(wiring.Out))))

    @property
    def lut4(self) -> int:
        """Number of LUT4s of the wrapper itself: each LUT4 adds three more bits to an XOR."""
        widths = _widths(len(self.ports(wiring.Out)))
        return sum(-(-(min(GROUP_BITS, width - at) - 1) // 3) for width in widths for at in range(0, width, GROUP_BITS))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = self.block
        inputs, outputs = self.ports(wiring.In), self.ports(wiring.Out)
        chain = Signal(len(inputs), reset_less=True)
        m.d.sync += chain.eq(Cat(self.i, chain))
        m.d.comb += inputs.eq(chain)
        held = Signal(len(outputs), reset_less=True)
        m.d.sync += held.eq(outputs)
        while len(held) > 1:
            folded = Signal(-(-len(held) // GROUP_BITS), reset_less=True)
            m.d.sync += folded.eq(Cat(*[held[at : at + GROUP_BITS].xor() for at in range(0, len(held), GROUP_BITS)]))
            held = folded
        m.d.comb += self.o.eq(held)
        return m
