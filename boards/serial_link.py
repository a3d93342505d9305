"""The serial line of a board, and the highest baud rate that both its USB bridge and the chip can use.

    clock ─► / 8, / 9, ... ─► rates of the chip ─┐
                                                 ├─► the highest pair that differs by at most ``BAUD_TOLERANCE``
    rates of the bridge, by its data sheet ──────┘

A chip needs at least 8 cycles per bit, so at 75 MHz it can use up to 9.4 Mbaud. With an FT2232H, the highest pair is at
5.33 Mbaud (14 cycles per bit), and with an FT231X at 3 Mbaud (25 cycles per bit).
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.hw.link import LOWEST_DIVISOR
from lutern.model_ref.errors import LuternError

BAUD_TOLERANCE = 0.02
"""Half of the error that a UART tolerates, because the rate of the other end may also have an error."""


def _ftdi_rates(highest: int) -> tuple[int, ...]:
    """Return the rates to which a bridge of FTDI divides its highest rate.

    The divisors are 1, 1.5, and from 2 on all multiples of 1/8 (application note AN_120; Linux's driver ftdi_sio uses
    the same). No board needs less than a sixteenth of the highest rate.
    """
    eighths = (8, 12, *range(16, 129))
    return tuple(round(8 * highest / divisor) for divisor in eighths)


@dataclass(frozen=True)
class SerialLink:
    """A serial line.

    rates
        Baud rates that the bridge can use, the highest first.
    bridge
        The chip that connects the line to the host.
    resource
        Name and number of the line's resource.
    """

    rates: tuple[int, ...]
    bridge: str
    resource: tuple[str, int] = ("uart", 0)

    def rate_at(self, clock_hz: float) -> tuple[int, int]:
        """Return the highest baud rate of the bridge that a chip with this clock can use, and the cycles per bit."""
        for baud in self.rates:
            divisor = max(1, round(clock_hz / baud))
            if divisor >= LOWEST_DIVISOR and abs(clock_hz / divisor / baud - 1) <= BAUD_TOLERANCE:
                return baud, divisor
        lowest = self.rates[-1]
        raise LuternError(
            f"no baud rate of this board's link can be made from a clock of {clock_hz / 1e6:g} MHz within "
            f"{BAUD_TOLERANCE:.0%} and with {LOWEST_DIVISOR} or more cycles per bit; choose a frequency near a "
            f"multiple of {lowest / 1e6:g} MHz, from {LOWEST_DIVISOR * lowest / 1e6:g} MHz on."
        )


FT2232H = _ftdi_rates(12_000_000)
"""FTDI's data sheet DS_FT2232H: up to 12 Mbaud."""
FT231X = _ftdi_rates(3_000_000)
"""FTDI's data sheet DS_FT231X: 300 baud to 3 Mbaud."""
ONE_MEGABAUD = (1_000_000,)
"""The rate of probes and adapters that are not specified for higher rates."""

__all__ = ["BAUD_TOLERANCE", "FT231X", "FT2232H", "ONE_MEGABAUD", "SerialLink"]
