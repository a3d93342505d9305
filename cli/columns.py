"""Describes a table's columns: a key for programs, and for readers a heading and a function that formats values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """A value with its own text, for a cell that does not use its column's format."""

    value: Any
    text: str


def shown(value: Any) -> str:
    """Return the text that a reader sees for a value whose column has no format of its own."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``key``: the column's name for programs, which never changes. ``heading``: the title that a reader sees, by default
    the key. ``show``: returns the text of a value. ``left``: the column is aligned at the left, as texts are.
    ``folds``: long texts take several lines.
    """

    key: str
    heading: str = ""
    show: Callable[[Any], str] = shown
    left: bool = False
    folds: bool = False

    def text(self, value: Any) -> str:
        """Return the text of a cell that a reader sees."""
        if isinstance(value, Cell):
            return value.text
        return "" if value is None else self.show(value)

    @property
    def title(self) -> str:
        """The heading that a reader sees."""
        return self.heading or self.key.replace("_", " ")


def percent(digits: int) -> Callable[[float], str]:
    """Return a function that formats a share (0 to 1) as a percentage."""
    return lambda value: f"{value:.{digits}%}"


def fixed(digits: int, unit: float = 1) -> Callable[[float], str]:
    """Return a function that divides a number by ``unit`` and formats it with this number of digits after the point."""
    return lambda value: f"{value / unit:,.{digits}f}"


def raw(value: Any) -> Any:
    """Return the value of a cell for programs."""
    return value.value if isinstance(value, Cell) else value


def field_text(value: Any) -> str:
    """Return the value of a cell for programs, as a text."""
    found = raw(value)
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


def round_number(value: float, digits: int = 3) -> str:
    """Return a number with this number of significant digits, without an exponent."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (digits - 1) else f"{rounded:g}"


__all__ = ["Cell", "Column", "field_text", "fixed", "percent", "raw", "round_number", "shown"]
