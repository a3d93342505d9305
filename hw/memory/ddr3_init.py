"""Initialises a part of DDR3 by the steps of its data sheet, each with a pause. After the last step it sends no
command.

    step  0           1          2      3          4    5    6    7    8               9
          RESET_N 0   RESET_N 1  CKE 1  close all  MR2  MR3  MR1  MR0  calibrate (ZQ)  done
    pause 200 us      500 us     tXPR   tRP        tMRD tMRD tMRD tMOD tZQinit, tDLLK

Some boards, such as the ECPIX-5, do not connect RESET_N to the FPGA. If the FPGA of such a board is configured again,
the part may have open rows, and it accepts no mode register until its banks are closed. Step 3 closes the banks, and
has no effect on banks that are closed already. MR0 resets the DLL, which has locked when the last pause ends. Pauses
are counted in cycles, which are computed from the part's clocks. Every reset of the clock domain initialises the part
again, and the part loses its words.

Cost (4 Gb at 75 MHz): 46 LUT4 and 13 carry cells, 23 FF.
"""

from __future__ import annotations

from amaranth.hdl import Array, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.hw.memory.ddr3_part import Ddr3Timings
from lutern.hw.memory.dram_rows import NOP, PRECHARGE, SET_MODE

CALIBRATE = 0b011
LONG = ALL = 1 << 10
"""Bit A10 of an address. It selects the long calibration in a calibration command, and all banks in a PRECHARGE."""


class Ddr3Init(wiring.Component):
    """Sends the commands that initialise the part.

    Parameters
    ----------
    timings : Ddr3Timings
        The part at its clock.

    Members
    -------
    reset_n : 1 bit, output
        RESET_N of the part.
    cke : 1 bit, output
        CKE of the part.
    gives : 1 bit, output
        A command is sent in this cycle.
    code : 3 bits, output
        The command.
    ba : ``bank_bits``, output
        The bank of the command.
    a : ``pin_address_bits``, output
        The address of the command.
    done : 1 bit, output
        The part is initialised.

    Numerics
    --------
    None.

    Latency
    -------
    The sum of the pauses, some 700 us.

    Reference
    ---------
    JEDEC JESD79-3F 3.3.1.
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
    def steps(self) -> tuple[tuple[int, int, int, int], ...]:
        """The clocks of the pause after each step, and the code, bank and address of the step's command."""
        t = self.timings
        mr0, mr1, mr2, mr3 = t.mode_registers
        return (
            (t.reset_low, NOP, 0, 0),
            (t.wake, NOP, 0, 0),
            (t.xpr, NOP, 0, 0),
            (t.rp, PRECHARGE, 0, ALL),
            (t.mrd, SET_MODE, 2, mr2),
            (t.mrd, SET_MODE, 3, mr3),
            (t.mrd, SET_MODE, 1, mr1),
            (t.mod, SET_MODE, 0, mr0),
            (max(t.zq_init, t.dll_lock), CALIBRATE, 0, LONG),
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        steps = self.steps
        pauses = [max(2, self.timings.cycles(clocks)) for clocks, *_ in steps]
        more = Signal(range(max(pauses)), init=pauses[0] - 1)
        step = Signal(range(len(steps) + 1))
        _, codes, banks, addresses = zip(*steps, strict=True)
        m.d.comb += [
            self.done.eq(step == len(steps)),
            self.code.eq(Array(codes)[step]),
            self.ba.eq(Array(banks)[step]),
            self.a.eq(Array(addresses)[step]),
        ]
        begins = Signal()
        m.d.sync += begins.eq(0)
        m.d.comb += self.gives.eq(begins & (step >= 3) & ~self.done)
        with m.If(~self.done):
            m.d.sync += more.eq(more - 1)
            with m.If(more == 0):
                m.d.sync += [step.eq(step + 1), begins.eq(1), more.eq(Array([*pauses[1:], 1])[step] - 1)]
        # Commands leave through a register, too. So CKE rises in the cycle in which a command of its step would be
        # sent.
        m.d.sync += [self.reset_n.eq(step >= 1), self.cke.eq(step >= 2)]
        return m


__all__ = ["Ddr3Init"]
