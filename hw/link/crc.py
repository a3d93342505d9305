"""CRC-32C of bytes, equal to ``protocol.crc32c``. ``start`` takes one cycle before the first byte.

Cost: 102 LUT4 and 32 flip-flops. ``amaranth.lib.crc`` takes 157 LUT4, but needs no cycle for ``start``.
"""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CRC_BITS = 32
POLYNOMIAL = 0x82F63B78
"""The polynomial, for bytes whose lowest bit comes first."""
FIRST = (1 << CRC_BITS) - 1
"""The state before the first byte."""
ADDED = (1 << CRC_BITS) - 1
"""The CRC is the exclusive or of this number and the state after the last byte."""


class Crc32c(wiring.Component):
    """Computes the CRC of bytes, one byte per cycle.

    Parameters
    ----------
    None.

    Members
    -------
    start : 1 bit, input
        The next byte is the first byte of a message. ``start`` and ``valid`` must not be 1 together.
    valid : 1 bit, input
        ``data`` is the next byte.
    data : 8 bits, input
        A byte.
    crc : 32 bits, output
        CRC of the bytes so far.
    matches : 1 bit, output
        The last four bytes are the CRC of the bytes before them.

    Numerics
    --------
    CRC-32C (Castagnoli), lowest bit first.

    Latency
    -------
    1 cycle from a byte to ``crc`` and ``matches``.

    Reference
    ---------
    ``protocol.crc32c``; RFC 3720.
    """

    start: In(1)
    valid: In(1)
    data: In(8)
    crc: Out(CRC_BITS)
    matches: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        state = Signal(CRC_BITS, init=FIRST)
        mixed = state[:8] ^ self.data
        following = [*state[8:], *[0] * 8]
        for bit in range(8):
            added = _after(1 << bit, 1)
            following = [value ^ mixed[bit] if added >> place & 1 else value for place, value in enumerate(following)]
        m.d.comb += [self.crc.eq(state ^ ADDED), self.matches.eq(state == _after(ADDED, 4))]
        with m.If(self.start):
            m.d.sync += state.eq(FIRST)
        with m.Elif(self.valid):
            m.d.sync += state.eq(Cat(following))
        return m


def _after(state: int, zeros: int) -> int:
    """Return the state after ``zeros`` bytes that are 0.

    After a message and its CRC the state equals ``_after(ADDED, 4)``, because the bytes of the CRC cancel the state of
    the message.
    """
    for _ in range(8 * zeros):
        state = state >> 1 ^ (POLYNOMIAL if state & 1 else 0)
    return state


__all__ = ["Crc32c"]
