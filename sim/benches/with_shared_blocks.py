"""Blocks with the sigmoid and the memory of gates that they share in the machine, for their benches.

i ─► valid bits ─► Sigmoid ─► o                     StreamedSigmoid
ports ─► block ◄─► Sigmoid, GateMemory             WithSharedBlocks: the block's ports, except `sigmoid` and `gates`
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import Sigmoid
from lutern.hw.config import HwConfig
from lutern.hw.gate_memory import GateMemory
from lutern.hw.layouts import values_payload
from lutern.hw.pipeline import Stages


class StreamedSigmoid(wiring.Component):
    """``Sigmoid`` with streams: ``i`` is a stream of values_payload, and ``o`` a stream of the sigma of ``values``.
    There is no back-pressure."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.sigmoid = Sigmoid(config)
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "o": Out(stream.Signature(len(self.sigmoid.user.sigma))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.sigmoid = self.sigmoid
        user = self.sigmoid.user
        m.d.comb += [
            user.arguments.eq(self.i.payload.values),
            user.frac.eq(self.i.payload.frac),
            self.i.ready.eq(1),
            self.o.valid.eq(Stages(m).valid(self.i.valid, Sigmoid.latency)),
            self.o.payload.eq(user.sigma),
        ]
        return m


class WithSharedBlocks(wiring.Component):
    """``block`` with the sigmoid and the memory of gates that it uses."""

    shared = {"sigmoid": Sigmoid, "gates": GateMemory}

    def __init__(self, block: Any) -> None:
        self.block = block
        super().__init__({name: member for name, member in block.signature.members.items() if name not in self.shared})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.block = block = self.block
        for name, component in self.shared.items():
            m.submodules[name] = shared = component(block.config)
            wiring.connect(m, getattr(block, name), shared.user)
        for name, member in self.signature.members.items():
            ours, theirs = getattr(self, name), getattr(block, name)
            if not member.is_port:
                wiring.connect(m, wiring.flipped(ours), theirs)
            else:
                m.d.comb += theirs.eq(ours) if member.flow is In else ours.eq(theirs)
        return m
