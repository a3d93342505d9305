"""The tables of all commands: no number is cut at any width, and programs receive raw numbers."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest
from typer.testing import CliRunner

from command_tree import COMMANDS, options_of
from lutern.cli import compare, cost, cycles, drawing, estimate, inspect
from lutern.cli.bench import columns, row_cells
from lutern.cli.commands import app
from lutern.cli.drawing import draw_table
from lutern.cli.output import plain_console
from lutern.cli.table import Cell, Column, fixed, percent, printing
from lutern.measure.bench import Row
from lutern.model_ref.errors import LuternError

BOXES = "│┃─━┏┓└┘┡┩├┤╇"
COLUMNS = (
    Column("name", left=True),
    Column("cycles"),
    Column("share", show=percent(1)),
    Column("clock_hz", "MHz", fixed(1, 1e6)),
    Column("none"),
    Column("why", folds=True),
)
ROWS = [["a", 1_844_736, 0.346, 65e6, None, "fits"], ["b", 12, 1.0, 75e6, None, "a word, and a second one, \tx"]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    """Set the width of the terminal to 80 columns."""
    monkeypatch.setattr(drawing, "plain_console", lambda: plain_console(width=80))
    return capsys


def printed(form: str, capsys: pytest.CaptureFixture[str], count: int = 1) -> str:
    with printing(form) as printer:
        for index in range(count):
            printer.table(f"t{index}", COLUMNS, ROWS)
            printer.say("a sentence")
    return capsys.readouterr().out


def test_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe receives keys, raw numbers and tabs, but no boxes. A tab within a text does not end its cell."""
    lines = [line.split("\t") for line in printed("text", capsys).splitlines()]
    assert lines[0] == ["name", "cycles", "share", "clock_hz", "none", "why"]
    assert lines[1] == ["a", "1844736", "0.346", "65000000.0", "", "fits"]
    assert lines[2][-1] == "a word, and a second one, x" and lines[3:] == [["a sentence"]]


def test_csv_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    (first, second) = csv.DictReader(io.StringIO(printed("csv", capsys)))
    assert first["cycles"] == "1844736" and first["none"] == "" and second["why"] == ROWS[1][-1]
    assert json.loads(printed("json", capsys))[0] == dict(zip([c.key for c in COLUMNS], ROWS[0], strict=True))
    several = json.loads(printed("json", capsys, 2))
    assert list(several) == ["t0", "t1"] and several["t0"] == several["t1"]
    assert len(printed("csv", capsys, 2).split("\n\n")) == 2


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed("md", capsys).splitlines()
    assert lines[0] == "| name | cycles | share | MHz | why |" and lines[2] == "| a | 1,844,736 | 34.6% | 65.0 | fits |"


def test_a_failed_command_prints_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with printing("json") as printer:
            printer.table("t", COLUMNS, ROWS)
            raise LuternError("no.")

    with pytest.raises(LuternError):
        fail()
    assert capsys.readouterr().out == ""


def test_cells_with_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    for form, shown in (("md", "| x |\n| --- |\n| exact |\n"), ("csv", "x\n0\n")):
        with printing(form) as printer:
            printer.table("t", [Column("x")], [[Cell(0, "exact")]])
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("seed", range(30))
def test_no_number_is_cut(terminal: pytest.CaptureFixture[str], seed: int) -> None:
    """At 80 columns no number of any table is cut, no line is longer, and each number has the name of its row beside
    it."""
    draw = random.Random(seed)
    names = [Column(f"name{index}", left=True) for index in range(draw.randint(1, 3))]
    numbers = [Column(f"number_{index}") for index in range(draw.randint(1, 16))]
    texts = [Column(f"text{index}", folds=True) for index in range(draw.randint(0, 2))]
    rows = [
        [
            *("n" * draw.randint(1, 30) for _ in names),
            *(draw.choice([10**9, 1, 123_456]) + index for index, _ in enumerate(numbers)),
            *("word " * draw.randint(1, 20) for _ in texts),
        ]
        for _ in range(3)
    ]
    draw_table([*names, *numbers, *texts], rows)
    shown = terminal.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80, f"seed {seed}\n{shown}"
    assert "…" not in shown, f"seed {seed}"
    fields = shown.split()
    for row in rows:
        for value in row[len(names) : len(names) + len(numbers)]:
            assert f"{value:,}" in fields, f"seed {seed}: {value}\n{shown}"


def test_bench_at_80_columns(terminal: pytest.CaptureFixture[str]) -> None:
    """The widest table is drawn in blocks that each begin with the columns preset, model and what."""
    row = Row("resident-1024, Q 32", "prefill", 8, 64, 1_844_736, 1_844_735, 1024, 1_844_736, 0, True, 30_000_000, 45e6)
    draw_table(columns(False), [row_cells("random", row, row, False)] * 2)
    shown = terminal.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "1,844,735" in shown.split() and "30,000,000" in shown.split()
    blocks = [block for block in shown.split("\n\n") if block.strip()]
    assert len(blocks) >= 2 and all(block.count("prefill") == 2 for block in blocks)


@pytest.mark.parametrize(
    "columns",
    [
        cycles.COLUMNS,
        inspect.TENSORS,
        inspect.MACHINES,
        inspect.ACTIVATIONS,
        cost.LANE_COLUMNS,
        (*cost.COLUMNS, *cost.ROUTED_COLUMNS),
        compare.ERROR_COLUMNS,
        estimate.RESOURCE_COLUMNS,
    ],
)
def test_commands_at_80_columns(columns: tuple[Column, ...], terminal: pytest.CaptureFixture[str]) -> None:
    """In each table with large numbers and long names, no number is cut, and each number is beside the name of its
    row."""
    row = [
        "model.layers.*.mlp.gate_proj.norm.weight" if column.left or column.folds else 98_765_432 for column in columns
    ]
    draw_table(columns, [row, row])
    shown = terminal.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80, shown
    for column, value in zip(columns, row, strict=True):
        if isinstance(value, int):
            assert shown.split().count(column.text(value)) >= 2, f"{column.key}\n{shown}"


def test_empty_columns_are_not_drawn(terminal: pytest.CaptureFixture[str]) -> None:
    draw_table(COLUMNS, ROWS)
    assert "none" not in terminal.readouterr().out
    draw_table(COLUMNS, [])
    assert terminal.readouterr().out == ""


WITH_TABLE = [path for path in COMMANDS if "--format" in options_of(path)]


def test_commands_that_print_tables() -> None:
    """All commands have the option --format, except those that print no table but write files or texts."""
    without = set("generate board program selftest tokenize logits convert new train verilog report".split())
    names = {path[0] for path in COMMANDS}
    assert {path[0] for path in WITH_TABLE} >= names - without - {"link", "serve", "explore", "go", "cache"}
    assert not {path[0] for path in WITH_TABLE} & without


@pytest.mark.parametrize("path", WITH_TABLE, ids=" ".join)
def test_an_unknown_format_is_refused(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--format", "xml"])
    assert isinstance(done.exception, LuternError)
    assert str(done.exception) == "there is no format xml; choose one of text, md, csv, json."


@pytest.mark.parametrize(
    "arguments",
    [
        "estimate",
        "estimate --board ulx3s-25f --preset sdram-x16",
        "estimate --memories",
        "inspect demo-small",
        "power table",
        "power estimate --size 370m --preset ddr3-x16",
    ],
)
def test_commands_for_programs(arguments: str) -> None:
    """Numbers in JSON are numbers, numbers in CSV have no separators, and a pipe receives no boxes."""

    def run(form: str) -> str:
        done = CliRunner().invoke(app, [*arguments.split(), "--format", form], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    found = json.loads(run("json"))
    tables = found.values() if isinstance(found, dict) else [found]
    assert any(isinstance(value, int | float) for rows in tables for row in rows for value in row.values())
    for row in csv.reader(io.StringIO(run("csv"))):
        assert not any(field[:1].isdigit() and field.replace(",", "").isdigit() and "," in field for field in row), row
    assert not set(run("text")) & set(BOXES)
