"""Defines the options that name a machine in every command: --preset, --machine, --set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.hw.config import HwConfig
from lutern.hw.machines import Machine, choose_machine
from lutern.hw.presets import PRESETS

DEFAULT = "sim-64"
"""The default machine of commands in which neither a board nor a model determines the machine. This machine is the
smallest preset that holds demo and demo-small.
"""


def preset_option(default: str, several: bool = False) -> Any:
    """Return the option ``--preset``. ``default`` describes the machine that is used if the option is not given."""
    again = ", can be repeated" if several else ""
    text = f"Machine{again}: {', '.join(PRESETS)}; default: {default}."
    return typer.Option("--preset", help=text, autocompletion=lambda: list(PRESETS))


def board_option(help: str) -> Any:
    """Return the option ``--board``. ``help`` states the purpose of the board. The names of all boards are added."""
    return typer.Option("--board", help=f"{help}: {', '.join(BOARDS)}.", autocompletion=lambda: list(BOARDS))


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the machine; can be repeated. Fields that depend on it follow (docs/commands.md).",
    ),
]
MachineOption = Annotated[
    Path | None, typer.Option("--machine", metavar="FILE.toml", help="A machine of your own, in place of a preset.")
]


def given_machine(
    preset_name: str | None, settings: Sequence[str] | None, file: Path | None, default: str | HwConfig = DEFAULT
) -> Machine | None:
    """Return the machine of the three options, or None if no option is given."""
    if not (preset_name or settings or file):
        return None
    return choose_machine(preset_name or "", settings or (), file, default)


def machine_or_default(
    preset_name: str | None, settings: Sequence[str] | None, file: Path | None, default: str | HwConfig = DEFAULT
) -> HwConfig:
    """Return the machine of the three options, or the preset ``default``."""
    return choose_machine(preset_name or "", settings or (), file, default).config


def machines_of(
    presets: Sequence[str] | None, settings: Sequence[str] | None, file: Path | None, default: str = ""
) -> list[HwConfig]:
    """Return the machines of a command that accepts several presets. The settings change each machine. If no preset and
    no file is given, return ``default`` with the settings, or an empty list without settings."""
    names = list(presets or []) or ([default] if default and settings and file is None else [])
    found = [choose_machine(name, settings or ()).config for name in names]
    return found + ([choose_machine("", settings or (), file).config] if file is not None else [])


def machine_on_board(
    board: Board, preset_name: str | None, settings: Sequence[str] | None, file: Path | None
) -> HwConfig:
    """Return the machine of the three options with the board's clock and link. Without options, return the board's own
    machine.
    """
    chosen = given_machine(preset_name, settings, file, board.preset)
    return board.config() if chosen is None else board.config(chosen.config, **chosen.clocks)


__all__ = [
    "DEFAULT",
    "MachineOption",
    "SetOption",
    "board_option",
    "given_machine",
    "machine_on_board",
    "machine_or_default",
    "machines_of",
    "preset_option",
]
