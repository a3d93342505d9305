"""A UART, 8N1, between the pins of a serial line and the byte streams of the link.

    rx ─► two flip-flops ─► start, middle of each bit, stop ─► FIFO ─► o
    tx ◄─────────────────── start, eight bits, stop ◄───────────────── i

A bit takes ``divisor`` cycles, and the lowest bit comes first. The receiver samples each bit in its middle, counted
from the edge of the start bit. So the clocks of the two ends may differ by 3.7 % if a bit takes 8 cycles, and by more
if a bit takes more cycles.

A byte without its stop bit is dropped, and the line must be high again before the next byte begins. If the FIFO is
full, a received byte is lost and ``overrun`` becomes 1. The CRC of the frame detects the loss, and the host sends the
frame again.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.pipeline import Skid, constant, join_streams
from lutern.model_ref.errors import LuternError

FIFO_BYTES = 16
DIVISOR_BITS = 8
"""Width of the counters of a machine for any clock."""
LOWEST_DIVISOR = 8


class Uart(wiring.Component):
    """Connects both directions of a serial line.

    Parameters
    ----------
    divisor : int
        Cycles for each bit, at least ``LOWEST_DIVISOR``.
    any_clock : bool
        The cycles are tables of LUT4s, so the netlist does not depend on ``divisor``, which is at most 255.

    Members
    -------
    rx : 1 bit, input
        The line to this machine, high when idle.
    tx : 1 bit, output
        The line from this machine, high when idle.
    o : stream of 8 bits, output
        The bytes that were received.
    i : stream of 8 bits, input
        The bytes to be sent.
    overrun : 1 bit, output
        A received byte was lost. ``overrun`` stays 1 until reset.

    Numerics
    --------
    None.

    Latency
    -------
    ``tx`` falls a cycle after a byte is accepted at ``i``, which is ready again in the last cycle of the stop bit. A
    received byte is at ``o`` ``rx_latency_of(divisor)`` cycles after its start bit fell.

    Reference
    ---------
    None.
    """

    def __init__(self, divisor: int, any_clock: bool = False) -> None:
        if divisor < LOWEST_DIVISOR:
            raise LuternError(
                f"a bit of the serial line takes {divisor} cycles; choose a baud rate at which it takes "
                f"{LOWEST_DIVISOR} or more."
            )
        if any_clock and divisor >> DIVISOR_BITS:
            raise LuternError(
                f"a bit of the serial line takes {divisor} cycles, but the counters of this machine reach "
                f"{(1 << DIVISOR_BITS) - 1}; choose a lower clock."
            )
        self.divisor, self.any_clock = divisor, any_clock
        super().__init__(
            {
                "rx": In(1, init=1),  # type: ignore[call-arg]
                "tx": Out(1, init=1),  # type: ignore[call-arg]
                "o": Out(stream.Signature(8)),
                "i": In(stream.Signature(8)),
                "overrun": Out(1),
            }
        )

    @staticmethod
    def rx_latency_of(divisor: int) -> int:
        """Return the cycles from the start bit to the byte at ``o``.

        These are 2 cycles for the synchroniser, half a bit, nine bits to the middle of the stop bit, and 2 cycles for
        the FIFO.

        Parameters
        ----------
        divisor : int
            Cycles for each bit.
        """
        return 2 + divisor // 2 + 9 * divisor + 2

    @staticmethod
    def constants_of(divisor: int) -> dict[str, int]:
        """Return the constants that depend on the clock: the numbers of the last cycle of a bit and of half a bit,
        counted from 0.

        Parameters
        ----------
        divisor : int
            Cycles for each bit.
        """
        return {"bit": divisor - 1, "half_bit": divisor // 2 - 1}

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        whole, half = (self._constant(m, name, value) for name, value in self.constants_of(self.divisor).items())
        self._receive(m, whole, half)
        self._send(m, whole)
        return m

    def _constant(self, m: Module, name: str, value: int) -> Value:
        """Return a constant that depends on the clock."""
        if self.any_clock:
            return constant(m, name, value, DIVISOR_BITS)
        return Const(value, range(self.divisor))

    def _receive(self, m: Module, whole: Value, half: Value) -> None:
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8, depth=FIFO_BYTES - 1)
        # The skid buffer stores one more byte. It also cuts the path of ready, which is long in the host port.
        m.submodules.received = received = Skid(8)
        join_streams(m, fifo.r_stream, received.i)
        m.d.comb += [self.o.valid.eq(received.o.valid), self.o.payload.eq(received.o.payload)]
        m.d.comb += received.o.ready.eq(self.o.ready)

        wait = Signal.like(whole)
        sample = Signal()
        bits, count = Signal(8), Signal(range(8))
        m.d.comb += [sample.eq(wait == 0), fifo.w_data.eq(bits)]
        m.d.sync += wait.eq(wait - 1)
        with m.If(sample):
            m.d.sync += wait.eq(whole)
        with m.FSM(init="HIGH"):
            with m.State("HIGH"):  # after a reset or a byte without stop bit
                with m.If(line):
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.sync += wait.eq(half)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                m.d.sync += count.eq(0)
                with m.If(sample):
                    m.next = "BITS"
                    with m.If(line):  # the low pulse was too short for a start bit
                        m.next = "IDLE"
            with m.State("BITS"):
                with m.If(sample):
                    m.d.sync += [bits.eq(Cat(bits[1:], line)), count.eq(count + 1)]
                    with m.If(count == 7):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(sample):
                    m.next = "HIGH"
                    with m.If(line):
                        m.d.comb += fifo.w_en.eq(1)
                        m.next = "IDLE"
        with m.If(fifo.w_en & ~fifo.w_rdy):
            m.d.sync += self.overrun.eq(1)

    def _send(self, m: Module, whole: Value) -> None:
        wait, left = Signal.like(whole), Signal(range(11))
        bits = Signal(9, init=-1)  # the next bit to be sent is the lowest bit; bits of value 1 enter at the top
        m.d.comb += self.i.ready.eq((left == 0) | ((left == 1) & (wait == 0)))
        with m.If(self.i.ready):
            m.d.sync += left.eq(0)
            with m.If(self.i.valid):
                m.d.sync += [self.tx.eq(0), bits.eq(Cat(self.i.payload, Const(1, 1))), left.eq(10), wait.eq(whole)]
        with m.Elif(wait == 0):
            m.d.sync += [Cat(self.tx, bits).eq(Cat(bits, Const(1, 1))), left.eq(left - 1), wait.eq(whole)]
        with m.Else():
            m.d.sync += wait.eq(wait - 1)
