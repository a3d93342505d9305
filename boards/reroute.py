"""Routes the slowest connections of a routed chip again, and leaves all others where they are.

nextpnr's router2 ends with a legal route, in which some connections make long detours around nets that were routed
later. nextpnr can read its own routed design. In this design, some routes are removed, in one of two ways:

- *Room for detours.* The routes of long detours on the slowest paths are removed, and room is made for them: the routes
  of connections that have time and end beside them are removed, too.
- *Moved LUTs.* LUTs of the slowest paths are moved (``moves.py``) or replicated (``replicas.py``), and the routes of
  their nets and of all detours on the slowest paths are removed. Room is made for the nets of moved LUTs, too.

router2 routes them again, the most critical first, and moves other nets only where they are in the way.

nextpnr forgets three things in the file:

- *The order of LUT inputs.* The router may connect a net to any input of a LUT4. nextpnr permits this for each slice
  when it places a cell, and does not know it of a cell that is already placed. ``fix_inputs`` therefore changes the
  netlist, so that each net leads to the input to which it was routed. The bitstream does not change.
- *Inputs without a net.* Only a port that the file connects to an unknown value becomes a port of the cell, and the
  inputs of block RAMs and multipliers without a net must be made 0.
- *Halves of carry cells.* nextpnr counts the carry delay of both halves of a carry cell at the first half. In a design
  that it has read, it counts this delay at both halves, so all carry chains seem slower. ``correct_carries`` takes the
  second delay back, and ``correct_report`` does so in nextpnr's report.

docs/decisions/018-detours.md and 022-room-for-detours.md have the figures.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lutern.boards import moves
from lutern.boards.delays import CLOCK_PORT, Delays, Pin, Step
from lutern.boards.moves import Distances, Mover
from lutern.boards.replicas import replicas_for, with_replicas
from lutern.model_ref.errors import LuternError

USED_WEIGHT = 100
"""Weight of wires that other nets use, in the first pass. nextpnr begins with 0.5, and the weight grows by 2 in each
pass. If it begins with 0.5 in a routed chip, the opened connections push hundreds of nets away, which push others."""
HISTORY_WEIGHT = 30
"""Weight by which a wire becomes dearer with each pass in which several nets use it, in a round with replicas; nextpnr
has 1. Beside ``USED_WEIGHT``, 1 is too little for the long connections of replicas: the same few nets push each other
from wire to wire. The few connections of moved LUTs need it not, and become slower with it."""
EXCESS_NS = 0.5
"""A detour is long if it takes this much more than is typical for its distance."""
SPARE_NS = 1.5
"""A connection has time if its slowest path is faster than a slow path by this much."""
FEW_SINKS = 16
"""A net with at most this many sinks is routed again as a whole, because its sinks share the wire that makes the
detour. As long as a single sink keeps this wire, router2 leads the others over it again."""
SETTINGS = USED_WEIGHT, HISTORY_WEIGHT, EXCESS_NS, SPARE_NS, FEW_SINKS, *moves.SETTINGS
VERSION = 3
"""Of this module, ``moves.py`` and ``replicas.py``; to be increased when they give another route."""
_INPUTS = "ABCD"
_PERMUTED = re.compile(r"(X\d+/Y\d+)/0_0_([ABCD])(\d)->0_0_([ABCD])\3_SLICE")
_SLICE = re.compile(r"X(\d+)/Y(\d+)/SLICE([ABCD])\.(?:K|FF)(\d)")
_FROM = re.compile(r"X(\d+)/Y(\d+)/(-?\d+)_(-?\d+)_(\w+)->")
_BLOCK_WIRES = {"DP16KD": "J{}_EBR", "MULT18X18D": "J{}_MULT18"}
"""Names of the wires at the inputs of larger blocks. {} is the name of the port."""
Tree = dict[str, tuple[str, str]]
"""The route of a net: for each wire, the switch that drives it (empty for the first wire), and how firmly it is
bound."""


def fix_inputs(design: dict[str, Any], *, history_weight: float = 1) -> None:
    """Change a routed design (nextpnr's JSON) such that nextpnr can read it, and has the same bitstream again."""
    top = design["modules"]["top"]
    cells = {_input_site(cell): cell for cell in top["cells"].values() if cell["type"] == "TRELLIS_COMB"}
    routed: dict[str, dict[str, str]] = defaultdict(dict)
    for net in top["netnames"].values():
        tree: Tree = {}
        for wire, (switch, bound) in _tree(net).items():
            if found := _PERMUTED.fullmatch(switch):
                tile, start, number, end = found.groups()
                routed[f"{tile}/{number}"][end] = start
                switch = f"{tile}/0_0_{start}{number}->0_0_{start}{number}_SLICE"
                wire = f"{tile}/{start}{number}_SLICE"
            tree[wire] = switch, bound
        _set_tree(net, tree)
    for site, inputs in routed.items():
        if any(start != end for end, start in inputs.items()):
            _permute(cells[site], inputs)
    for cell in top["cells"].values():
        for port, bits in cell["connections"].items():
            if not bits and cell["port_directions"][port] == "input":
                cell["connections"][port] = ["x"]
    top["settings"]["arch.disable_router_lutperm"] = "1 "
    top["settings"]["router2/initCurrCongWeight"] = f"{USED_WEIGHT}.0"
    top["settings"]["router2/histCongWeight"] = f"{history_weight:.1f}"


def _input_site(cell: dict[str, Any]) -> str:
    """Return the tile and the number of a LUT4."""
    x, y, number = _lut_number(cell)
    return f"X{x}/Y{y}/{number}"


def _lut_number(cell: dict[str, Any]) -> tuple[str, str, int]:
    x, y, letter, half = _parts(_SLICE, cell["attributes"]["NEXTPNR_BEL"])
    return x, y, 2 * _INPUTS.index(letter) + int(half)


def _permute(cell: dict[str, Any], routed: dict[str, str]) -> None:
    """Move the nets of a LUT4 to the inputs to which they are routed, and permute its table accordingly.

    ``routed`` has the input of the route for each input of the netlist that has a route. The others keep their place if
    they can, and otherwise take a free place of their pair, because a carry cell's pairs A, B and C, D differ.
    """
    connections, table = cell["connections"], int(cell["parameters"]["INITVAL"], 2)
    moved = dict(routed)
    free = [place for place in _INPUTS if place not in routed.values()]
    without = [place for place in _INPUTS if place not in routed]
    for place in sorted(without, key=lambda place: place not in free):
        pair = [other for other in free if _INPUTS.index(other) // 2 == _INPUTS.index(place) // 2]
        moved[place] = place if place in free else (pair or free)[0]
        free.remove(moved[place])
    permuted = 0
    for index in range(16):
        old = sum(1 << _INPUTS.index(end) for end, start in moved.items() if index >> _INPUTS.index(start) & 1)
        permuted |= (table >> old & 1) << index
    cell["parameters"]["INITVAL"] = f"{permuted:016b}"
    bits = {start: connections[end] for end, start in moved.items() if connections[end] not in ([], ["x"])}
    connections.update({place: bits.get(place, []) for place in _INPUTS})


def _tree(net: dict[str, Any]) -> Tree:
    fields = net["attributes"].get("ROUTING", "").strip().split(";")
    return {fields[at]: (fields[at + 1], fields[at + 2]) for at in range(0, len(fields) - 2, 3)}


def _set_tree(net: dict[str, Any], tree: Tree) -> None:
    net["attributes"].pop("ROUTING", None)
    if tree:
        net["attributes"]["ROUTING"] = ";".join(f"{wire};{switch};{bound}" for wire, (switch, bound) in tree.items())


def correct_carries(design: dict[str, Any], delays: Delays) -> None:
    """Count the carry delay of each carry cell once, as nextpnr does in a design that it has placed itself."""
    for name, cell in design["modules"]["top"]["cells"].items():
        if cell["parameters"].get("MODE") == "CCU2" and _lut_number(cell)[2] % 2:
            pin = name, "FCO"
            if pin in delays.through:
                delays.through[pin] = [(port, 0.0 if port == "FCI" else delay) for port, delay in delays.through[pin]]


def correct_report(report: dict[str, Any], design: dict[str, Any], delays: Delays) -> None:
    """Take the second carry delays from the clocks in nextpnr's report of a design that it has read. The critical path
    of each clock is then the slowest path without these delays."""
    nets = nets_of_clocks(design)
    names = design["modules"]["top"]["netnames"]
    clocks = {name: names[name]["bits"][0] for name in report["fmax"] if name in names}

    def slowest() -> dict[str, list[Step]]:
        return {name: delays.slowest_path(delays.timing(nets, net)) for name, net in clocks.items()}

    before = slowest()
    correct_carries(design, delays)
    after = slowest()
    for name, steps in after.items():
        clock = report["fmax"][name]
        gain = sum(step.delay for step in before[name]) - sum(step.delay for step in steps)
        clock["achieved"] = 1e3 / (1e3 / clock["achieved"] - gain)
    for path in report["critical_paths"]:
        ends = {path[end].split(" ")[-1] for end in ("from", "to")}
        if len(ends) == 1 and (name := ends.pop()) in after:
            path["path"] = [_hop(step, design) for step in after[name]]


def _hop(step: Step, design: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a path as nextpnr reports it."""
    top = design["modules"]["top"]
    ends = {name: {"cell": cell, "port": port} for name, (cell, port) in (("from", step.start), ("to", step.end))}
    hop = {"type": step.kind, "delay": step.delay, **ends}
    if step.kind == "routing":
        bits = top["cells"][step.start[0]]["connections"][step.start[1]]
        hop["net"] = next(name for name, net in top["netnames"].items() if net["bits"] == bits)
    return hop


@dataclass(frozen=True)
class Opened:
    """What was changed in a design: LUTs that have moved, LUTs that have a replica now, and connections without a
    route, with those that only made room."""

    moved: int
    replicated: int
    removed: int
    neighbours: int = 0

    def __str__(self) -> str:
        again = f"{self.removed} connections routed again, {self.neighbours} of them to make room"
        return f"{self.moved} LUTs moved, {self.replicated} replicated, {again}"


def open_detours(design: dict[str, Any], delays: Delays, periods: Mapping[str, float]) -> Opened:
    """Remove the routes of long detours on slow paths, of the connections that share these detours, and of all
    connections that have time and end in the tiles in which these detours begin and end.

    A detour of many ns between neighbouring tiles shows that no wire is free there. nextpnr's router2 then finds no
    better route, because all other nets stay where they are.

    ``periods`` has the time in ns above which a path is slow, by the name of its clock's net.
    """
    correct_carries(design, delays)
    slack = _slack(_paths(design, delays, periods))
    distances = Distances(design, delays)
    opened = detours(delays, distances, (sink for sink, time in slack.items() if time < 0), EXCESS_NS)
    neighbours = _neighbours(delays, distances, slack, opened)
    wanted = remove_routes(design, delays, list(dict.fromkeys([*opened, *_siblings(delays, distances, opened)])))
    made = remove_routes(design, delays, neighbours)
    return Opened(0, 0, wanted + made, made)


def _slack(paths: Mapping[int, tuple[float, Mapping[Pin, float]]]) -> dict[Pin, float]:
    """Return by how much the slowest path through each connection is faster than a slow path, in ns."""
    slack: dict[Pin, float] = {}
    for period, found in paths.values():
        for sink, delay in found.items():
            slack[sink] = min(period - delay, slack.get(sink, math.inf))
    return slack


def _siblings(delays: Delays, distances: Distances, opened: Iterable[Pin]) -> list[Pin]:
    """Return the connections that share a detour with the connections ``opened``: all of a net with few sinks, and
    those of a larger net whose detour is more than half as long as the longest one."""
    longest: dict[Pin, float] = {}
    for sink in opened:
        driver = delays.connections[sink][0]
        longest[driver] = max(_excess(delays, distances, sink), longest.get(driver, 0))
    all_sinks = delays.sinks()
    return [
        sink
        for driver, excess in longest.items()
        for sink in all_sinks[driver]
        if len(all_sinks[driver]) <= FEW_SINKS or _excess(delays, distances, sink) > excess / 2
    ]


def _neighbours(
    delays: Delays,
    distances: Distances,
    slack: Mapping[Pin, float],
    opened: Iterable[Pin],
    without: Container[str] = (),
) -> list[Pin]:
    """Return the connections that have time and end in the tiles in which the connections ``opened`` begin and end.
    Connections of the cells ``without`` are left out."""
    ends = {cell for sink in opened for cell in (sink[0], delays.connections[sink][0][0])}
    tiles = {distances.tiles[cell] for cell in ends}
    near = {cell for cell, tile in distances.tiles.items() if tile in tiles and cell not in without}
    return [
        sink
        for sink, (driver, wire) in delays.connections.items()
        if wire > 0
        and sink[0] in near
        and driver[0] not in without
        and slack.get(sink, 0) > SPARE_NS
        and not CLOCK_PORT.fullmatch(sink[1])
    ]


def open_slowest(
    design: dict[str, Any], delays: Delays, periods: Mapping[str, float], *, replicates: bool = False
) -> Opened:
    """Move LUTs of slow paths, and remove the routes of their nets and of all detours on slow paths. The routes of
    connections that have time and end beside a moved LUT, or where its nets begin and end, are removed, too.

    ``periods`` has the time in ns above which a path is slow, by the name of its clock's net. If ``replicates`` is
    true, LUTs that cannot move are replicated.
    """
    correct_carries(design, delays)
    top = design["modules"]["top"]
    cells = top["cells"]
    paths = _paths(design, delays, periods)
    slow = {net: [sink for sink, delay in found.items() if delay > period] for net, (period, found) in paths.items()}
    every = list(dict.fromkeys(sink for sinks in slow.values() for sink in sinks))
    distances = Distances(design, delays)
    opened = detours(delays, distances, every)

    with_wire = [sink for sink in every if _end_wire(cells[sink[0]], sink[1])]
    found = replicas_for(design, delays, with_wire) if replicates else []
    replicas = {replica.name: replica for replica in found}
    distances.tiles.update((name, distances.tiles[replica.original]) for name, replica in replicas.items())
    replicated = with_replicas(delays, replicas.values())
    mover = Mover(design, replicated, distances, replicas)
    nets = nets_of_clocks(design)
    for net, sinks in slow.items():
        inputs = [sink for sink in replicated.connections if sink[0] in replicas]
        mover.improve(replicated.timing(nets, net), [*sinks, *inputs])

    made = [replicas[name] for name in mover.moved if name in replicas]
    moved = {name: place for name, place in mover.moved.items() if name not in replicas}
    of_moved = [sink for sink, (driver, _) in delays.connections.items() if {sink[0], driver[0]} & moved.keys()]
    neighbours = _neighbours(delays, distances, _slack(paths), of_moved, moved)
    opened += [*of_moved, *(sink for replica in made for sink in replica.sinks)]
    removed = remove_routes(design, delays, list(dict.fromkeys(opened)))
    room = remove_routes(design, delays, neighbours)
    for cell, place in moved.items():
        _set_tree(_net_of(top, cell, "F"), {})
        cells[cell]["attributes"]["NEXTPNR_BEL"] = place
    for replica in made:
        replica.make(design, mover.moved[replica.name])
        removed += sum(sink[0] == replica.name for sink in replicated.connections)
    return Opened(len(moved), len(made), removed + room, room)


def _paths(
    design: dict[str, Any], delays: Delays, periods: Mapping[str, float]
) -> dict[int, tuple[float, dict[Pin, float]]]:
    """Return the period of each clock and the delay of the slowest path through each connection, by the clock's
    net."""
    nets = nets_of_clocks(design)
    names = {name.removeprefix("$glbnet$"): net["bits"] for name, net in design["modules"]["top"]["netnames"].items()}
    return {
        names[name][0]: (period, delays.paths(delays.timing(nets, names[name][0])))
        for name, period in periods.items()
        if len(names.get(name, ())) == 1
    }


def _net_of(top: dict[str, Any], cell: str, port: str) -> dict[str, Any]:
    bits = top["cells"][cell]["connections"][port]
    return next(net for net in top["netnames"].values() if net["bits"] == bits and _tree(net))


def nets_of_clocks(design: dict[str, Any]) -> dict[Pin, int]:
    """Return the net at each clock pin of a design."""
    return {
        (name, port): bits[0]
        for name, cell in design["modules"]["top"]["cells"].items()
        for port, bits in cell["connections"].items()
        if bits and bits != ["x"] and CLOCK_PORT.fullmatch(port)
    }


def detours(delays: Delays, distances: Distances, slow: Iterable[Pin], excess: float = 0.0) -> list[Pin]:
    """Return those of the connections ``slow`` that take longer than is typical for their distance, by more than
    ``excess`` ns. A connection is named by its input pin."""
    return [sink for sink in slow if _excess(delays, distances, sink) > excess]


def _excess(delays: Delays, distances: Distances, sink: Pin) -> float:
    """Return by how many ns a connection takes longer than is typical for its distance."""
    driver, delay = delays.connections[sink]
    return delay - distances.typical(distances.tiles[driver[0]], distances.tiles[sink[0]])


def remove_routes(design: dict[str, Any], delays: Delays, sinks: list[Pin]) -> int:
    """Remove the parts of routes that lead only to ``sinks``, and return how many connections have no route now.

    A connection whose wire is not known by name keeps its route.
    """
    top = design["modules"]["top"]
    nets = {net["bits"][0]: net for net in top["netnames"].values() if _tree(net)}
    by_driver: dict[Pin, list[Pin]] = defaultdict(list)
    for sink in sinks:
        by_driver[delays.connections[sink][0]].append(sink)
    removed = 0
    for (cell, port), ends in by_driver.items():
        net = nets.get(top["cells"][cell]["connections"][port][0])
        if net is None:
            continue
        tree = _tree(net)
        before = len(tree)
        uses: dict[str, int] = defaultdict(int)
        for switch, _ in tree.values():
            if switch:
                uses[_start(switch)] += 1
        for end in ends:
            wire = _end_wire(top["cells"][end[0]], end[1])
            while wire in tree and not uses[wire] and tree[wire][0]:
                wire = _start(tree.pop(wire)[0])
                uses[wire] -= 1
        if len(tree) < before:
            removed += len(ends)
            _set_tree(net, tree)
    return removed


def _start(switch: str) -> str:
    """Return the wire at which a switch begins."""
    x, y, right, down, name = _parts(_FROM, switch)
    return f"X{int(x) + int(right)}/Y{int(y) + int(down)}/{name}"


def _parts(pattern: re.Pattern[str], name: str) -> tuple[str, ...]:
    if found := pattern.match(name):
        return found.groups()
    raise LuternError(f"nextpnr wrote {name}, which is no place and no switch that is known.")


def _end_wire(cell: dict[str, Any], port: str) -> str:
    """Return the wire of an input pin; empty if it is not known."""
    tile = "/".join(cell["attributes"]["NEXTPNR_BEL"].split("/")[:2])
    if cell["type"] in _BLOCK_WIRES:
        return f"{tile}/{_BLOCK_WIRES[cell['type']].format(port)}"
    if cell["type"] == "TRELLIS_RAMW":  # it takes the inputs of both LUT4s of the third slice, numbers 4 and 5
        return f"{tile}/{port[0]}{4 + int(port[1:])}_SLICE"
    if cell["type"] not in ("TRELLIS_COMB", "TRELLIS_FF"):
        return ""
    number = _lut_number(cell)[2]
    return f"{tile}/{port}{number // 2 if port in ('CE', 'LSR', 'WRE') else number}_SLICE"


__all__ = [
    "HISTORY_WEIGHT",
    "SETTINGS",
    "VERSION",
    "Opened",
    "correct_carries",
    "correct_report",
    "detours",
    "fix_inputs",
    "nets_of_clocks",
    "open_slowest",
    "remove_routes",
]
