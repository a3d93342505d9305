"""Translates nextpnr's report of a route into the terms of a board.

A ``Route`` contains the used resources, each clock with its target, and the slowest path with lines of our sources.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lutern.boards.board import Fpga
from lutern.model_ref.errors import LuternError

RESOURCES = {"LUT": "TRELLIS_COMB", "FF": "TRELLIS_FF", "block RAM": "DP16KD", "DSP": "MULT18X18D"}
"""Rows of the table, and nextpnr's names for them."""
UNTIMED = ("edge",)
"""Clocks that drive only cells of pins. nextpnr may find no path for such a clock, and then does not report it."""
_CELLS = "LUT4|TRELLIS_FF|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D|TRELLIS_DPR16X4"


@dataclass(frozen=True)
class Clock:
    """A clock domain, with its target frequency and the frequency that it reaches. ``has_path`` is
    False if no path limits the clock."""

    domain: str
    target_hz: float
    achieved_hz: float = 0.0
    has_path: bool = True

    @property
    def margin(self) -> float:
        """Relative margin above the target; negative if the target is missed."""
        return math.inf if not self.has_path else self.achieved_hz / self.target_hz - 1


@dataclass(frozen=True)
class Hop:
    """A step of the slowest path.

    kind
        "routing" (of the net ``name``), "logic", "clk-to-q" or "setup" (of the cell ``name``).
    source
        The line of Python that makes the signal after which the net or cell is named.
    """

    kind: str
    delay_ns: float
    name: str
    source: str


@dataclass(frozen=True)
class Route:
    """A placed and routed chip.

    used
        (used, available) by the names of ``RESOURCES``.
    path
        The critical path of the worst clock.
    """

    seed: int
    clocks: tuple[Clock, ...]
    used: dict[str, tuple[int, int]]
    path: tuple[Hop, ...]

    def clock(self, domain: str) -> Clock:
        """Return the clock of a domain."""
        return next(clock for clock in self.clocks if clock.domain == domain)

    @property
    def worst(self) -> Clock:
        """The clock with the least margin."""
        return min(self.clocks, key=lambda clock: clock.margin)

    @property
    def margin(self) -> float:
        """The least margin of all clocks."""
        return self.worst.margin

    @property
    def met(self) -> bool:
        """Whether every clock reaches its target."""
        return self.margin >= 0

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        return {**asdict(self), "met": self.met, "worst": self.worst.domain, "margin": round(self.margin, 4)}


def parse_route(
    text: str, seed: int, clocks: Mapping[str, Clock], fpga: Fpga, sources: Mapping[str, str] | None = None
) -> Route:
    """Return the route that nextpnr's ``--report`` describes.

    ``clocks`` are the targets, by every name that the clock's net may have. ``sources`` are from
    ``source_lines``. A 12F counts as a 25F here, as in nextpnr.
    """
    try:
        report: dict[str, Any] = json.loads(text)
        achieved = {name.removeprefix("$glbnet$"): item["achieved"] * 1e6 for name, item in report["fmax"].items()}
        reached = {clock.domain: achieved[net] for net, clock in clocks.items() if net in achieved}
        wanted = {clock.domain: clock for clock in clocks.values()}
        found = tuple(
            replace(clock, has_path=False)
            if domain in UNTIMED and domain not in reached
            else replace(clock, achieved_hz=reached[domain])
            for domain, clock in wanted.items()
        )
        domains = {net: clock.domain for net, clock in clocks.items()}
        utilization = report["utilization"]
        used = {name: (utilization[cell]["used"], utilization[cell]["available"]) for name, cell in RESOURCES.items()}
        worst = min(found, key=lambda clock: clock.margin)
        return Route(seed, found, used, critical_path(report, worst.domain, domains, sources or {}))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise LuternError(f"Utilisation or clocks of {fpga.name} are not in the report that nextpnr wrote.") from None


def critical_path(
    report: dict[str, Any], domain: str, domains: Mapping[str, str], sources: Mapping[str, str]
) -> tuple[Hop, ...]:
    """Return the critical path inside a domain. nextpnr names a path by the edge and net of its clock.

    ``domains`` has the domain of each net.
    """
    for path in report["critical_paths"]:
        nets = {path[end].split(" ")[-1].removeprefix("$glbnet$") for end in ("from", "to")}
        if len(nets) == 1 and domains.get(nets.pop()) == domain:
            names = [item.get("net", item["to"]["cell"]) for item in path["path"]]
            return tuple(
                Hop(item["type"], round(item["delay"], 3), name, source_of(name, sources))
                for name, item in zip(names, path["path"], strict=True)
            )
    return ()


def source_lines(rtlil_text: str) -> dict[str, str]:
    """Return the line of our Python for each hierarchical name of a signal or module in RTLIL.

    Lines of libraries are left out, so all signals in a library's module count as the line that made this module.
    """
    found: dict[str, str] = {}
    source, module = "", ""
    for line in rtlil_text.splitlines():
        words = line.split()
        if line.lstrip().startswith("attribute \\src "):
            source = words[2].strip('"').split("|")[-1]
        elif words and words[0] in ("module", "wire"):
            name = words[-1].removeprefix("\\")
            if words[0] == "module":
                module = name.partition(".")[2]
                name = module
            else:
                name = f"{module}.{name}" if module else name
            if re.match(r"(hw|boards)/", source):
                found[name] = source
            source = ""
        elif words and words[0] in ("cell", "process"):
            source = ""
    return found


def signal_of(name: str) -> str:
    """Return the signal after which a net or cell is named.

    Names that yosys derives from a signal consist of the signal's name and types of cells.
    """
    return re.sub(rf"(_({_CELLS})(_.*|$)|\[\d+\]$|\$(DPRAM|CCU2|PFUMX).*)", "", name)


def source_of(name: str, sources: Mapping[str, str]) -> str:
    """Return the source line of a net or cell of the netlist."""
    path = signal_of(name)
    while path not in sources and "." in path:
        path = path.rpartition(".")[0]
    return sources.get(path, "")
