"""`lutern go`: runs the four steps from a board on the desk to a text in one command.

build ─► program ─► the board's port ─► selftest ─► generate, with the largest shipped model that the machine holds
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Annotated

import typer
from serial.tools import list_ports

from lutern.boards.catalog import find_board
from lutern.boards.loader import find_program
from lutern.cli.build import build
from lutern.cli.generate import PROMPT, generate_text
from lutern.cli.machine import MachineOption, SetOption, board_option, machine_on_board, preset_option
from lutern.cli.program import program
from lutern.cli.selftest import selftest
from lutern.cli.writing import say_step
from lutern.model_ref.errors import LuternError

START_SECONDS = 1.0
"""Seconds from the end of loading until the chip runs and its USB bridge is a port again."""


def go(
    board_name: Annotated[str, board_option("Board")],
    prompt: Annotated[str, typer.Argument(help="Text to continue.")] = PROMPT,
    on: Annotated[str, typer.Option(help="Port of the board; default: the only USB serial port.")] = "",
    preset_name: Annotated[str, preset_option("the board's")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands without running them.")] = False,
) -> None:
    """Build a bitstream, load it into the board, test the board, and let a model write on it."""
    board = find_board(board_name)
    machine_on_board(board, preset_name, settings, machine_file)  # a wrong name is refused before any work
    port = on or ("PORT" if dry_run else only_port())
    given = (("--preset", preset_name), ("--machine", machine_file), *(("--set", change) for change in settings or []))
    machine = [str(word) for option in given if option[1] for word in option]
    steps: tuple[tuple[list[str], Callable[[], None]], ...] = (
        (["build", "--board", board_name, *machine], lambda: build(board_name, preset_name, settings, machine_file)),
        (["program", "--board", board_name], lambda: program(board_name)),
        (["selftest", "--on", port], lambda: selftest(port)),
        (["generate", prompt, "--on", port], lambda: generate_text(prompt, on=port)),
    )
    if not dry_run and board.loader:
        find_program()  # raises an error before minutes of work if no loader is installed
    for words, run in steps:
        say_step(f"lutern {shlex.join(words)}")
        if dry_run:
            continue
        run()
        if words[0] == "program":
            time.sleep(START_SECONDS)


def only_port() -> str:
    """Return the only USB serial port of this computer. Raise LuternError if there is no port or more than one port."""
    found = sorted(port.device for port in list_ports.comports() if port.vid is not None)
    if len(found) != 1:
        if found:
            raise LuternError(f"there are {len(found)} USB serial ports ({', '.join(found)}); give one with --on PORT.")
        raise LuternError(
            "this computer has no USB serial port; plug the board in, and give its port with --on PORT: lutern ports "
            "lists them."
        )
    return found[0]


__all__ = ["go"]
