"""A skid buffer: cuts the path of ready, costs no cycle.

    i ─┬───────────────► o        nothing held: straight through
       └─► held ───────► o        o was not ready: one item waits here, and i is told a cycle later

Ready of ``i`` is a register, so no path of ready signals goes through. One register a payload bit and one multiplexer.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Skid(wiring.Component):
    """A register for one item between two streams, used only while ``o`` is not ready.

    Members: ``i``, ``o`` streams of ``payload``.

    Latency: 0. While ``o`` waits, one more item is taken from ``i``.
    """

    latency = 0

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"i": In(stream.Signature(payload)), "o": Out(stream.Signature(payload))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        entering, leaving = Value.cast(self.i.payload), Value.cast(self.o.payload)
        held = Signal(len(entering), reset_less=True)
        full = Signal()
        m.d.comb += [
            self.i.ready.eq(~full),
            self.o.valid.eq(full | self.i.valid),
            leaving.eq(Mux(full, held, entering)),
        ]
        with m.If(~full):
            m.d.sync += [held.eq(entering), full.eq(self.i.valid & ~self.o.ready)]
        with m.Elif(self.o.ready):
            m.d.sync += full.eq(0)
        return m
