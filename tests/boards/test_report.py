"""The contents of nextpnr's report: clocks, used resources, and the slowest path by lines of our sources."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lutern.boards.board import FPGAS
from lutern.boards.floorplan import draw_floorplan, part_of
from lutern.boards.report import Clock, Route, parse_route, signal_of, source_lines, source_of
from lutern.model_ref.errors import LuternError

PART = FPGAS["LFE5U-25F"]
RTLIL = r"""
attribute \src "hw/top.py:40"
module \top
  attribute \src "site/amaranth/x.py:1"
  wire width 1 \clk
end
attribute \src "hw/link/slip.py:44"
module \top.top.host.deframer
  attribute \src "hw/link/slip.py:49"
  attribute \init 10'0000000000
  wire width 10 \count
  attribute \src "amaranth/lib/fifo.py:9"
  wire width 1 \level
  cell $add $1
  end
end
"""


def hop(kind: str, cell: str, net: str = "") -> dict[str, Any]:
    place = {"cell": cell, "loc": [1, 2], "port": "Q"}
    return {"type": kind, "delay": 0.5, "from": place, "to": place, **({"net": net} if net else {})}


REPORT = {
    "fmax": {"$glbnet$clk": {"achieved": 80.0, "constraint": 82.5}, "$glbnet$memory_clk": {"achieved": 99.0}},
    "utilization": {
        name: {"used": 7, "available": 24288} for name in ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D")
    },
    "critical_paths": [
        {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$clk", "path": [hop("clk-to-q", "other")]},
        {"from": "posedge $glbnet$clk", "to": "posedge $glbnet$memory_clk", "path": [hop("clk-to-q", "crossing")]},
        {
            "from": "posedge $glbnet$memory_clk",
            "to": "posedge $glbnet$memory_clk",
            "path": [
                hop("clk-to-q", "top.host.deframer.count_TRELLIS_FF_Q_3"),
                hop("routing", "x", "top.host.deframer.level_LUT4_C_Z[2]"),
            ],
        },
    ],
}
SYNC, MEMORY = Clock("sync", 75e6), Clock("memory", 100e6)
CLOCKS = {"clk": SYNC, "top.norm.clk": SYNC, "top.memory_clk": MEMORY, "memory_clk": MEMORY}


def test_clocks_and_use() -> None:
    route = parse_route(json.dumps(REPORT), 3, CLOCKS, PART)
    assert route.clocks == (Clock("sync", 75e6, 80e6), Clock("memory", 100e6, 99e6))
    assert (route.worst.domain, route.met, round(route.margin, 3), route.seed) == ("memory", False, -0.01, 3)
    assert route.used == dict.fromkeys(("LUT", "FF", "block RAM", "DSP"), (7, 24288))
    assert route.clock("sync").margin == pytest.approx(1 / 15)
    assert json.loads(json.dumps(route.as_json()))["worst"] == "memory"
    assert parse_route(json.dumps(REPORT), 3, {"clk": Clock("sync", 80e6)}, PART).met


def test_path_in_our_lines() -> None:
    """The report has the path of the worst clock. If a signal is declared in a library, its source is the line that
    creates the module of the signal."""
    path = parse_route(json.dumps(REPORT), 1, CLOCKS, PART, source_lines(RTLIL)).path
    found = [(step.kind, step.source) for step in path]
    assert found == [("clk-to-q", "hw/link/slip.py:49"), ("routing", "hw/link/slip.py:44")]


@pytest.mark.parametrize(
    ("name", "signal", "source"),
    [
        ("top.host.deframer.count[3]", "top.host.deframer.count", "hw/link/slip.py:49"),
        ("top.host.deframer.count_LUT4_Z_C[2]", "top.host.deframer.count", "hw/link/slip.py:49"),
        ("top.host.deframer.store.0.0$DPRAM_COMB1", "top.host.deframer.store.0.0", "hw/link/slip.py:44"),
        ("clk", "clk", ""),
        ("$nothing$", "$nothing$", ""),
    ],
)
def test_source(name: str, signal: str, source: str) -> None:
    assert signal_of(name) == signal
    assert source_of(name, source_lines(RTLIL)) == source


def test_clock_that_is_not_reported() -> None:
    """A clock that is missing in the report causes an error."""
    with pytest.raises(LuternError, match="clocks of LFE5U-25F are not in the report"):
        parse_route(json.dumps(REPORT), 1, {"clk": SYNC, "other_clk": MEMORY}, PART)


def test_clock_without_path() -> None:
    """A clock that drives only cells of pins may be missing, and then limits nothing. If the report has it, it
    counts."""
    clocks = {**CLOCKS, "edge_clk": Clock("edge", 200e6)}
    route = parse_route(json.dumps(REPORT), 1, clocks, PART)
    assert route.clock("edge") == Clock("edge", 200e6, has_path=False) and route.worst.domain == "memory"
    fmax = {**REPORT["fmax"], "edge_clk": {"achieved": 190.0}}
    assert parse_route(json.dumps({**REPORT, "fmax": fmax}), 1, clocks, PART).worst == Clock("edge", 200e6, 190e6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"fmax": {}, "utilization": {}, "critical_paths": []}',
        json.dumps({**REPORT, "fmax": {}}),
        json.dumps({**REPORT, "utilization": {}}),
    ],
)
def test_invalid_reports(text: str) -> None:
    with pytest.raises(LuternError, match=r"^Utilisation or clocks of LFE5U-25F are not in the report"):
        parse_route(text, 1, CLOCKS, PART)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("top.decoder.norm.scalar.x_LUT4_Z", "norm"),
        ("top.decoder.scale$243.x", "scale"),
        ("top.host.a", "host"),
        ("top.memory.part_0.x", "memory"),
        ("uart.fifo.x", "board"),
        ("$nextpnr_CCU2C$1", "other"),
        ("ticks", "board"),
    ],
)
def test_part_of_a_cell(name: str, part: str) -> None:
    assert part_of(name) == part


def test_floorplan() -> None:
    cells = {
        "top.decoder.norm.a": ("TRELLIS_COMB", "X3/Y4/SLICEA.K0"),
        "top.decoder.norm.b": ("TRELLIS_FF", "X3/Y4/SLICEA.FF0"),
        "top.host.c": ("TRELLIS_COMB", "X3/Y4/SLICEB.K0"),
        "top.memory.d.e": ("DP16KD", "X9/Y1/EBR0"),
        "$nextpnr_CCU2C$1": ("TRELLIS_COMB", "X5/Y5/SLICEA.K0"),
        "pin": ("TRELLIS_IO", "X0/Y1/PIOA"),
        "nowhere": ("TRELLIS_COMB", ""),
    }
    design = {
        "modules": {
            "top": {
                "cells": {
                    name: {"type": kind, "attributes": {"NEXTPNR_BEL": bel}} for name, (kind, bel) in cells.items()
                }
            }
        }
    }
    picture = draw_floorplan(design, "A < B")
    assert "A &lt; B" in picture and "norm: 1 LUT" in picture and "host: 1 LUT" in picture
    assert picture.count('stroke="black"') == 1  # the block RAM
    assert 'x="24" y="62"' in picture  # tile (3, 4)
    assert picture.count("fill-opacity") == 2


def test_route_without_path() -> None:
    assert Route(1, (Clock("sync", 1.0, 2.0),), {}, ()).met
