"""Refuses options of earlier versions with a message that names the new options."""

from __future__ import annotations

OUTPUT = "--output is now --out, or -o"
RENAMED = {
    ("bench", "-o"): "-o is the path of a file in every command; the format is now --format",
    ("bench", "--output"): "--output is now --format",
    ("bench", "-r"): "-r is now --prompts",
    ("logits", "--tokens"): "--tokens is a number of tokens in every command; the file is now --token-file",
    ("new", "--preset"): "--preset is a machine in every command; the shape is now --size",
    **{(name, "--output"): OUTPUT for name in ("verilog", "logits", "new", "convert", "power log", "power calibrate")},
}
"""For each command and option of an earlier version: the reason of the change if it needs one, and the new name."""


def renamed(command: str, option: str) -> str | None:
    """Return the end of the error message for an option of an earlier version. None: the option never existed."""
    return RENAMED.get((command.removeprefix("lutern "), option))


__all__ = ["renamed"]
