"""Registers with the settings of read leveling: a delay and a bit slip for each byte. The host writes these registers.

    i {byte, delay, slip} ─► pause, change, continue ─► o (bytes whose burst was seen with the previous settings)

DQSBUFM accepts a new READCLKSEL only while PAUSE is high. All bytes pause together, because a byte without a pause
after the last change may use another delay than its setting. No word may be in flight during a pause, so the host
changes settings between two march tests. The answer to a change names the bytes whose burst was seen since the previous
change. Then the change clears this record (``burst_seen``).

Cost (2 bytes): 35 LUT4, 25 FF.
"""

from __future__ import annotations

from amaranth.hdl import DomainRenamer, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from lutern.hw.protocol import LEVEL_DELAYS, LEVEL_SLIPS, level_layout

PAUSE_CYCLES = 16
"""Cycles of a pause. The setting changes in the middle of the pause."""


class LevelSettings(wiring.Signature):
    """The settings of all bytes, with directions as seen from `Ddr3Levels`.

    Members
    -------
    delay : array of ``range(LEVEL_DELAYS)``, output
        READCLKSEL of each byte, in quarters of a clock of the part.
    slip : array of ``range(LEVEL_SLIPS)``, output
        DDR3 beats by which the word of each byte begins later.
    pause : a bit for each byte, output
        PAUSE of each byte.
    clear : 1 bit, output
        Clears ``burst_seen``.
    burst_seen : a bit for each byte, input
        The strobe of a read was complete since ``clear``.
    """

    def __init__(self, byte_count: int) -> None:
        super().__init__(
            {
                "delay": Out(range(LEVEL_DELAYS)).array(byte_count),
                "slip": Out(range(LEVEL_SLIPS)).array(byte_count),
                "pause": Out(byte_count),
                "clear": Out(1),
                "burst_seen": In(byte_count),
            }
        )


class Ddr3Levels(wiring.Component):
    """Changes the settings of one byte at a time.

    Parameters
    ----------
    byte_count : int
        Number of byte lanes of the part.

    Members
    -------
    i : stream of ``protocol.level_layout``, input
        A change.
    o : stream of a bit for each byte, output
        An item for each change, after the change is made: the bytes whose burst was seen before the change.
    settings : ``LevelSettings``, output
        The settings, to the PHY.

    Numerics
    --------
    None.

    Latency
    -------
    ``PAUSE_CYCLES`` + 1 cycles from a change to its item at ``o``.

    Reference
    ---------
    Lattice FPGA-TN-02035 (DQSBUFM).
    """

    def __init__(self, byte_count: int) -> None:
        self.byte_count = byte_count
        super().__init__(
            {
                "i": In(stream.Signature(level_layout(byte_count))),
                "o": Out(stream.Signature(byte_count)),
                "settings": Out(LevelSettings(byte_count)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        change = Signal(level_layout(self.byte_count))
        timer = Signal(range(PAUSE_CYCLES))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [change.eq(self.i.payload), timer.eq(PAUSE_CYCLES - 1)]
                with m.If(self.i.valid):
                    m.d.sync += [self.settings.pause.eq(-1), self.o.payload.eq(self.settings.burst_seen)]
                    m.next = "PAUSE"
            with m.State("PAUSE"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == PAUSE_CYCLES // 2):
                    for byte in range(self.byte_count):
                        with m.If(change.byte == byte):
                            m.d.sync += [
                                self.settings.delay[byte].eq(change.delay),
                                self.settings.slip[byte].eq(change.slip),
                            ]
                with m.If(timer == 0):
                    m.d.sync += self.settings.pause.eq(0)
                    m.d.comb += self.settings.clear.eq(1)
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m


class HostLevels(wiring.Component):
    """Puts `Ddr3Levels` into domain `memory`, with ``i`` and ``o`` in domain `sync`.

    Parameters
    ----------
    byte_count : int
        Number of byte lanes of the part.

    Members
    -------
    i : stream of ``protocol.level_layout``, input
        A change.
    o : stream of a bit for each byte, output
        The items that `Ddr3Levels` sends at its ``o``.
    settings : ``LevelSettings``, output
        The settings, to the PHY, in domain `memory`.

    Numerics
    --------
    None.

    Latency
    -------
    The latency of `Ddr3Levels`, and two clock domain crossings.

    Reference
    ---------
    None.
    """

    def __init__(self, byte_count: int) -> None:
        self.levels = Ddr3Levels(byte_count)
        super().__init__(dict(self.levels.signature.members.items()))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.levels = levels = DomainRenamer("memory")(self.levels)
        wiring.connect(m, wiring.flipped(self.settings), levels.settings)
        for name, source, target, domains in (
            ("changes", self.i, levels.i, ("sync", "memory")),
            ("answers", levels.o, self.o, ("memory", "sync")),
        ):
            bits = Value.cast(source.payload).shape().width
            fifo = AsyncFIFO(width=bits, depth=2, w_domain=domains[0], r_domain=domains[1])
            m.submodules[name] = fifo
            m.d.comb += [fifo.w_en.eq(source.valid), source.ready.eq(fifo.w_rdy), fifo.w_data.eq(source.payload)]
            m.d.comb += [target.valid.eq(fifo.r_rdy), fifo.r_en.eq(target.ready), target.payload.eq(fifo.r_data)]
        return m


__all__ = ["PAUSE_CYCLES", "Ddr3Levels", "HostLevels", "LevelSettings"]
