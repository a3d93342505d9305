"""All commands of `lutern` with their options, read from the parser of the command line."""

from __future__ import annotations

from typing import Any

import typer

from lutern.cli.commands import app


def _commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not hasattr(group, "commands"):
        return {path: group}
    return {key: one for name, sub in group.commands.items() for key, one in _commands(sub, (*path, name)).items()}


COMMANDS = _commands(typer.main.get_command(app))
"""All commands, by the words that a user types."""


def options_of(path: tuple[str, ...]) -> set[str]:
    """Return the options of a command, in all their spellings."""
    return {name for option in COMMANDS[path].params for name in option.opts if name.startswith("-")}
