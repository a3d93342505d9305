"""Defines a group of commands that imports the module of a command when the command is used.

A command imports only its own modules. `lutern --version` and the list of commands import no command's module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from lutern.model_ref.errors import LuternError


@dataclass(frozen=True)
class Entry:
    """A command, or a group of commands.

    module, attribute
        The module, and the name of the function in it. For a group it is the name of the group's ``typer.Typer``.
    summary
        The command's line in the list of commands.
    """

    module: str
    attribute: str
    summary: str


@cache
def load(entry: Entry, name: str) -> Any:
    """Import a command, and return the object that the command line's parser uses.

    Raises
    ------
    LuternError
        A package that the command imports is not installed.
    """
    try:
        found = getattr(import_module(entry.module), entry.attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in ("", "lutern"):
            raise
        raise LuternError(
            f"the package {missing} is not installed; run `lutern doctor`, which says how to get it."
        ) from None
    if isinstance(found, typer.Typer):
        group = typer.main.get_group(found)
        group.name = name
        return group
    alone = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    alone.command(name)(found)
    return typer.main.get_command(alone)


class LazyCommands(Mapping[str, Any]):
    """The commands by name. A command is imported when its name is looked up."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> Any:
        return load(self.entries[name], name)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def lazy_group(entries: Mapping[str, Entry]) -> type[TyperGroup]:
    """Return the class of a group with these commands."""

    class LazyGroup(TyperGroup):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.commands: Any = LazyCommands(entries)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(entries)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])

    return LazyGroup


__all__ = ["Entry", "LazyCommands", "lazy_group", "load"]
