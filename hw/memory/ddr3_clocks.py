"""Clocks of the DDR3 PHY on ECP5, and the order in which they start.

    domain pll ─► ECLKSYNCB (stop) ─► domain edge (the part's clock) ─► CLKDIVF (reset) ─► domain memory (half of edge)
    domain init ─► Ddr3Start: DDRDLLA locks ─► freeze, stop, reset, release, update ─► ready

DDRDLLA measures a quarter of a period of `edge`. The delay code of DDRDLLA may change, and the dividers may start, only
while the edge clock is stopped. So all cells start with the same edge. Each step lasts STEP_CYCLES cycles of `init`, a
slow clock that never stops.
"""

from amaranth.hdl import ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer
from amaranth.lib.wiring import In, Out

STEP_CYCLES = 8


class Ddr3Start(wiring.Component):
    """Controls DDRDLLA and the order of the start, in domain `init`.

    Parameters
    ----------
    None.

    Members
    -------
    delay : 1 bit, output
        The delay code of DDRDLLA, to each DQSBUFM.
    stop : 1 bit, output
        Stops the edge clock; connects to ECLKSYNCB.
    reset : 1 bit, output
        Resets the divider; connects to CLKDIVF.
    pause : 1 bit, output
        1 while the delay code changes; connects to each DQSBUFM.
    ready : 1 bit, output
        All steps are done.

    Numerics
    --------
    None.

    Latency
    -------
    ``ready`` rises 10 * ``STEP_CYCLES`` cycles after DDRDLLA has locked, plus a few cycles for the synchroniser.

    Reference
    ---------
    Lattice FPGA-TN-02035, DDR memory interface and its start-up.
    """

    delay: Out(1)
    stop: Out(1)
    reset: Out(1)
    pause: Out(1)
    ready: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        is_locked, lock, last_lock = Signal(), Signal(), Signal()
        freeze, update, update_n = Signal(), Signal(), Signal()
        m.submodules.dll = Instance(
            "DDRDLLA",
            i_RST=ResetSignal("init"),
            i_CLK=ClockSignal("edge"),
            i_UDDCNTLN=update_n,
            i_FREEZE=freeze,
            o_DDRDEL=self.delay,
            o_LOCK=is_locked,
        )
        m.submodules.lock = FFSynchronizer(is_locked, lock, o_domain="init")
        steps = (
            freeze.eq(1),
            self.stop.eq(1),
            self.reset.eq(1),
            self.reset.eq(0),
            self.stop.eq(0),
            freeze.eq(0),
            self.pause.eq(1),
            update.eq(1),
            update.eq(0),
            [self.pause.eq(0), self.ready.eq(1)],
        )
        end = STEP_CYCLES * len(steps)
        time = Signal(range(end + 1))
        m.d.comb += update_n.eq(~update)
        m.d.init += last_lock.eq(lock)
        with m.If(time == end):
            m.d.init += time.eq(0)
        with m.Elif((time != 0) | (lock & ~last_lock)):
            m.d.init += time.eq(time + 1)
        with m.Switch(time):
            for number, step in enumerate(steps, 1):
                with m.Case(number * STEP_CYCLES):
                    m.d.init += step
        return m


class Ddr3Clocks(wiring.Component):
    """Makes the clocks of domains `edge` and `memory` from the clock of `pll`, and the reset of `memory`.

    The reset of `memory` lasts until ``ready`` rises. The parent module defines the domains.

    Parameters
    ----------
    None.

    Members
    -------
    stop : 1 bit, input
        ``stop`` of `Ddr3Start`.
    reset : 1 bit, input
        ``reset`` of `Ddr3Start`.
    ready : 1 bit, input
        ``ready`` of `Ddr3Start`.
    edge : 1 bit, output
        Clock of domain `edge`.
    memory : 1 bit, output
        Clock of domain `memory`, at half the frequency of `edge`.

    Numerics
    --------
    None.

    Latency
    -------
    None.

    Reference
    ---------
    Lattice FPGA-TN-02035, DDR memory interface and its start-up.
    """

    stop: In(1)
    reset: In(1)
    ready: In(1)
    edge: Out(1)
    memory: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.stopper = Instance("ECLKSYNCB", i_ECLKI=ClockSignal("pll"), i_STOP=self.stop, o_ECLKO=self.edge)
        m.submodules.divider = Instance(
            "CLKDIVF", p_DIV="2.0", i_ALIGNWD=Const(0), i_CLKI=self.edge, i_RST=self.reset, o_CDIVX=self.memory
        )
        m.submodules.memory_reset = ResetSynchronizer(~self.ready | self.reset, domain="memory")
        return m


__all__ = ["STEP_CYCLES", "Ddr3Clocks", "Ddr3Start"]
