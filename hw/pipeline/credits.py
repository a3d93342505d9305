"""The end of a pipeline that never waits: a FIFO, and the room in it that nothing under way will fill.

    may it enter? ─► stage █─► stage █─► ... ─► last stage ─► FIFO ─► o
          ▲                                                    │
          └──────────────────────── room ◄─────────────────────┘

So no register of the pipeline needs an enable, which in a wide one is thousands of flip-flops all over the chip. Ready
of ``o`` reaches pointers and a count.

Cost: distributed RAM, 1.5 LUT4 a bit, in place of the pipeline's last register; beside it 40 LUT4, 9 CCU2C and 19
flip-flops, and for each further part, which has pointers of its own, 32, 6 and 13.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

CREDITS = 16
"""Items on their way or waiting: the depth of a distributed RAM."""
ROOM = 2
"""Cycles from an item that leaves to one that enters in its place."""
FIFO_BITS = 208
"""Bits of one FIFO; a wider item lies in several, each where its bits are wanted."""


class CreditFifo(wiring.Component):
    """A FIFO of ``CREDITS`` items for those that were let into a pipeline.

    Members: ``room``: an item may enter the pipeline, and ``enters``: it does, in this cycle; ``i`` what leaves the
    last stage, later or in the same cycle, as many as entered (always ready); ``o`` the same. ``part_bits``: bits of an
    item that lie together; ``o.valid`` is of the last part, so what is looked at first comes last in ``payload``.

    Latency: 1. Room is seen ``ROOM`` cycles after an item has left, so a pipeline of up to ``CREDITS`` - ``ROOM`` - 1
    stages takes an item every cycle.
    """

    latency = 1

    def __init__(self, payload: ShapeLike, part_bits: int = FIFO_BITS) -> None:
        self.part_bits = part_bits
        super().__init__(
            {
                "room": Out(1),
                "enters": In(1),
                "i": In(stream.Signature(payload, always_ready=True)),
                "o": Out(stream.Signature(payload)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        given, shown = Value.cast(self.i.payload), Value.cast(self.o.payload)
        used = Signal(range(CREDITS + 1))
        left = Signal()
        m.d.comb += self.room.eq(~used[-1])
        m.d.sync += [left.eq(self.o.valid & self.o.ready), used.eq(used + self.enters - left)]
        for first in range(0, len(given), self.part_bits):  # all hold as many
            part = slice(first, min(first + self.part_bits, len(given)))
            m.submodules[f"fifo_{first}"] = fifo = SyncFIFO(width=part.stop - part.start, depth=CREDITS)
            m.d.comb += [
                fifo.w_en.eq(self.i.valid),
                fifo.w_data.eq(given[part]),
                fifo.r_en.eq(self.o.ready),
                shown[part].eq(fifo.r_data),
            ]
        m.d.comb += self.o.valid.eq(fifo.r_rdy)
        return m


__all__ = ["CREDITS", "FIFO_BITS", "ROOM", "CreditFifo"]
