"""The ternary unit against the golden model."""

from typing import Any, NamedTuple

import pytest

import lutern.hw.ternary as unit
from lutern.hw import lane
from lutern.hw.config import HwConfig
from lutern.hw.layouts import decode_byte
from lutern.measure.netlist import cell_models
from lutern.sim import runner
from lutern.sim.convert import convert_verilog
from lutern.sim.runner import run_bench

SEED = 7


class Shape(NamedTuple):
    """R, C, P and T of the machine, the number of streams of the run, and the latency."""

    rows: int
    columns: int
    results: int
    streams: int
    active: int
    latency: int


ONE = [
    Shape(4, 4, 1, 1, 1, 5),
    Shape(4, 16, 2, 1, 1, 6),
    Shape(6, 8, 2, 1, 1, 6),
    Shape(3, 2, 1, 1, 1, 4),
    Shape(2, 1, 1, 1, 1, 4),
]
"""Machines with powers of two, with the default's columns, with rows and bytes that leave a remainder, with two
columns, and with one column."""
MORE = [
    Shape(5, 4, 1, 4, 4, 5),
    Shape(5, 4, 1, 4, 3, 5),
    Shape(5, 4, 1, 4, 1, 5),
    Shape(4, 8, 2, 2, 2, 6),
    Shape(4, 8, 2, 2, 1, 6),
    Shape(2, 2, 2, 2, 2, 4),
]
"""Runs of all streams of the machine, runs of fewer streams, and a row group of one beat."""
WIDE = [Shape(10, 2, 2, 2, 2, 4), Shape(2, 32, 1, 1, 1, 7)]


def run(shape: Shape, pause: str = "none", testcase: str | None = None, cells: str = "generic") -> None:
    values: dict[str, Any] = {
        "rows": shape.rows,
        "columns": shape.columns,
        "results_per_cycle": shape.results,
        "codes_per_cycle": max(shape.results, shape.columns),
        "streams": shape.streams,
        "max_width": 8192 if shape.columns == 4 else 256,  # sums of 21 bits, or of fewer bits
        "cells": cells,
    }
    run_bench(
        unit.TernaryUnit(HwConfig("bench", **values)),
        "lutern.sim.benches.ternary",
        seed=SEED,
        testcase=testcase,
        parameters={"config": values, "pause": pause, "active": shape.active, "latency": shape.latency},
    )


@pytest.mark.parametrize("shape", [*ONE, *MORE])
def test_sums_latency_and_reset(shape: Shape) -> None:
    run(shape)


@pytest.mark.slow
@pytest.mark.parametrize("shape", WIDE)
def test_more_shapes(shape: Shape) -> None:
    run(shape)


@pytest.mark.parametrize("pause", ["random", "bursty", "alternating", "after_valid"])
@pytest.mark.parametrize(
    "shape", [ONE[1], MORE[0], *(pytest.param(shape, marks=pytest.mark.slow) for shape in (ONE[0], MORE[1]))]
)
def test_pauses(shape: Shape, pause: str) -> None:
    run(shape, pause, "edges_then_random")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [*ONE, MORE[1], *WIDE])
def test_cells(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit is built of CCU2C cells and simulated with Yosys' model of these cells."""
    monkeypatch.setattr(runner, "convert_verilog", lambda text: convert_verilog(text) + cell_models())
    run(shape, cells="ecp5")
    run(shape, "random", "edges_then_random", cells="ecp5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "bit"), [("LANE_TABLE", 3), ("ADDER_TABLE", 3), ("PASS_TABLE", 3), ("AND_TABLE", 3), ("CHOICE_TABLE", 9)]
)
def test_mutation_of_a_cell_is_found(wrong: str, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "convert_verilog", lambda text: convert_verilog(text) + cell_models())
    monkeypatch.setattr(lane, wrong, getattr(lane, wrong) ^ 1 << bit)
    with pytest.raises(AssertionError, match=r"got 0x.* expected 0x.* seed 7"):
        run(ONE[1], testcase="edges_then_random", cells="ecp5")


def test_pair_tables_name_all_pairs() -> None:
    names = {tuple(table >> index & 1 for table in unit.PAIR_TABLES) for index in range(8)}
    assert len(names) == 8 and (0, 0, 0, 0) not in names
    assert len({decode_byte(byte) for byte in range(256)} - {None}) == 243


@pytest.mark.parametrize("table", range(4))
def test_mutation_of_the_decoder_is_found(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = list(unit.PAIR_TABLES)
    tables[table] ^= 1 << (0, 0, 2, 2)[table]  # the 0 of the pairs (0, +1) and (+1, 0) becomes +1 or -1
    monkeypatch.setattr(unit, "PAIR_TABLES", tuple(tables))
    with pytest.raises(AssertionError, match=r"ternary\.sums, .*: token 0, layer \d+, index \d+, cycle \d+: got"):
        run(ONE[0], testcase="every_byte")


@pytest.mark.parametrize(("constant", "value"), [("OFFSET", 129), ("SUM_BITS", 20), ("LANES_PER_STAGE", 1)])
def test_mutation_of_a_constant_is_found(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, constant, value)
    with pytest.raises(AssertionError, match=r"got 0x.* expected 0x.* seed 7|row groups ended in cycles"):
        run(ONE[0])
