"""A pipeline of registers with a ``CreditFifo`` at its end, as a separate block for the bench of ``CreditFifo``."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.pipeline import CreditFifo, Stages


class FreePipeline(wiring.Component):
    """Items of ``bits`` bits pass from ``i`` through ``stages`` registers without an enable and a ``CreditFifo`` to
    ``o``."""

    def __init__(self, bits: int, stages: int) -> None:
        self.bits, self.stages = bits, stages
        super().__init__({"i": In(stream.Signature(bits)), "o": Out(stream.Signature(bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.fifo = fifo = CreditFifo(self.bits)
        stages = Stages(m)
        m.d.comb += [
            self.i.ready.eq(fifo.room),
            fifo.enters.eq(self.i.valid & fifo.room),
            fifo.i.valid.eq(stages.valid(fifo.enters, self.stages)),
            fifo.i.payload.eq(stages.delay(self.i.payload, self.stages)),
        ]
        wiring.connect(m, fifo.o, wiring.flipped(self.o))
        return m
