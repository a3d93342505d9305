"""Shifts the phase of the clock of an SDRAM, relative to the clock of its controller. The clock is an output of a PLL.

    i (steps) ─► dir, then a pulse of step for each step ─► o (the sum of all steps)

PHASESEL selects an output of ECP5's EHXPLLL. Each falling edge of PHASESTEP shifts the clock at this output by 1/8 of a
VCO period: later if PHASEDIR is 0, earlier if PHASEDIR is 1. PHASESTEP must stay high for at least 4 VCO cycles. A
pulse and a pause last 8 cycles each. This is enough if the VCO runs at 400 MHz or more and this block at 800 MHz or
less.
"""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

PULSE_CYCLES = 8


class PhaseStepper(wiring.Component):
    """Shifts the phase of the clock by steps.

    Parameters
    ----------
    None.

    Members
    -------
    i : stream of 16 bits signed, input
        A number of steps. Positive steps move the clock later.
    o : stream of 16 bits signed, output
        The sum of all steps so far. An item comes when all steps of an item of ``i`` are done.
    step : 1 bit, output
        PHASESTEP of the PLL.
    dir : 1 bit, output
        PHASEDIR of the PLL.

    Numerics
    --------
    None.

    Latency
    -------
    2 * ``PULSE_CYCLES`` cycles per step.

    Reference
    ---------
    Lattice TN1263, Dynamic Phase Adjustment.
    """

    i: In(stream.Signature(signed(16)))
    o: Out(stream.Signature(signed(16)))
    step: Out(1)
    dir: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        left, place = Signal(signed(16)), Signal(signed(16))
        timer = Signal(range(2 * PULSE_CYCLES))
        m.d.comb += [self.step.eq(timer >= PULSE_CYCLES), self.o.payload.eq(place)]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [left.eq(self.i.payload), self.dir.eq(self.i.payload < 0)]
                with m.If(self.i.valid):
                    m.next = "SETTLE"
            with m.State("SETTLE"):  # dir is stable for some cycles before the pulse
                m.d.sync += timer.eq(PULSE_CYCLES - 1)
                m.next = "STEP"
            with m.State("STEP"):
                with m.If(timer == 0):
                    with m.If(left == 0):
                        m.next = "DONE"
                    with m.Else():
                        m.d.sync += [
                            timer.eq(2 * PULSE_CYCLES - 1),
                            left.eq(Mux(self.dir, left + 1, left - 1)),
                            place.eq(Mux(self.dir, place - 1, place + 1)),
                        ]
            with m.State("DONE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m


__all__ = ["PULSE_CYCLES", "PhaseStepper"]
