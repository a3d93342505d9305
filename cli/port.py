"""Defines the options of commands that open a port of a board, and checks which options exclude one another."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from lutern.api import ports
from lutern.firmware.axi_port import SCHEME, AxiPort, axi_place
from lutern.firmware.serial_port import SerialPort
from lutern.model_ref.errors import LuternError

RecordOption = Annotated[
    Path | None,
    typer.Option("--record", help="Record the traffic of the port into this file; lutern link dump FILE prints it."),
]


MemoryOption = Annotated[
    Path | None,
    typer.Option(
        "--memory", help="With --on axi:...: file that maps the memory, such as /dev/mem. The image is written into it."
    ),
]
PORTS = "a port such as /dev/ttyUSB0, or axi:/dev/uio0@BASE,BASE"
"""The ports that ``--on`` accepts, in words."""


def is_port(on: str) -> bool:
    """Return whether a value of ``--on`` names a port."""
    return os.sep in on or on.startswith(SCHEME)


def check_options(on: str, baud: int | None, record: Path | None, memory: Path | None) -> None:
    """Refuse options that do not belong to the machine ``on``, and addresses that no machine with AXI4 can have."""
    if record is not None and not is_port(on):
        raise LuternError(
            f"--record {record} records the traffic of a port, but --on {on} has no port; leave out --record, or give "
            "the port of a board or of lutern board."
        )
    if not on.startswith(SCHEME):
        if memory is not None:
            raise LuternError(
                f"--memory {memory} is for a machine with AXI4, but --on {on} is no such machine; leave out --memory, "
                "or give --on axi:DEVICE@BASE,..."
            )
        return
    axi_place(on)
    if baud is not None:
        raise LuternError(f"--baud {baud} is for a serial port, but --on {on} is no such port; leave out --baud.")


def open_port(
    port: str, baud: int | None = None, record: Path | None = None, memory: Path | None = None
) -> AbstractContextManager[SerialPort | AxiPort]:
    """Check the options of a port, and open the port with ``api.ports.open_port``."""
    check_options(port, baud, record, memory)
    return ports.open_port(port, baud, record, memory)


__all__ = ["PORTS", "MemoryOption", "RecordOption", "check_options", "is_port", "open_port"]
