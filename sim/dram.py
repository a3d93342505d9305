# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""A machine with its DRAM, for a simulated board.

The model of the part is the submodule ``model``. The simulated board accesses the words of the model by their name.

    Top or SerialTop ─ pins of SDRAM ─► sdram_board (sdram.v) ─► error, address of the error
                     ─ DFI ──────────► ddr3_dfi (ddr3.v), PHY and part
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, Timings, connect_member, timings_for
from lutern.hw.top import SerialTop, Top
from lutern.sim.ddr3 import Ddr3Model
from lutern.sim.sdram import SdramModel

HIDDEN = ("sdram", "phase_step", "phase_dir", "dfi", "levels")
"""Members of a machine that connect to its memory part."""


class DramTop(wiring.Component):
    """A machine with its memory part.

    Parameters: the parameters of ``Top``, or of ``SerialTop`` if ``divisor`` is given. Members: the members of the
    machine that do not go to the part, and ``part_error`` and ``part_error_address`` of the model. Attributes:
    ``part_timings`` of the part. Domains: sync, memory.
    """

    def __init__(self, config: HwConfig, divisor: int | None = None, timings: Timings | None = None) -> None:
        self.config, self.timings = config, timings
        part = timings or timings_for(config)
        assert part is not None, f"a machine with memory {config.memory} has no DRAM part"
        self.part_timings: Timings = part
        self.machine: Any = Top(config, timings) if divisor is None else SerialTop(config, divisor, timings)
        if divisor is not None:
            self.divisor = divisor
        self._shared = [name for name in self.machine.signature.members if name not in HIDDEN]
        super().__init__(
            {
                **{name: self.machine.signature.members[name] for name in self._shared},
                "part_error": Out(5),
                "part_error_address": Out(part.bank_bits + part.row_bits),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t = self.part_timings
        m.submodules.machine = machine = self.machine
        is_ddr3 = isinstance(t, Ddr3Timings)
        model: Any = Ddr3Model(machine.dfi, t) if is_ddr3 else SdramModel(machine.sdram, t)  # type: ignore[arg-type]
        m.submodules.model = model
        m.d.comb += [self.part_error.eq(model.error), self.part_error_address.eq(model.error_address)]
        if is_ddr3:  # in this model the part's words arrive at the right time with any setting
            m.d.comb += machine.levels.burst_seen.eq(-1)
        for name in self._shared:
            connect_member(m, self, machine, name)
        return m


__all__ = ["DramTop"]
