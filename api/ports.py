"""Opens the port of a board: a serial port at the rate of its gateware, or the registers of a machine with AXI4.

The rate of a serial port is the given rate, or the first rate at which the chip answers:

    1. rates of bitstreams built on this computer, newest first ────┐
    2. rates of the boards with their own machines ─────────────────┴─► INFO is sent at each rate, in three rounds

At a wrong rate the chip receives damaged frames and drops them, so a wrong rate does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from lutern.boards.build import MANIFEST
from lutern.boards.cache import kept_json, newest
from lutern.boards.catalog import BOARDS
from lutern.firmware.axi_port import SCHEME, AxiPort, axi_place
from lutern.firmware.link import Client, Link, LinkError, SilenceError
from lutern.firmware.recording import open_serial
from lutern.firmware.serial_port import BAUD, PortError, SerialPort
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS
from lutern.hw.protocol import Opcode
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, refused_output

PATIENCES_S = (0.3, 0.3, 1.0)
"""The waiting time for an answer in each round, in seconds. A chip answers in milliseconds, unless the line damages the
answer."""


class RatedLink(Link, Protocol):
    """A link whose rate can be set."""

    def set_baud(self, baud: int) -> None:
        """Read and write at this rate (bits/s) from now on."""


@contextmanager
def open_port(
    port: str, baud: int | None = None, record: Path | None = None, memory: Path | None = None
) -> Iterator[SerialPort | AxiPort]:
    """Open a port, and close the port at the end of the context.

    A serial port uses the rate ``baud``, or the first rate at which its chip answers. ``memory`` is a file that maps
    the memory of a machine with AXI4. The traffic is written into the file ``record``. Raises LuternError for options
    that do not belong to the port, PortError if the port cannot be opened, and LinkError if no chip answers.
    """
    is_axi = port.startswith(SCHEME)
    if memory is not None and not is_axi:
        raise LuternError(
            f"a memory file ({memory}) is for a machine with AXI4, but {port} is no such machine; leave out the "
            "file, or give a port axi:DEVICE@BASE,..."
        )
    if baud is not None and is_axi:
        raise LuternError(
            f"a rate of {baud} baud is for a serial port, but {port} is no such port; leave out the rate."
        )
    place = axi_place(port) if is_axi else None
    with ExitStack() as stack:
        file = None if record is None else stack.enter_context(_new_recording(record))
        if place is not None:
            yield stack.enter_context(closing(AxiPort(place, memory, file)))
            return
        rates = [baud] if baud is not None else known_rates()
        link = stack.enter_context(open_serial(port, rates[0] if baud is not None else BAUD, file))
        if baud is None:
            find_rate(link, rates)
        yield link


def known_machines() -> list[HwConfig]:
    """Return the machines that a chip may have: the presets, and the machines of bitstreams that were built on this
    computer."""
    found = list(PRESETS.values())
    for path in newest("builds", f"*/{MANIFEST}"):
        try:
            machine = HwConfig.from_dict(kept_json(path)["machine"])
        except (LuternError, KeyError, TypeError):  # the manifest is damaged, or an earlier version wrote it
            continue
        if machine.name not in PRESETS:
            found.append(machine)
    return found


def _new_recording(path: Path) -> TextIO:
    try:
        return output_file(path).open("w", encoding="ascii")
    except OSError as error:
        raise refused_output(path, error) from None


def find_rate(link: RatedLink, rates: Iterable[int]) -> int:
    """Set the first rate at which the chip answers, and return this rate. Raises LinkError if the chip answers at no
    rate."""
    rates = list(rates)
    heard_bytes = asked = 0
    for patience_s in PATIENCES_S:
        for baud in rates:
            try:
                link.set_baud(baud)
            except PortError:
                continue  # the bridge of the board does not support this rate
            client = Client(link, timeout_s=patience_s, tries=1)
            try:
                client.transact(Opcode.INFO)
            except SilenceError as error:
                heard_bytes += error.heard_bytes
                asked += 1
                continue
            return baud
    heard = f"{heard_bytes:,} bytes came back that make no whole frame" if heard_bytes else "not a byte came back"
    raise LinkError(
        f"The board did not answer at {', '.join(f'{baud:,}' for baud in rates)} baud: {asked} frames were sent and "
        f"{heard}; give the port of a board that has power and a bitstream of Lutern, or the rate of its gateware with "
        "--baud."
    )


def known_rates() -> list[int]:
    """Return the rates that a chip may use, the likeliest first."""
    of_boards = {board.baud(board.config(name)) for board in BOARDS.values() for name in board.presets}
    return list(dict.fromkeys((*built_rates(), BAUD, *sorted(of_boards))))


def built_rates() -> list[int]:
    """Return the rates of the bitstreams that were built on this computer, the newest first. Damaged files are
    skipped."""
    manifests = (kept_json(path) for path in newest("builds", f"*/{MANIFEST}"))
    rates = (manifest.get("baud") for manifest in manifests if isinstance(manifest, dict))
    return list(dict.fromkeys(rate for rate in rates if type(rate) is int and rate > 0))


__all__ = ["built_rates", "find_rate", "known_rates", "open_port"]
