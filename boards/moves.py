"""Moves LUTs of the slowest paths of a routed chip to free places, so that the paths become shorter.

nextpnr places a cell where the wire of all its nets is short. A LUT of a slow path may therefore be far from the path.
Only a LUT4 that is nothing but a LUT4 is moved: no part of a carry chain, a multiplexer or a LUT RAM, and not joined
with a flip-flop. It moves to a place where no flip-flop waits for the LUT beside it. The delays of its new connections
are estimated from the distance (``Distances``); ``reroute.py`` routes them.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from lutern.boards.delays import Delays, Pin, Timing

MOST_SINKS = 16
"""A LUT with more sinks stays, because too many connections would be routed again."""
GAIN_NS = 0.1
"""A LUT moves if its slowest path becomes faster by more than this, as estimated."""
PASSES = 3
"""How often all LUTs of slow paths are looked at."""
SETTINGS = MOST_SINKS, GAIN_NS, PASSES
"""All that decides which LUT moves, for the digest of a route."""
BESIDE = {"DI", "F1", "FXA", "FXB", "FCI"}
"""Ports that only a cell in the same slice can drive, or a neighbour at a fixed place."""
Tile = tuple[int, int]
_PLACE = re.compile(r"X(\d+)/Y(\d+)/SLICE([ABCD])\.(K|FF)(\d)")
_TILE = re.compile(r"X(\d+)/Y(\d+)/")


class Distances:
    """The tiles of all cells, and the typical delay of a connection by its distance.

    The typical delay is the median of all connections of the design with the same distance in tiles.
    """

    def __init__(self, design: Mapping[str, Any], delays: Delays) -> None:
        self.tiles: dict[str, Tile] = {}
        for name, cell in design["modules"]["top"]["cells"].items():
            if found := _TILE.match(cell["attributes"].get("NEXTPNR_BEL", "")):
                self.tiles[name] = int(found[1]), int(found[2])
        by_distance: dict[int, list[float]] = defaultdict(list)
        for sink, (driver, delay) in delays.connections.items():
            if delay > 0:  # not a wire inside a slice
                by_distance[self.distance(self.tiles[driver[0]], self.tiles[sink[0]])].append(delay)
        self._typical = {length: median(found) for length, found in by_distance.items()}
        self._longest = max(self._typical, default=0)

    @staticmethod
    def distance(start: Tile, end: Tile) -> int:
        """Return the distance in tiles along both axes."""
        return abs(start[0] - end[0]) + abs(start[1] - end[1])

    def typical(self, start: Tile, end: Tile) -> float:
        """Return the typical delay in ns between two tiles."""
        for length in range(self.distance(start, end), self._longest + 1):
            if length in self._typical:
                return self._typical[length]
        return math.inf


def free_places(cells: Mapping[str, Any]) -> dict[Tile, list[str]]:
    """Return the places of LUTs to which a LUT can move, by tile. Only tiles that have a plain LUT count."""
    used, closed, tiles = set(), set(), set()
    for cell in cells.values():
        if not (found := _PLACE.fullmatch(cell["attributes"].get("NEXTPNR_BEL", ""))):
            continue
        x, y, letter, kind, half = found.groups()
        slice_name = f"X{x}/Y{y}/SLICE{letter}"
        if kind == "K" or _has_net(cell, "DI"):
            used.add(f"{slice_name}.K{half}")
        if kind == "K":
            if is_plain(cell):
                tiles.add((int(x), int(y)))
            else:
                closed.add(slice_name)
    return {
        (x, y): [
            place
            for letter in "ABCD"
            for half in "01"
            if (place := f"X{x}/Y{y}/SLICE{letter}.K{half}") not in used and f"X{x}/Y{y}/SLICE{letter}" not in closed
        ]
        for x, y in tiles
    }


def is_plain(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell is nothing but a LUT4."""
    others = set(cell["connections"]) - {*"ABCDF"}
    return (
        cell["type"] == "TRELLIS_COMB"
        and cell["parameters"].get("MODE", "LOGIC") == "LOGIC"
        and not any(_has_net(cell, port) for port in others)
    )


def can_move(sinks: Sequence[Pin]) -> bool:
    """Return whether a plain LUT with these sinks can move."""
    return 0 < len(sinks) <= MOST_SINKS and not any(port in BESIDE for _, port in sinks)


def _has_net(cell: Mapping[str, Any], port: str) -> bool:
    return cell["connections"].get(port, []) not in ([], ["x"])


class Mover:
    """Looks for better places of the LUTs on slow paths.

    design, delays
        A routed design (nextpnr's JSON) with its delays. Neither is changed.
    distances
        The tiles of the cells, which follow the LUTs that move.
    without_place
        LUTs that ``delays`` has and the design does not have yet.
    """

    def __init__(
        self, design: Mapping[str, Any], delays: Delays, distances: Distances, without_place: Iterable[str] = ()
    ) -> None:
        cells = design["modules"]["top"]["cells"]
        self._places = {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in cells.items() if is_plain(cell)}
        self._places |= dict.fromkeys(without_place, "")
        self._delays, self._sinks = delays, delays.sinks()
        self._distances = distances
        self._free = free_places(cells)
        self._wires = {sink: wire for sink, (_, wire) in delays.connections.items()}
        self._arrivals: dict[Pin, float] = {}
        self._rests: dict[Pin, float] = {}
        self._inputs: dict[str, list[Pin]] = {}  # a LUT of a constant has none
        for sink in delays.connections:
            self._inputs.setdefault(sink[0], []).append(sink)
        self.moved: dict[str, str] = {}

    def improve(self, timing: Timing, slow: Iterable[Pin]) -> None:
        """Move LUTs at the connections ``slow`` of a clock. ``moved`` has the new place of each LUT that moves."""
        self._arrivals, self._rests = dict(timing.arrivals), timing.rests.copy()
        on_path = {pin[0] for sink in slow for pin in (sink, self._delays.connections[sink][0])}
        order = [pin for pin in self._delays.order if pin[0] in on_path]
        for _ in range(PASSES):
            before = dict(self.moved)
            for pin in order:
                self._refresh_arrival(pin)
                if self._can_move(pin):
                    self._move(pin)
            for pin in reversed(order):
                self._refresh_rests(pin)
            if self.moved == before:
                break

    def _can_move(self, pin: Pin) -> bool:
        name = pin[0]
        return pin[1] == "F" and name in self._places and name in self._inputs and can_move(self._sinks[pin])

    def _move(self, pin: Pin) -> None:
        """Move a LUT to the free place with the fastest slowest path, if this is a gain."""
        name, tiles = pin[0], self._distances.tiles
        drivers = [self._delays.connections[sink][0] for sink in self._inputs[name]]
        starts = [(tiles[driver[0]], self._arrivals[driver]) for driver in drivers]
        ends = [(tiles[sink[0]], self._rests[sink]) for sink in self._sinks[pin]]
        through = max((delay for _, delay in self._delays.through.get(pin, ())), default=0.0)
        now = self._arrivals[pin] + max(self._rests[sink] + self._wires[sink] for sink in self._sinks[pin])

        def slowest(tile: Tile) -> float:
            first = max(arrival + self._distances.typical(start, tile) for start, arrival in starts)
            return first + through + max(rest + self._distances.typical(tile, end) for end, rest in ends)

        around = [tile for tile, _ in (*starts, *ends)]
        box = [(min(axis) - 1, max(axis) + 1) for axis in zip(*around, strict=True)]
        tiles_near = [
            tile
            for tile, places in self._free.items()
            if places and all(low <= at <= high for at, (low, high) in zip(tile, box, strict=True))
        ]
        best = min(tiles_near, key=lambda tile: (slowest(tile), tile), default=None)
        if best in (None, tiles[name]) or not slowest(best) < now - GAIN_NS:
            return
        if old := self._places[name]:
            self._free.setdefault(tiles[name], []).append(old)
        self._places[name] = self.moved[name] = self._free[best].pop(0)
        tiles[name] = best
        for sink, (start, _) in zip(self._inputs[name], starts, strict=True):
            self._wires[sink] = self._distances.typical(start, best)
        for sink, (end, _) in zip(self._sinks[pin], ends, strict=True):
            self._wires[sink] = self._distances.typical(best, end)
        self._refresh_arrival(pin)

    def _refresh_arrival(self, pin: Pin) -> None:
        found = [
            self._arrivals[self._delays.connections[pin[0], port][0]] + self._wires[pin[0], port] + delay
            for port, delay in self._delays.through.get(pin, ())
            if (pin[0], port) in self._wires
        ]
        if found and pin not in self._delays.started:
            self._arrivals[pin] = max(found)

    def _refresh_rests(self, pin: Pin) -> None:
        for port, _ in self._delays.through.get(pin, ()):
            self._rests[pin[0], port] = max(
                self._rest_of((pin[0], output)) + delay for output, delay in self._delays.after[pin[0], port]
            )

    def _rest_of(self, pin: Pin) -> float:
        return max((self._rests[sink] + self._wires[sink] for sink in self._sinks.get(pin, ())), default=-math.inf)


__all__ = ["BESIDE", "GAIN_NS", "MOST_SINKS", "SETTINGS", "Distances", "Mover", "can_move", "free_places", "is_plain"]
