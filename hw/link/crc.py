"""CRC-32C of bytes, as ``protocol.crc32c``, of which no first byte comes with ``start``.

Cost: 66 LUT4, 32 FF; amaranth.lib.crc, which may start with its first byte, makes 157 LUT4 of it.
"""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CRC_BITS = 32
POLYNOMIAL = 0x82F63B78
"""Of bytes that come lowest bit first."""
FIRST = (1 << CRC_BITS) - 1
"""The state before the first byte."""
ADDED = (1 << CRC_BITS) - 1
"""What makes a CRC of the last state."""


class Crc32c(wiring.Component):
    """See above.

    Members: ``start``: the next byte is the first, ``valid``: ``data`` is the next; never both; ``crc`` of the bytes so
    far; ``matches``: the last four of them are the CRC of those before.

    Latency: 1. A byte a cycle.
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
    """The state after so many bytes 0; after a CRC it is what it is after ``ADDED``, for the CRC has the rest."""
    for _ in range(8 * zeros):
        state = state >> 1 ^ (POLYNOMIAL if state & 1 else 0)
    return state


__all__ = ["Crc32c"]
