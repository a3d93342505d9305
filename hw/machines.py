"""Machines that are derived from presets, by fields of the command line or by a machine file.

    preset, NAME=VALUE, NAME=VALUE ──────────┬─► values of the fields' types ─► depths that follow ─► Machine
    FILE.toml: from = "preset", fields ──────┘

A machine file contains the name of the preset from which the machine is derived, and the fields that differ:

    from = "resident-85f"
    rows = 16
    clock_hz = 60_000_000

A depth that is not given follows from the changed fields. The memories of trits and words keep their size in bytes,
every stream keeps the size of its state, and ``codes_per_cycle`` is at most ``columns``. A machine with changed fields
is called PRESET-DIGEST, so two different machines never have the same name. The name of a machine in a file is the
field ``name`` of the file. If the file does not have this field, the machine has the name of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lutern.hw.config import HwConfig, renamed_or_known
from lutern.hw.presets import PRESETS, preset
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import read_plain

_FROM = "from"
_MOST_BYTES = 1 << 16
_LARGEST = 1_000_000_000
_NAME_DIGITS = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""A machine's name is also used as a name of folders and files, so few characters are allowed."""
KINDS = {int: "a whole number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class Machine:
    """A machine, the preset from which it is derived, and the fields that were given."""

    config: HwConfig
    base: str
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the machine, with the preset from which it was derived and the changed fields."""
        if not self.given:
            return self.config.name
        changes = ", ".join(f"{name}={_text(value)}" for name, value in self.given.items())
        return f"{self.config.name} ({self.base} with {changes})"

    @property
    def clocks(self) -> dict[str, int]:
        """The clocks that were given, in the form that ``boards.board.Board.config`` accepts."""
        return {name: self.given[name] for name in ("clock_hz", "memory_hz") if name in self.given}


def derive(base: HwConfig, given: Mapping[str, Any], name: str = "") -> HwConfig:
    """Return ``base`` with the ``given`` fields, and with the depths that follow from these fields. If ``name`` is not
    given, the machine is called BASE-DIGEST."""
    changed = base.with_(**{**given, **_followers(base, given), "name": name or base.name})
    if name or not given:
        return changed
    return changed.with_(name=f"{base.name}-{changed.digest[:_NAME_DIGITS]}")


def _followers(base: HwConfig, given: Mapping[str, Any]) -> dict[str, int]:
    """Return the fields that were not given but depend on the given fields."""

    def ratio(*names: str) -> tuple[int, int]:
        before, now = 1, 1
        for name in names:
            before, now = before * getattr(base, name), now * max(1, given.get(name, getattr(base, name)))
        return before, now

    def scaled(depth: int, numerator: int, denominator: int) -> int:
        return max(1, -(-depth * numerator // denominator))

    lanes_before, lanes = ratio("rows", "columns")
    bytes_before, word_bytes = ratio("word_bytes")
    streams_before, streams = ratio("streams")
    derived = {
        "trit_beats": scaled(base.trit_beats, lanes_before, lanes),
        "memory_words": scaled(base.memory_words, bytes_before, word_bytes),
        "max_state": scaled(base.max_state, streams, streams_before),
        "codes_per_cycle": min(base.codes_per_cycle, given.get("columns", base.columns)),
    }
    return {name: value for name, value in derived.items() if name not in given and value != getattr(base, name)}


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``--set NAME=VALUE``, each in the type of its field."""
    kinds = field_kinds()
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in kinds:
            raise LuternError(
                f"--set {setting} changes no field of a machine; give NAME=VALUE, {renamed_or_known(name, [*kinds])}."
            )
        values[name] = _parsed(setting, name, kinds[name], text)
    return values


def _parsed(setting: str, name: str, kind: type, text: str) -> Any:
    try:
        value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise LuternError(f"--set {setting}: {name} is {text!r}; give {KINDS[kind]}.") from None
    if kind is int and not 0 <= value <= _LARGEST:
        raise LuternError(f"--set {name} is {value}; give a whole number from 0 to {_LARGEST:,}.")
    return value


def field_kinds() -> dict[str, type]:
    """Return the fields of a machine that can be given, with their types."""
    example = HwConfig("")
    return {known.name: type(getattr(example, known.name)) for known in fields(HwConfig) if known.name != "name"}


def read_machine(path: Path) -> Machine:
    """Return the machine that a file describes. Raise ``LuternError`` if the file does not describe a machine."""
    wanted = "machine file"
    try:
        values = tomllib.loads(read_plain(path, _MOST_BYTES, wanted).decode())
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); give a {wanted}.") from None
    except (ValueError, RecursionError) as error:  # errors of TOML and of UTF-8
        reason = " ".join(str(error).split())[:120]
        raise LuternError(f"{path} is no TOML ({reason}); a {wanted} has lines such as rows = 16.") from None
    base, name = values.pop(_FROM, None), values.pop("name", path.stem)
    if not isinstance(base, str):
        raise LuternError(
            f'{path} does not say what it is derived from; add a line such as {_FROM} = "sim-64", with one of '
            f"{', '.join(PRESETS)}."
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in PRESETS:
        raise LuternError(
            f"{path}: a machine cannot be called {str(name)[:60]!r}; add a line such as "
            f'name = "mine", of up to 40 letters, digits, dots and dashes, and not a preset\'s.'
        )
    kinds = field_kinds()
    for key, value in values.items():
        if key not in kinds:
            raise LuternError(f"{path}: {key!r} is no field of a machine; {renamed_or_known(key, [*kinds])}.")
        if not _is_one(value, kinds[key]):
            raise LuternError(f"{path}: {key} is {str(value)[:60]!r}; give {KINDS[kinds[key]]}.")
    return Machine(derive(preset(base), values, name), base, values)


def _is_one(value: Any, kind: type) -> bool:
    """Return whether a value of a file has the type of its field. Here true and false are not numbers."""
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    in_range = not isinstance(value, int) or 0 <= value <= _LARGEST
    return isinstance(value, kind) and in_range


def choose_machine(
    preset_name: str = "", settings: Sequence[str] = (), file: Path | None = None, default: str | HwConfig = ""
) -> Machine:
    """Return the machine of a preset or of a file, changed by settings. ``default`` is the preset if ``preset_name``
    and ``file`` are not given."""
    if file is not None and preset_name:
        raise LuternError(f"--preset {preset_name} and --machine {file} are two machines; give one of them.")
    if file is not None:
        chosen = read_machine(file)
    else:
        config = preset(preset_name) if preset_name else default if isinstance(default, HwConfig) else preset(default)
        chosen = Machine(config, config.name)
    given = parse_settings(settings)
    if not given:
        return chosen
    return Machine(derive(chosen.config, given), chosen.base, {**chosen.given, **given})


def machine_text(machine: Machine) -> str:
    """Return the text of a machine file."""
    lines = [f'{_FROM} = "{machine.base}"', f'name = "{machine.config.name}"']
    lines += [f"{name} = {_quoted(value)}" for name, value in machine.given.items()]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else _text(value)


__all__ = ["Machine", "choose_machine", "derive", "field_kinds", "machine_text", "parse_settings", "read_machine"]
