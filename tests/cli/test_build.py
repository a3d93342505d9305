"""`lutern build` as a user runs it, before anything is built. tests/boards/test_build.py tests builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processes import Finished, lutern

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards.build import Build
from lutern.boards.catalog import BOARDS
from lutern.boards.report import Clock, Hop, Route
from lutern.cli.build import MARGIN, other_clock, print_build, slowest_path
from lutern.cli.table import printing
from lutern.measure.fits import check_model
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

SMALL = {"vocab_size": 40, "num_hidden_layers": 2}


def run(*arguments: str) -> Finished:
    return lutern("build", *arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--board", "ulx4s"), "there is no board ulx4s; choose one of ulx3s-12f, ulx3s-25f, "),
        (("--board", "ulx3s-25f", "--preset", "large"), "there is no preset large; choose one of tiny, "),
        (("--board", "ulx3s-25f", "--model", "demo"), "demo does not fit ulx3s-25f: the model needs 407,"),
        (
            ("--board", "ecp5-evn", "--preset", "sdram-x16"),
            "preset sdram-x16 reads words of 16 bits from SDR SDRAM, but ECP5-5G evaluation board has no memory; ",
        ),
        (
            ("--board", "ulx3s-25f", "--preset", "sdram-x32"),
            "preset sdram-x32 reads words of 32 bits, but the SDR SDRAM of ULX3S 25F has words of 16; choose sdram",
        ),
        (
            ("--board", "ecpix5-85f", "--preset", "ddr3-x16", "--memory-frequency", "40"),
            "a memory clock of 40 MHz is asked for, but the DDR3 interface of ECP5 takes 48 to 200 MHz",
        ),
        (
            ("--board", "ulx3s-25f", "--preset", "tiny", "--memory-frequency", "75"),
            "a memory clock of 75 MHz is given, but preset tiny has no DDR3; leave --memory-frequency out.",
        ),
        (
            ("--board", "ulx3s-25f", "--preset", "tiny", "--placement", "none.json"),
            "none.json cannot be read (No such file or directory); give a placement.json from the folder of a build.",
        ),
        (("--board", "ulx3s-25f", "--preset", "tiny", "--frequency", "500"), "PLL: no dividers make 500 MHz from "),
        (
            ("--board", "icesugar-pro", "--preset", "tiny", "--frequency", "6"),
            "no baud rate of this board's link can be made from a clock of 6 MHz ",
        ),
    ],
)
def test_refused(arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lutern: {text}") and done.stderr.count("\n") == 1


def test_model_that_fits_elsewhere() -> None:
    wide = ModelConfig(hidden_size=256, intermediate_size=256, **SMALL)
    with pytest.raises(LuternError) as error:
        check_model(wide, "it", BOARDS["ulx3s-25f"], "")
    text = str(error.value)
    assert "bytes of block RAM for trits and embeddings, resident-25f has 106,496" in text
    assert "other limits are also exceeded: hidden size, intermediate size, state" in text
    assert "it fits sdram-x16 on ulx3s-12f, ulx3s-25f, " in text and "resident-1024 on ulx3s-85f, " in text
    assert text.endswith(", ddr3-x16 on ecpix5-45f, logicbone-45f.") and "host on colorlight-i5, " in text
    check_model(wide, "it", BOARDS["ulx3s-85f"], "")
    check_model(wide, "it", BOARDS["ulx3s-25f"], "sdram-x16")


def test_model_that_fits_nowhere() -> None:
    huge = ModelConfig(vocab_size=40, hidden_size=16384, num_hidden_layers=4, intermediate_size=16384)
    with pytest.raises(LuternError, match=r"no board holds it; no memory of any board would hold its"):
        check_model(huge, "it", BOARDS["ulx3s-25f"], "")


def test_rows_of_one_line_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    path = (
        Hop("clk-to-q", 0.5, "a.x_TRELLIS_FF_Q_1", "hw/a.py:1"),
        Hop("routing", 1.0, "a.x[3]", "hw/a.py:1"),
        Hop("logic", 0.25, "b.y_LUT4_Z", "hw/b.py:9"),
    )
    route = Route(4, (Clock("sync", 75e6, 80e6),), {"LUT": (1000, 24288)}, path)
    assert slowest_path(route) == [("hw/a.py:1", "a.x", 1.5), ("hw/b.py:9", "b.y", 0.25)]
    built = Build(Path("/builds/x"), route, (route,), {"synthesis": 30.0, "seed 4": 90.0}, 3_000_000)
    with printing("md") as printer:
        print_build(printer, built)
    assert capsys.readouterr().out.replace("| --- ", "").replace("|\n|\n", "|\n") == (
        "| resource | used | of | % |\n| LUT | 1,000 | 24,288 | 4% |\n\n"
        "| clock | MHz | target | margin | seed 4 |\n| sync | 80.00 | 75.00 | +6.7% | 80.00 |\n\n"
        "| slowest path of sync | signal | ns |\n| hw/a.py:1 | a.x | 1.50 |\n| hw/b.py:9 | b.y | 0.25 |\n\n"
        "built in 2.0 minutes (synthesis 30 s, seed 4 90 s)\n"
        "/builds/x/top.bit\nkept in /builds/x: report.json, manifest.json, floorplan.svg, placement.json\n"
    )
    with printing("json") as printer:
        print_build(printer, built)
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"resources", "clocks", "path", "files"} and found["clocks"][0]["achieved_hz"] == 80e6
    assert found["files"] == [{"bitstream": "/builds/x/top.bit", "folder": "/builds/x", "baud": 3_000_000}]


@pytest.mark.parametrize(("reached_hz", "most"), [(64.83e6, "61.7"), (63e6, "60"), (62.99e6, "59.9")])
def test_the_largest_clock_with_a_margin(reached_hz: float, most: str) -> None:
    """The clock is rounded down, so a build with it has the margin."""
    said = other_clock(Clock("sync", 50e6, reached_hz))
    assert said == f"this route serves every clock: up to --frequency {most} the margin is 5% or more"
    assert Clock("sync", float(most) * 1e6, reached_hz).margin >= MARGIN


def test_a_clock_that_nothing_limits(capsys: pytest.CaptureFixture[str]) -> None:
    clocks = (Clock("memory", 100e6, 110e6), Clock("edge", 200e6, has_path=False))
    route = Route(1, clocks, {"LUT": (1, 2)}, ())
    with printing("md") as printer:
        print_build(printer, Build(Path("/builds/x"), route, (route,), {"synthesis": 30.0}, 3_000_000))
    shown = capsys.readouterr().out
    assert "| memory | 110.00 | 100.00 | +10.0% | 110.00 |\n| edge | no path | 200.00 |  | no path |\n" in shown
