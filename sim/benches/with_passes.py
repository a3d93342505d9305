"""A code memory with a stream of codes that has back-pressure, for the bench of the code memory.

i_codes ─► CodeMemory        ready is 1 unless a code pass of stream 0 begins and no bank is free
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from lutern.hw.code_memory import CodeMemory
from lutern.hw.layouts import quantised_payload


class WithPasses(wiring.Component):
    """``block`` with a stream ``i_codes`` that has back-pressure. The stream replaces ``may_begin`` and ``begins``."""

    def __init__(self, block: CodeMemory) -> None:
        self.block = block
        members = dict(block.signature.members)
        del members["may_begin"], members["begins"]
        members["i_codes"] = In(stream.Signature(quantised_payload(block.config)))
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = block = self.block
        i, begun, first = self.i_codes, Signal(), Signal()
        m.d.comb += [
            first.eq(~begun & (i.payload.stream == 0)),
            i.ready.eq(block.may_begin | ~first),
            block.i_codes.valid.eq(i.valid & i.ready),
            block.i_codes.payload.eq(i.payload),
            block.begins.eq(i.valid & i.ready & first),
            block.final_stream.eq(self.final_stream),
        ]
        with m.If(i.valid & i.ready):
            m.d.sync += begun.eq(~i.payload.last)
        wiring.connect(m, wiring.flipped(self.i_op), block.i_op)
        wiring.connect(m, block.o, wiring.flipped(self.o))
        return m
