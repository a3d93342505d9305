"""Finds the present step of a long tool at the end of its log, while the tool runs.

yosys     "3.12. Executing OPT pass."                    ─► "3.12. OPT pass"
nextpnr   "Info:  at iteration #20, type X: ..."         ─► "placing, step 20"
          "Info:  iter=12 wires=9340 overused=28 ..."    ─► "routing, pass 12: 28 nodes overused"

With some seeds, the static placer of nextpnr runs without end, because it leaves block RAMs where other block RAMs are
fixed. ``stuck_on`` detects this in the log.
"""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 4096
_OVERLAP_BYTES = 1 << 18
STUCK_ITERATIONS = 500
"""A placer that ends needs some 600 iterations, and the overlap of a kind of cells is equal in at most 120 successive
iterations.
"""
_OVERLAP = re.compile(r"^Info: overlap: .*\bRAM=([\d.]+)%, MUL=([\d.]+)%", re.MULTILINE)
_LONGEST = 48
_YOSYS = re.compile(r"^(\d+(?:\.\d+)*\.) Executing (.+?)\.?( \(.*)?$")
_PASS = re.compile(r"^Info: +iter=(\d+) wires=", re.MULTILINE)
_NEXTPNR = (
    (re.compile(r"^Info: +iter=(\d+) wires=\d+ overused=(\d+)"), "routing, pass {}: {:,} nodes overused"),
    (re.compile(r"^Info: +\d+ \|[^|]*\|[^|]*\| *(\d+)\|"), "routing: {:,} connections left"),
    (re.compile(r"^Info: .*[Rr]out(?:ing|er)"), "routing"),
    (re.compile(r"^Info: +at iteration #(\d+): temp"), "refining the placement, step {}"),
    (re.compile(r"^Info: +(?:at iteration #|iter=)(\d+)\b"), "placing, step {}"),
    (re.compile(r"^Info: .*[Pp]lac(?:er|ing|ement)"), "placing"),
    (re.compile(r"^Info: Packing"), "packing"),
)
"""Lines of nextpnr's log that begin a step, and the text with their numbers. All other lines are skipped."""


def state_of(log: Path) -> str:
    """Return the tool's present step, as the log names it last; empty if the log does not name a step yet."""
    for line in reversed(_tail(log, _TAIL_BYTES).splitlines()):
        if found := _YOSYS.match(line):
            return f"{found[1]} {found[2]}"[:_LONGEST]
        for pattern, text in _NEXTPNR:
            if found := pattern.match(line):
                return text.format(*map(int, found.groups()))
    return ""


def stuck_on(log: Path) -> str:
    """Return the cells that nextpnr's static placer cannot place, with their overlap; empty if the placer does not
    hang.

    The placer hangs if the overlap of block RAMs or of multipliers is above 0 and has not changed in the last
    ``STUCK_ITERATIONS`` iterations.
    """
    overlaps = _OVERLAP.findall(_tail(log, _OVERLAP_BYTES))[-STUCK_ITERATIONS:]
    if len(overlaps) == STUCK_ITERATIONS:
        for what, values in zip(("block RAMs", "multipliers"), zip(*overlaps, strict=True), strict=True):
            if float(values[-1]) > 0 and len(set(values)) == 1:
                return f"{what}, whose overlap stays at {values[-1]} %"
    return ""


def passes_of(log: Path) -> int:
    """Return the number of passes of nextpnr's router2 so far."""
    found = _PASS.findall(_tail(log, _TAIL_BYTES))
    return int(found[-1]) if found else 0


def _tail(path: Path, byte_count: int) -> str:
    """Return the end of a file as text; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - byte_count))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


__all__ = ["STUCK_ITERATIONS", "passes_of", "state_of", "stuck_on"]
