"""Wrappers of Residual and Glu for benches. The blocks receive the place of values (stream, index) before the values.
With the wrappers, a bench sends place and values together.

i ─┬─► place ──────────────► block       for operations whose values come later than their place
   └─► delay ─► values ──────┘
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from lutern.hw.glu import ELEMENT_BITS, Glu
from lutern.hw.layouts import VALUE_BITS, Op, values_payload
from lutern.hw.pipeline import Stages
from lutern.hw.residual import Residual
from lutern.hw.scale import SumScale


def _connect_rest(m: Module, outer: Any, block: Any) -> None:
    """Connect all ports of ``outer`` except ``i`` to the ports of ``block``."""
    for name, member in outer.signature.members.items():
        if name == "i":
            continue
        ours, theirs = getattr(outer, name), getattr(block, name)
        if not member.is_port:
            wiring.connect(m, theirs, wiring.flipped(ours))
        else:
            m.d.comb += theirs.eq(ours) if member.flow is In else ours.eq(theirs)


def _give_place(m: Module, values: Any, place: Any) -> None:
    m.d.comb += [
        place.adds.eq(values.op == Op.RESIDUAL),
        place.stream.eq(values.stream),
        place.index.eq(values.index),
        place.last.eq(values.last),
    ]


class LateResidual(wiring.Component):
    """``block`` with an input ``i`` that contains values and their place."""

    def __init__(self, block: Residual) -> None:
        self.block = block
        members = dict(block.signature.members)
        del members["values"]
        super().__init__(members | {"i": In(stream.Signature(values_payload(block.config)))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = block = self.block
        _connect_rest(m, self, block)
        _give_place(m, self.i.payload, block.i.payload)
        m.d.comb += [
            block.i.valid.eq(self.i.valid),
            self.i.ready.eq(block.i.ready),
            block.values.eq(Stages(m).delay(self.i.payload.values, SumScale.latency)),
        ]
        return m


class LateGlu(wiring.Component):
    """``block`` with an input ``i`` that contains values and their place, for GATE and for UP."""

    def __init__(self, block: Glu) -> None:
        self.block, self.config = block, block.config
        members = dict(block.signature.members)
        del members["i_up"], members["cuts"]
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = block = self.block
        _connect_rest(m, self, block)
        values = self.i.payload
        is_up = values.op == Op.UP
        _give_place(m, values, block.i_up.payload)
        lanes = range(self.config.results_per_cycle)
        cuts = Cat(values.values.word_select(lane, VALUE_BITS)[:ELEMENT_BITS] for lane in lanes)
        m.d.comb += [
            block.i.payload.eq(values),
            block.i.valid.eq(self.i.valid & ~is_up),
            block.i_up.valid.eq(self.i.valid & is_up),
            self.i.ready.eq(Mux(is_up, block.i_up.ready, block.i.ready)),
            block.cuts.eq(Stages(m).delay(cuts, SumScale.cut_latency)),
        ]
        return m
