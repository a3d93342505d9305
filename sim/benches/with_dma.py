"""MLGRU with the DMA of its state, for a bench. The component has the ports of the two blocks except the window."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lutern.hw.config import HwConfig
from lutern.hw.mlgru import Mlgru
from lutern.hw.state_dma import StateDma


class WithDma(wiring.Component):
    """``Mlgru`` and ``StateDma``, connected by the window, for a machine with state "memory"."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.blocks = {"mlgru": Mlgru(config), "dma": StateDma(config)}
        super().__init__(
            {
                name: member
                for block in self.blocks.values()
                for name, member in block.signature.members.items()
                if name != "window"
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for name, block in self.blocks.items():
            m.submodules[name] = block
            for port, member in block.signature.members.items():
                ours, theirs = getattr(self, port, None), getattr(block, port)
                if ours is None:
                    continue
                if not member.is_port:
                    wiring.connect(m, wiring.flipped(ours), theirs)
                else:
                    m.d.comb += theirs.eq(ours) if member.flow is In else ours.eq(theirs)
        dma: Any = self.blocks["dma"]
        mlgru: Any = self.blocks["mlgru"]
        wiring.connect(m, dma.window, mlgru.window)
        return m
