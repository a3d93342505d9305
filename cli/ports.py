"""`lutern ports`: lists the serial ports of this computer and, with --ask, the machine at each port."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from serial.tools import list_ports

from lutern.api.ports import known_machines, open_port
from lutern.cli.table import Column, FormatOption, printing
from lutern.firmware.link import Client
from lutern.firmware.opening import machine_of
from lutern.model_ref.errors import LuternError

COLUMNS = (
    Column("port", left=True),
    Column("usb", left=True),
    Column("description", folds=True),
    Column("machine", folds=True),
)
NONE = (
    "There is no serial port. Plug the board in. If it is plugged in, its driver may be missing, or the device may "
    "be hidden from "
    "this container. docs/boards.md says what each board needs."
)


def ports(
    ask: Annotated[
        bool, typer.Option("--ask", help="Also ask the chip at each port for its machine; takes seconds for each port.")
    ] = False,
    form: FormatOption = "text",
) -> None:
    """List the serial ports that `--on` takes."""
    with printing(form) as printer:
        rows = (row_of(port, ask) for port in sorted(list_ports.comports()))
        found = list(rows)
        if found or printer.for_programs:
            printer.table("ports", COLUMNS, found)
        if not found:
            printer.say(NONE)
        elif not ask:
            printer.say("lutern ports --ask prints which ports have a board; lutern generate --on PORT uses the board.")


def row_of(port: Any, ask: bool) -> list[Any]:
    """Return the system's description of a port and, if ``ask`` is set, the machine at the port."""
    usb = f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else ""
    return [port.device, usb, port.description or "", machine_at(port.device) if ask else None]


def machine_at(device: str) -> str:
    """Return the name of the machine at a port, or the reason why no machine was found."""
    try:
        with open_port(device) as link:
            return machine_of(Client(link), *known_machines()).name
    except LuternError as error:
        return f"none: {str(error).partition(';')[0].rstrip('.')}"


__all__ = ["ports"]
