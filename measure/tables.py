"""Reads CSV tables of measurements line by line, so that only one line of the file is in memory.

design,watts,net_toggle     headings, in any order; other columns are ignored
nets,0.412,2.1e9            one row per line: a field in quotation marks must end on its line
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from lutern.model_ref.errors import LuternError, quoted, reason_of
from lutern.model_ref.input_files import open_plain

MAX_LINE_CHARACTERS = 1 << 16


def read_table(path: Path, what: str) -> Iterator[list[str]]:
    """Yield the headings, then the fields of each row; empty lines are skipped. ``what`` names the kind of file.

    Raises ``LuternError`` if the file cannot be read or a line is too long.
    """
    try:
        with open_plain(path, what) as binary, io.TextIOWrapper(binary, "utf-8-sig") as file:
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                if len(line) > MAX_LINE_CHARACTERS:
                    raise LuternError(
                        f"{path} has a line of more than {MAX_LINE_CHARACTERS} characters; give a {what}."
                    )
                fields = next(csv.reader([line], strict=True), [])
                if fields:
                    yield fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LuternError(f"{path} cannot be read as CSV ({reason_of(error)}); give a {what}.") from None


def number(text: str, where: str, least: float, most: float) -> float:
    """Return a field as a number from ``least`` to ``most``; else raise ``LuternError``. ``where`` names file and
    row."""
    try:
        value = float(text)
    except ValueError:
        raise LuternError(f"{where} holds something that is no number ({quoted(text)}); leave that row out.") from None
    if not math.isfinite(value) or not least <= value <= most:
        raise LuternError(
            f"{where} holds {quoted(text)}, but must hold a number from {least:g} to {most:g}; leave that row out."
        )
    return value


def listed(headings: Sequence[str]) -> str:
    """Return headings of a file, as an error message shows them."""
    shown = ", ".join(name if len(name) <= 20 and name.isprintable() else quoted(name, 20) for name in headings[:8])
    return f"{shown} and {len(headings) - 8} more" if len(headings) > 8 else shown


__all__ = ["listed", "number", "read_table"]
