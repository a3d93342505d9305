"""The serial line of a board, and the fastest rate that both its bridge and the chip's clock can make.

    clock ─► / 8, / 9, ... ─► rates of the chip ─┐
                                                 ├─► the highest pair that is within ``BAUD_TOLERANCE``
    rates of the bridge, by its data sheet ──────┘

A chip at 75 MHz takes at least 8 cycles a bit, which allows up to 9.4 Mbaud. An FT2232H reaches 5.33 Mbaud of these
(14 cycles), and an FT231X reaches 3 Mbaud (25 cycles).
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.hw.link import LOWEST_DIVISOR
from lutern.model_ref.errors import LuternError

BAUD_TOLERANCE = 0.02
"""Half of the error that a UART tolerates, because the other end may be off as well."""


def _ftdi_rates(highest: int) -> tuple[int, ...]:
    """Return the rates to which a bridge of FTDI divides its highest rate.

    The divisors are 1, 1.5, and from 2 on all multiples of 1/8 (application note AN_120; Linux's driver ftdi_sio uses
    the same). No board needs a rate below a sixteenth.
    """
    eighths = (8, 12, *range(16, 129))
    return tuple(round(8 * highest / divisor) for divisor in eighths)


@dataclass(frozen=True)
class SerialLink:
    """A serial line.

    rates
        Rates that its bridge makes, the highest first.
    bridge
        The chip that connects the line to the host.
    resource
        Name and number of the line's resource.
    """

    rates: tuple[int, ...]
    bridge: str
    resource: tuple[str, int] = ("uart", 0)

    def rate_at(self, clock_hz: float) -> tuple[int, int]:
        """Return the highest rate of the bridge that a chip with this clock makes, and its cycles of a bit."""
        for baud in self.rates:
            divisor = max(1, round(clock_hz / baud))
            if divisor >= LOWEST_DIVISOR and abs(clock_hz / divisor / baud - 1) <= BAUD_TOLERANCE:
                return baud, divisor
        lowest = self.rates[-1]
        raise LuternError(
            f"a clock of {clock_hz / 1e6:g} MHz makes no rate of this board's link within {BAUD_TOLERANCE:.0%} at "
            f"{LOWEST_DIVISOR} cycles or more a bit; choose a frequency near a multiple of {lowest / 1e6:g} MHz, from "
            f"{LOWEST_DIVISOR * lowest / 1e6:g} MHz on."
        )


FT2232H = _ftdi_rates(12_000_000)
"""FTDI's data sheet DS_FT2232H: up to 12 Mbaud."""
FT231X = _ftdi_rates(3_000_000)
"""FTDI's data sheet DS_FT231X: 300 baud to 3 Mbaud."""
ONE_MEGABAUD = (1_000_000,)
"""The rate of probes and adapters that are not specified above it."""

__all__ = ["BAUD_TOLERANCE", "FT231X", "FT2232H", "ONE_MEGABAUD", "SerialLink"]
