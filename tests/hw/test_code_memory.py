"""The code memory between quantiser and ternary unit."""

from typing import Any, NamedTuple

import pytest

from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.sim.benches.with_passes import WithPasses
from lutern.sim.convert import convert_rtlil
from lutern.sim.runner import run_bench


class Shape(NamedTuple):
    """R, C, P, Q and T of the machine, the number of streams of the run, the width of a vector, and the latency."""

    rows: int
    columns: int
    results: int
    codes: int
    streams: int = 1
    active: int = 1
    width: int = 32
    latency: int = 1


SHAPES = [Shape(4, 4, 1, 2), Shape(4, 8, 2, 2), Shape(2, 4, 1, 4)]
"""Machines whose beats have two, four and one parts of Q codes."""
MORE = [
    Shape(5, 4, 1, 2, 4, 4),
    Shape(5, 4, 1, 2, 4, 3),
    Shape(5, 4, 1, 2, 4, 1),
    Shape(4, 8, 2, 8, 2, 2),
    Shape(4, 4, 1, 2, width=96, latency=3),
]
"""Runs of all streams of the machine, runs of fewer streams, and memories in block RAM."""


def run(shape: Shape, pause: str, testcase: str | None = None) -> None:
    values: dict[str, Any] = {
        "rows": shape.rows,
        "columns": shape.columns,
        "results_per_cycle": shape.results,
        "codes_per_cycle": shape.codes,
        "streams": shape.streams,
        "max_width": shape.width,
    }
    block = CodeMemory(HwConfig("bench", **values))
    assert block.latency == shape.latency
    run_bench(
        WithPasses(block),
        "lutern.sim.benches.code_memory",
        seed=61,
        testcase=testcase,
        parameters={"config": values, "pause": pause, "active": shape.active, "latency": shape.latency},
    )


@pytest.mark.parametrize("shape", [*SHAPES, *MORE])
def test_codes_latency_and_reset(shape: Shape) -> None:
    run(shape, "none")


@pytest.mark.parametrize("pause", ["random", "bursty", "alternating"])
@pytest.mark.parametrize("shape", [SHAPES[0], MORE[1], MORE[-1]])
def test_pauses(shape: Shape, pause: str) -> None:
    run(shape, pause)


def test_small_memories_are_luts() -> None:
    """Banks of 8 beats are stored in LUTs, and banks of 32 beats in block RAM."""
    for width, style in ((8 * 16, "distributed"), (32 * 16, "block")):
        text = convert_rtlil(CodeMemory(HwConfig("bench", max_width=width)))
        assert text.count(f'attribute \\ram_style "{style}"') == 4
