"""Reads the defaults of options from the environment and from a configuration file.

    variable LUTERN_GENERATE_TEMPERATURE=0.5    for one command    ─┐
    variable LUTERN_BOARD=ulx3s-25f             for all commands    ├─► the first that is set ─► click's ``default_map``
    in file: [generate] temperature = 0.5       for one command     │
    in file: board = "ulx3s-25f"                for all commands   ─┘

The file is ~/.config/lutern/config.toml, or the file that LUTERN_CONFIG names. An option on the command line has
priority over all four kinds of defaults. A name in the file is refused if no command has an option of this name. An
unknown variable of the environment is ignored.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lutern.model_ref.cache_folder import expanded
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import read_plain

PREFIX = "LUTERN_"
CONFIG = "LUTERN_CONFIG"
_MOST_BYTES = 1 << 20
_WANTED = "configuration file"
OWN = frozenset({"CACHE", "CONFIG", "QUICK_BUILD"})
"""Variables that begin with the prefix but are not defaults of options."""
_NEVER = frozenset({"help", "version", "install_completion", "show_completion"})


def config_path(environment: Mapping[str, str]) -> Path:
    """Return the path of the configuration file."""
    if environment.get(CONFIG):
        return expanded(environment[CONFIG], CONFIG)
    return expanded(environment.get("XDG_CONFIG_HOME") or "~/.config", "HOME") / "lutern" / "config.toml"


def read_config(environment: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    """Return the path and content of the file. The content is empty if there is no file, but a file that LUTERN_CONFIG
    names must exist."""
    try:
        path = config_path(environment)
    except LuternError:
        if environment.get(CONFIG):
            raise
        return Path(), {}
    try:
        return path, tomllib.loads(read_plain(path, _MOST_BYTES, _WANTED).decode())
    except OSError as error:
        if environment.get(CONFIG):
            raise LuternError(f"{path} of {CONFIG} cannot be read ({error.strerror}); give a {_WANTED}.") from None
        return path, {}
    except (ValueError, RecursionError) as error:  # errors of TOML and of UTF-8
        reason = " ".join(str(error).split())[:120]
        raise LuternError(f"{path} is no TOML ({reason}); correct it, or remove it.") from None


def options_of(command: Any) -> dict[str, str]:
    """Return a command's options. Keys are the names in files and variables, values are the names of the parameters."""
    found = {}
    for param in command.params:
        longest = max((name for name in param.opts if name.startswith("--")), key=len, default="")
        if longest and param.name not in _NEVER:
            found[longest[2:].replace("-", "_")] = param.name
    return found


def default_map(root: Any, wanted: str | None, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the defaults of one command of ``root``, or of one group of commands, in click's form: nested by the words
    of each command, then by parameter. Other commands are imported only if there is a file to check."""
    environment = os.environ if environment is None else environment
    path, config = read_config(environment)
    if config:
        _check(path, config, root)
    if wanted is None or wanted not in root.commands:
        return {}
    return _of_group({wanted: root.commands[wanted]}, environment, [config], PREFIX)


def _of_group(
    commands: Mapping[str, Any], environment: Mapping[str, str], tables: list[dict[str, Any]], prefix: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in commands.items():
        word = name.replace("-", "_").upper()
        own = [table[name] for table in tables if isinstance(table.get(name), dict)]
        below = f"{prefix}{word}_"
        if hasattr(command, "commands"):
            found[name] = _of_group(command.commands, environment, [*own, *tables], below)
            continue
        values = {}
        for option, parameter in options_of(command).items():
            value = _value(option, environment, [*own, *tables], below)
            if value is not None:
                values[parameter] = value
        found[name] = values
    return found


def _value(option: str, environment: Mapping[str, str], tables: list[dict[str, Any]], prefix: str) -> Any:
    """Return the first value that is set, in this order: the command's own variable, the variable for all commands, the
    command's table, the lines of the file for all commands."""
    names = [f"{prefix}{option.upper()}", *([] if option.upper() in OWN else [f"{PREFIX}{option.upper()}"])]
    for name in names:
        if environment.get(name):
            return environment[name]
    for table in tables:
        if option in table and not isinstance(table[option], dict):
            return table[option]
    return None


def _check(path: Path, config: dict[str, Any], root: Any) -> None:
    """Refuse names in the file that no option has, and values of a type that no option takes."""
    for place, name, value, known in _entries(config, root, ()):
        if name not in known:
            where = f"[{'.'.join(place)}]" if place else "outside of a table"
            raise LuternError(
                f"{path}: {name} {where} is no option of {' '.join(('lutern', *place))}; see lutern "
                f"{' '.join((*place, '--help'))}."
            )
        if not isinstance(value, str | int | float | list):
            raise LuternError(f"{path}: {name} has a value that no option takes; give a text, a number or a list.")


def _entries(
    table: dict[str, Any], group: Any, place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, Any, set[str]]]:
    """Yield the place, name and value of each entry of the file, and the names that are known at this place. If an
    entry is the table of a command, yield the entries of this table."""
    known = set(_all_options(group))
    commands = getattr(group, "commands", {})
    for name, value in table.items():
        if isinstance(value, dict) and name in commands:
            yield from _entries(value, commands[name], (*place, name))
        else:
            yield place, name, value, known


def _all_options(command: Any) -> Iterator[str]:
    yield from options_of(command)
    for below in getattr(command, "commands", {}).values():
        yield from _all_options(below)


__all__ = ["CONFIG", "config_path", "default_map"]
