"""Wakes up a part of DDR3: the steps of its data sheet, each with a pause, and then nothing any more.

    step  0           1          2      3    4    5    6    7               8
          RESET_N 0   RESET_N 1  CKE 1  MR2  MR3  MR1  MR0  calibrate (ZQ)  done
    pause 200 us      500 us     tXPR   tMRD tMRD tMRD tMOD tZQinit, tDLLK

MR0 resets the DLL, which has locked by the end. A pause is counted in cycles, from the parts' clocks. Every reset of
the clock domain wakes the part up anew, and its words are lost.

Cost (4 Gb at 75 MHz): 43 LUT4 and 12 carry cells, 23 FF. Reference: JEDEC JESD79-3F 3.3.1.
"""

from __future__ import annotations

from amaranth.hdl import Array, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.hw.memory.ddr3_part import Ddr3Timings
from lutern.hw.memory.dram_rows import SET_MODE

CALIBRATE = 0b011
LONG = 1 << 10
"""Of a calibration's address: the one after power-up."""


class Ddr3Init(wiring.Component):
    """See above.

    Members: ``reset_n``, ``cke``; ``gives``: the command ``code`` with ``ba`` and ``a`` goes out, in this cycle;
    ``done``: it has ended.
    """

    def __init__(self, timings: Ddr3Timings) -> None:
        self.timings = timings
        super().__init__(
            {
                **{name: Out(1) for name in ("reset_n", "cke", "gives", "done")},
                "code": Out(3),
                "ba": Out(timings.bank_bits),
                "a": Out(timings.pin_address_bits),
            }
        )

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """Clocks after each step, bank and address of its command."""
        t = self.timings
        mr0, mr1, mr2, mr3 = t.mode_registers
        return (
            (t.reset_low, 0, 0),
            (t.wake, 0, 0),
            (t.xpr, 0, 0),
            (t.mrd, 2, mr2),
            (t.mrd, 3, mr3),
            (t.mrd, 1, mr1),
            (t.mod, 0, mr0),
            (max(t.zq_init, t.dll_lock), 0, LONG),
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        steps = self.steps
        pauses = [max(2, self.timings.cycles(clocks)) for clocks, _, _ in steps]
        more = Signal(range(max(pauses)), init=pauses[0] - 1)
        step = Signal(range(len(steps) + 1))
        end = len(steps)
        m.d.comb += [
            self.done.eq(step == end),
            self.ba.eq(Array([bank for _, bank, _ in steps])[step[:3]]),
            self.a.eq(Array([address for _, _, address in steps])[step[:3]]),
            self.code.eq(SET_MODE),
        ]
        with m.If(step == end - 1):
            m.d.comb += self.code.eq(CALIBRATE)
        begins = Signal()
        m.d.sync += begins.eq(0)
        m.d.comb += self.gives.eq(begins & (step >= 3) & ~self.done)
        with m.If(~self.done):
            m.d.sync += more.eq(more - 1)
            with m.If(more == 0):
                m.d.sync += [step.eq(step + 1), begins.eq(1), more.eq(Array([*pauses[1:], 1])[step[:3]] - 1)]
        # The registers of the command slots are here, too: CKE rises with the step that a command of it would go with.
        m.d.sync += [self.reset_n.eq(step >= 1), self.cke.eq(step >= 2)]
        return m


__all__ = ["Ddr3Init"]
