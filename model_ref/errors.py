"""Defines the exception that Lutern raises for every error that a user can correct, and functions that quote the
content of files in error messages."""

from __future__ import annotations

from typing import Any


class LuternError(Exception):
    """An error that a user can correct. The message says what was given, what is expected, and what to do."""


def quoted(value: Any, most: int = 60) -> str:
    """Return a value from a file as Python writes it: printable, on one line, and cut after ``most`` characters."""
    try:
        text = repr(value[: most + 1] if isinstance(value, str | bytes) else value)
        text = text if text.isprintable() else ascii(value[: most + 1] if isinstance(value, str) else value)
    except (RecursionError, ValueError):
        return "a value too large to show"
    return text if len(text) <= most else f"{text[:most]}..."


def named(name: str, most: int = 80) -> str:
    """Return a name from a file without quotation marks: printable, on one line, and cut after ``most`` characters."""
    return name[:most] if name[:most].isprintable() else ascii(name[:most])


def reason_of(error: BaseException, most: int = 200) -> str:
    """Return the message of a library's exception: printable, on one line, and cut after ``most`` characters."""
    text = " ".join(str(error).split())[:most]
    return text if text.isprintable() else ascii(text)[1:-1]


__all__ = ["LuternError", "named", "quoted", "reason_of"]
