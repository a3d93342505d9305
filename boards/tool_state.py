"""Finds the present step of a long tool at the end of its log, while it runs.

yosys     "3.12. Executing OPT pass."                  ─► "3.12. OPT pass"
nextpnr   "Info:  at iteration #20, ... wirelen = 93"  ─► "at iteration #20, ... wirelen = 93"
"""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 4096
_LONGEST = 48
_YOSYS = re.compile(r"^(\d+(?:\.\d+)*\.) Executing (.+?)\.?( \(.*)?$")
_NEXTPNR = re.compile(r"^Info: +(.+)$")


def state_of(log: Path) -> str:
    """Return the last words of a log that name the tool's present step; empty if there are none yet."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    for line in reversed(text.splitlines()):
        if found := _YOSYS.match(line):
            return f"{found[1]} {found[2]}"[:_LONGEST]
        if found := _NEXTPNR.match(line):
            return " ".join(found[1].split())[:_LONGEST]
    return ""


__all__ = ["state_of"]
