"""A skid buffer registers ``ready`` and adds no latency.

    i ─┬───────────────► o        no item is held: the item passes through
       └─► held ───────► o        o was not ready: the item is held, and i.ready falls one cycle later

``i.ready`` is a register, so there is no combinational path from ``o.ready`` to ``i.ready``. Cost: a flip-flop and a
multiplexer for each bit of the payload.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Skid(wiring.Component):
    """Holds one item between two streams while ``o`` is not ready.

    Parameters
    ----------
    payload : ShapeLike
        Shape of an item.

    Members
    -------
    i : stream of ``payload``, input
        The items.
    o : stream of ``payload``, output
        The same items.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 0 cycles. While ``o`` is not ready, one more item is accepted at ``i``.

    Reference
    ---------
    None.
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
