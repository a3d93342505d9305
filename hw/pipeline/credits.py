"""A pipeline that never stalls ends in a FIFO, and an item enters only if the FIFO will have room for it.

    may it enter? ─► stage █─► stage █─► ... ─► last stage ─► FIFO ─► o
          ▲                                                    │
          └──────────────────────── room ◄─────────────────────┘

The registers of the pipeline therefore need no enable. In a wide pipeline an enable would drive thousands of flip-flops
all over the chip. ``o.ready`` drives only the pointers and a counter.

Cost: the FIFO is distributed RAM of 1.5 LUT4 per bit and replaces the pipeline's last register. The control of the FIFO
takes 42 LUT4, 9 CCU2C and 20 flip-flops. A wide item uses several FIFOs. Each further FIFO has separate pointers and
adds 32 LUT4, 6 CCU2C and 13 flip-flops.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

CREDITS = 16
"""Largest number of items in flight and in the FIFO together, which is the depth of a distributed RAM."""
ROOM = 2
"""Number of cycles from the exit of an item to the entry of the item that uses the free credit."""
FIFO_BITS = 208
"""Largest number of bits of one FIFO. A wider item is divided among several FIFOs, so that each FIFO can be placed near
its bits."""


class CreditFifo(wiring.Component):
    """Holds up to ``CREDITS`` items of a pipeline, and reports when a further item may enter the pipeline.

    Parameters
    ----------
    payload : ShapeLike
        Shape of an item.
    part_bits : int
        Number of bits of an item that share one FIFO. ``o.valid`` comes from the FIFO with the highest bits, so the
        field that the receiver decodes first should be the last field of ``payload``.

    Members
    -------
    room : 1 bit, output
        An item may enter the pipeline.
    enters : 1 bit, input
        An item enters the pipeline in this cycle. This is allowed only while ``room`` is 1.
    i : stream of ``payload``, always ready, input
        The items that leave the last stage, each in the cycle of its entry or later.
    o : stream of ``payload``, output
        The same items.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 1 cycle from ``i`` to ``o``. ``room`` rises ``ROOM`` cycles after an item has left, so a pipeline of
    up to ``CREDITS`` - ``ROOM`` - 1 stages accepts an item in every cycle.

    Reference
    ---------
    None.
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
        for first in range(0, len(given), self.part_bits):  # all FIFOs hold the same number of items
            part = slice(first, min(first + self.part_bits, len(given)))
            m.submodules[f"fifo_{first}"] = fifo = SyncFIFO(width=part.stop - part.start, depth=CREDITS)
            m.d.comb += [
                fifo.w_en.eq(self.i.valid),
                fifo.w_data.eq(given[part]),
                fifo.r_en.eq(self.o.ready),
                shown[part].eq(fifo.r_data),
            ]
        # equal to fifo.r_rdy, but a register, because long paths begin here
        left_over = Mux(self.o.ready, fifo.r_level > 1, fifo.r_level != 0)
        m.d.sync += self.o.valid.eq(self.i.valid | left_over)
        return m


__all__ = ["CREDITS", "FIFO_BITS", "ROOM", "CreditFifo"]
