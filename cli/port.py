"""A board's port at the rate of its gateware: the rate that is given, or the first at which the chip answers.

    rates of the bitstreams that were built here, the newest first ─┐
    rates that boards have with their own machines ─────────────────┴─► INFO at one after the other, twice round

At another rate the chip sees damaged frames, which it drops: asking harms nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from lutern.boards.build import MANIFEST
from lutern.boards.cache import kept_json, newest
from lutern.boards.catalog import BOARDS
from lutern.firmware.link import Client, Link, LinkError, SilenceError
from lutern.firmware.serial_port import BAUD, PortError, SerialPort
from lutern.hw.protocol import Opcode

PATIENCES_S = (0.3, 1.0)
"""Of each round: a chip answers in milliseconds, a simulated one may need a second."""


class RatedLink(Link, Protocol):
    """A link whose rate can be set."""

    def set_baud(self, baud: int) -> None:
        """Read and write at this rate from now on."""


@contextmanager
def open_port(port: str, baud: int | None = None) -> Iterator[SerialPort]:
    """The port, at the rate ``baud`` or at the one that its chip has."""
    rates = [baud] if baud is not None else known_rates()
    with SerialPort(port, rates[0] if baud is not None else BAUD) as link:
        if baud is None:
            find_rate(link, rates)
        yield link


def find_rate(link: RatedLink, rates: Iterable[int]) -> int:
    """Set the first rate at which the chip answers, and return it."""
    rates = list(rates)
    for patience_s in PATIENCES_S:
        for baud in rates:
            try:
                link.set_baud(baud)
            except PortError:
                continue  # a rate that this bridge does not make
            try:
                Client(link, timeout_s=patience_s, tries=1).transact(Opcode.INFO)
            except SilenceError:
                continue
            return baud
    raise LinkError(
        f"The board did not answer at {', '.join(f'{baud:,}' for baud in rates)} baud; check the cable, the port and "
        "that the board runs Lutern, or give the rate of its gateware with --baud."
    )


def known_rates() -> list[int]:
    """Rates that a chip may have, the likeliest first."""
    of_boards = {board.baud(board.config(name)) for board in BOARDS.values() for name in board.presets}
    return list(dict.fromkeys((*built_rates(), BAUD, *sorted(of_boards))))


def built_rates() -> list[int]:
    """Rates of the bitstreams that were built here, the newest first; a file that is damaged counts for nothing."""
    manifests = (kept_json(path) for path in newest("builds", f"*/{MANIFEST}"))
    rates = (manifest.get("baud") for manifest in manifests if isinstance(manifest, dict))
    return list(dict.fromkeys(rate for rate in rates if type(rate) is int and rate > 0))


__all__ = ["built_rates", "find_rate", "known_rates", "open_port"]
