"""The serial line of a board, and the fastest rate that its bridge and the chip's clock both make.

    clock ─► / 8, / 9, ... ─► rates of the chip ─┐
                                                 ├─► the highest pair that is within ``BAUD_TOLERANCE``
    rates of the bridge, by its data sheet ──────┘

A chip at 75 MHz takes 8 cycles a bit or more: up to 9.4 Mbaud, of which an FT2232H makes 5.33 (14 cycles) and an FT231X
3 (25 cycles).
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.hw.link import LOWEST_DIVISOR
from lutern.model_ref.errors import LuternError

BAUD_TOLERANCE = 0.02
"""Half of what a UART bears: the other end may be off as well."""


def _ftdi_rates(highest: int) -> tuple[int, ...]:
    """What a bridge of FTDI divides its highest rate to: by 1, 1.5, and from 2 on in eighths (application note AN_120;
    Linux's driver ftdi_sio does the same). Slower than a sixteenth no board needs."""
    eighths = (8, 12, *range(16, 129))
    return tuple(round(8 * highest / divisor) for divisor in eighths)


@dataclass(frozen=True)
class SerialLink:
    """A serial line. ``rates``: those that its bridge makes, the highest first; ``bridge``: what is between it and the
    host; ``resource``: its name and number."""

    rates: tuple[int, ...]
    bridge: str
    resource: tuple[str, int] = ("uart", 0)

    def rate_at(self, clock_hz: float) -> tuple[int, int]:
        """The highest rate of the bridge that a chip of such a clock makes, and the chip's cycles of a bit."""
        for baud in self.rates:
            divisor = max(1, round(clock_hz / baud))
            if divisor >= LOWEST_DIVISOR and abs(clock_hz / divisor / baud - 1) <= BAUD_TOLERANCE:
                return baud, divisor
        lowest = self.rates[-1]
        raise LuternError(
            f"a clock of {clock_hz / 1e6:g} MHz makes no rate of this board's link within {BAUD_TOLERANCE:.0%} and in "
            f"{LOWEST_DIVISOR} cycles or more a bit; choose a frequency near a multiple of {lowest / 1e6:g} MHz, from "
            f"{LOWEST_DIVISOR * lowest / 1e6:g} MHz on."
        )


FT2232H = _ftdi_rates(12_000_000)
"""FTDI's data sheet DS_FT2232H: up to 12 Mbaud."""
FT231X = _ftdi_rates(3_000_000)
"""FTDI's data sheet DS_FT231X: 300 baud to 3 Mbaud."""
ONE_MEGABAUD = (1_000_000,)
"""Probes and adapters that nobody specifies above it."""

__all__ = ["BAUD_TOLERANCE", "FT231X", "FT2232H", "ONE_MEGABAUD", "SerialLink"]
