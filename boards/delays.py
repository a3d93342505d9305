"""Computes how slow every connection of a routed chip is, from the delays that nextpnr writes as SDF.

    clock ──clk-to-q──► output ──connection──► input ──through──► output ──connection──► input, setup
                        └───────────── arrival ────────────┘└───────────── rest ──────────────────┘

The delay of the slowest path through a connection is the arrival at the connection's input pin plus the rest after this
pin. Paths begin and end at the same clock; nextpnr does not limit other paths either. All delays are the largest of the
three in the SDF file, in ns.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

Pin = tuple[str, str]
"""A pin: the cell and the port."""

_VALUE = r"\([^:()]*:[^:()]*:(-?[\d.]+)\)"
_CONNECTION = re.compile(rf"\(INTERCONNECT (\S+) (\S+) {_VALUE}")
_THROUGH = re.compile(rf"\(IOPATH (?:\(\w+ (\S+)\)|(\S+)) (\S+) {_VALUE}")
_SETUP = re.compile(rf"\(SETUPHOLD \(\w+ (\S+)\) \(\w+ (\S+)\) {_VALUE}")
CLOCK_PORT = re.compile(r"CLK\w?|WCK")
"""The clock ports of the cells that have paths."""


class Step(NamedTuple):
    """A part of a path. ``kind`` is nextpnr's name: clk-to-q, routing, logic or setup. ``delay`` is in ns."""

    kind: str
    start: Pin
    end: Pin
    delay: float


@dataclass
class Delays:
    """The delays of a routed chip.

    connections
        For each input pin, the output pin that drives it, and the delay of the connection.
    through
        For each output pin, the input ports of its cell with the delay from there.
    started
        For each output pin of a clocked cell, the clock port and the delay after the clock's edge.
    ended
        For each input pin of a clocked cell, the clock port and the setup time.
    """

    connections: dict[Pin, tuple[Pin, float]] = field(default_factory=dict)
    through: dict[Pin, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    started: dict[Pin, tuple[str, float]] = field(default_factory=dict)
    ended: dict[Pin, tuple[str, float]] = field(default_factory=dict)

    @cached_property
    def order(self) -> tuple[Pin, ...]:
        """All output pins, such that each pin follows the pins on which it depends."""
        before = {
            pin: [
                self.connections[pin[0], port][0]
                for port, _ in self.through.get(pin, ())
                if (pin[0], port) in self.connections
            ]
            for pin in {driver for driver, _ in self.connections.values()}
        }
        return tuple(TopologicalSorter(before).static_order())

    @cached_property
    def after(self) -> dict[Pin, list[tuple[str, float]]]:
        """For each input pin, the output ports of its cell with the delay to there."""
        found: dict[Pin, list[tuple[str, float]]] = defaultdict(list)
        for (cell, output), inputs in self.through.items():
            for port, delay in inputs:
                found[cell, port].append((output, delay))
        return found

    def timing(self, clock_nets: Mapping[Pin, int], clock_net: int) -> Timing:
        """Return the arrivals and rests of all paths from cells of the clock ``clock_net`` to cells of this clock.

        ``clock_nets`` has the net at each clock pin. A pin without such a path has minus infinity.
        """
        own = {pin: delay for pin, (port, delay) in self.started.items() if clock_nets.get((pin[0], port)) == clock_net}
        setup = {pin: time for pin, (port, time) in self.ended.items() if clock_nets.get((pin[0], port)) == clock_net}
        arrivals: dict[Pin, float] = {}
        for pin in self.order:
            arrivals[pin] = own.get(pin, -math.inf)
            for port, delay in self.through.get(pin, ()):
                if (pin[0], port) in self.connections:
                    driver, wire = self.connections[pin[0], port]
                    arrivals[pin] = max(arrivals[pin], arrivals[driver] + wire + delay)
        sinks = self.sinks()
        rests: dict[Pin, float] = defaultdict(lambda: -math.inf, setup)
        for pin in reversed(self.order):  # all that follows an output pin is complete when this pin is reached
            rest = max((rests[sink] + self.connections[sink][1] for sink in sinks[pin]), default=-math.inf)
            for port, delay in self.through.get(pin, ()):
                rests[pin[0], port] = max(rests[pin[0], port], delay + rest)
        return Timing(arrivals, rests)

    def sinks(self) -> dict[Pin, list[Pin]]:
        """Return the input pins that each output pin drives."""
        found: dict[Pin, list[Pin]] = defaultdict(list)
        for sink, (driver, _) in self.connections.items():
            found[driver].append(sink)
        return found

    def paths(self, timing: Timing) -> dict[Pin, float]:
        """Return the delay in ns of the slowest path through each connection, by the connection's input pin. A
        connection without a path is left out."""
        found = {
            sink: timing.arrivals[driver] + wire + timing.rests[sink]
            for sink, (driver, wire) in self.connections.items()
        }
        return {sink: delay for sink, delay in found.items() if delay > -math.inf}

    def slowest_path(self, timing: Timing) -> list[Step]:
        """Return the steps of the slowest path, from its beginning; none if the clock has no path."""
        ends = [sink for sink in self.ended if sink in self.connections]
        sink = max(ends, key=lambda sink: self._reached(timing, sink) + timing.rests[sink], default=None)
        if sink is None or self._reached(timing, sink) + timing.rests[sink] == -math.inf:
            return []
        clock, setup = self.ended[sink]
        steps = [Step("setup", sink, (sink[0], clock), setup)]
        while True:
            driver, wire = self.connections[sink]
            steps.append(Step("routing", driver, sink, wire))
            inputs = [((driver[0], port), delay) for port, delay in self.through.get(driver, ())]
            inputs = [one for one in inputs if one[0] in self.connections]
            last = max(inputs, key=lambda one: self._reached(timing, one[0]) + one[1], default=None)
            if last is None or self._reached(timing, last[0]) + last[1] < timing.arrivals[driver]:
                clock, delay = self.started[driver]
                return [Step("clk-to-q", (driver[0], clock), driver, delay), *reversed(steps)]
            steps.append(Step("logic", last[0], driver, last[1]))
            sink = last[0]

    def _reached(self, timing: Timing, sink: Pin) -> float:
        """Return the time in ns from the clock's edge until an input pin changes."""
        driver, wire = self.connections[sink]
        return timing.arrivals[driver] + wire


@dataclass(frozen=True)
class Timing:
    """The slowest paths of a clock.

    arrivals
        For each output pin, the time in ns from the clock's edge until the pin changes.
    rests
        For each input pin, the time in ns from there to the end of the path.
    """

    arrivals: dict[Pin, float]
    rests: dict[Pin, float]


def read_delays(path: Path) -> Delays:
    """Read an SDF file that nextpnr wrote."""
    delays = Delays()
    cell = ""
    with open(path, encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if line.startswith("(INSTANCE "):
                cell = _plain(line[len("(INSTANCE ") : -1])
            elif found := _CONNECTION.match(line):
                delays.connections[_pin(found[2])] = (_pin(found[1]), _ns(found[3]))
            elif found := _THROUGH.match(line):
                start = found[1] or found[2]
                if CLOCK_PORT.fullmatch(start):
                    delays.started[cell, found[3]] = (start, _ns(found[4]))
                else:
                    delays.through[cell, found[3]].append((start, _ns(found[4])))
            elif found := _SETUP.match(line):
                delays.ended[cell, found[1]] = (found[2], _ns(found[3]))
    return delays


def _ns(picoseconds: str) -> float:
    return float(picoseconds) / 1000


def _plain(name: str) -> str:
    """Return a name without the escapes of SDF."""
    return re.sub(r"\\(.)", r"\1", name)


def _pin(name: str) -> Pin:
    cell, _, port = _plain(name).rpartition("/")
    return cell, port


__all__ = ["CLOCK_PORT", "Delays", "Pin", "Step", "Timing", "read_delays"]
