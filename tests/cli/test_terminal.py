"""Commands at a terminal of 80 columns and in a pipe: the fit of lines, boxes, raw numbers, figures and waves."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from letters import save_letters
from processes import lutern, on_terminal

WIDTH = 80
STYLES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BOXES = re.compile("[\u2500-\u257f]")
TABLES = (
    ("estimate", "--preset", "sim-64"),
    ("estimate", "--size", "370m", "--preset", "hbm-x4096"),
    ("estimate", "--memories"),
    ("estimate", "--axi"),
    ("inspect", "demo-small"),
    ("cache",),
)
"""Commands that print tables and take only seconds."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_letters(tmp_path / "model")


def screen(drawn: str) -> list[str]:
    """Return the lines that a terminal shows, without colors. Of a line that was drawn again, only the last state
    stays."""
    lines = STYLES.sub("", drawn.replace("\r\n", "\n")).split("\n")
    return [line.rpartition("\r")[2] for line in lines]


def check_screen(drawn: str, folder: Path | None = None) -> None:
    """Check that each line fits, and that no table is cut. Only a line that names a file in ``folder`` may be
    longer."""
    for line in screen(drawn):
        assert len(line) <= WIDTH or (folder is not None and str(folder) in line), line
        assert "\u2026" not in line, line


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_tables(command: tuple[str, ...], tmp_path: Path) -> None:
    """At a terminal each line fits and nothing is cut. A pipe receives no box characters, and JSON contains the raw
    numbers."""
    cache = {"LUTERN_CACHE": str(tmp_path / "cache")}
    code, drawn = on_terminal(*command, **cache)
    assert code == 0, drawn
    check_screen(drawn)
    piped = lutern(*command, **cache)
    assert piped.returncode == 0 and not BOXES.search(piped.stdout) and not STYLES.search(piped.stdout), piped.stdout
    raw = lutern(*command, "--format", "json", **cache)
    assert raw.returncode == 0 and json.loads(raw.stdout), raw.stderr


@pytest.mark.slow
def test_figures(folder: Path, tmp_path: Path) -> None:
    """`lutern cycles -o` writes a figure in the format of the file name, and also its numbers and its provenance."""
    command = ("cycles", "--model", folder, "--preset", "tiny", "-o")
    code, drawn = on_terminal(*command, tmp_path / "token.pdf")
    assert code == 0 and (tmp_path / "token.pdf").read_bytes().startswith(b"%PDF"), drawn
    check_screen(drawn, tmp_path)
    piped = lutern(*command, tmp_path / "token.svg")
    assert piped.returncode == 0 and not BOXES.search(piped.stdout), piped.stderr
    text = (tmp_path / "token.svg").read_text()
    assert "command: lutern cycles --model " in text and "version: " in text
    rows = list(csv.DictReader((tmp_path / "token.csv").open()))
    total = [line.split("\t") for line in piped.stdout.splitlines()][-1]
    assert sum(int(row["cycles"]) for row in rows) == int(total[2])


@pytest.mark.slow
def test_waves(folder: Path, tmp_path: Path) -> None:
    """`lutern generate --trace` writes the waves of a range of cycles, and prints the names of the files."""
    command = ("generate", "ab", "--model", folder, "--preset", "tiny", "-n", "2", "--cycles", "100:300", "--trace")
    code, drawn = on_terminal(*command, tmp_path / "seen.vcd")
    assert code == 0 and f"waves: {tmp_path / 'seen.vcd'}; gtkwave {tmp_path / 'seen.gtkw'} shows them" in drawn, drawn
    assert any(re.fullmatch("ab[ a-z]{2}", line) for line in screen(drawn)), drawn
    piped = lutern(*command, tmp_path / "out.vcd")
    assert piped.returncode == 0 and re.fullmatch(r"ab[ a-z]{2}\n", piped.stdout), piped.stderr
    waves = (tmp_path / "out.vcd").read_text()
    assert waves.startswith("$") and "$enddefinitions" in waves and waves == (tmp_path / "seen.vcd").read_text()
