"""docs/numerics.md gives the figures that `lutern compare` prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).parents[2] / "docs" / "numerics.md"
TOLERANCE = 0.01
"""Of a figure: another order of additions in float32 moves codes that lie between two integers."""


def printed(*arguments: str) -> dict[str, list[str]]:
    """Rows of the table that the command prints, by the name of the checkpoint."""
    done = subprocess.run(
        [sys.executable, "-m", "lutern.cli.main", "compare", *arguments], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def documented() -> dict[str, list[str]]:
    """Rows of the page's table, by the name of the checkpoint."""
    text = DOC.read_text().split("## Against float32")[1].split("## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def same(got: str, wanted: str) -> bool:
    """Whether a printed figure rounds to a documented one, or nearly."""
    place = 10.0 ** -len(wanted.partition(".")[2])
    return float(got) == pytest.approx(float(wanted), rel=TOLERANCE, abs=0.51 * place)


def check_rows(rows: dict[str, list[str]], names: list[str]) -> None:
    for name in names:
        wanted, got = documented()[name], rows[name]
        assert got[:4] == wanted[:4], name
        assert all(map(same, got[4:7], wanted[4:7])), f"{name}: docs/numerics.md {wanted[4:]}, printed {got[4:]}"


def check_sentence(pattern: str, *wanted: str) -> None:
    found = re.search(pattern, " ".join(DOC.read_text().split()))
    assert found, pattern
    for got, value in zip(found.groups(), wanted, strict=True):
        assert same(value, got), f"docs/numerics.md {found.groups()}, printed {wanted}"


def test_the_table() -> None:
    rows = printed("demo")
    assert set(rows) - {"demo"} == set(documented()) - {"random, V 32000"}
    check_rows(rows, [name for name in rows if name != "demo"])
    check_sentence(r"`lutern compare demo`: ([\d.]+), where the float16 run has ([\d.]+)\.", *rows["demo"][4:6])


def test_the_word_lengths() -> None:
    """Each figure of the page, rounded as it is there, is the command's."""
    rows = printed("--word-lengths")
    text = DOC.read_text().split("## Word lengths")[1].split("## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(lines) >= 14
    for line in lines:
        name, built, codes_of, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert rows[name][:2] == [built, codes_of], name
        at = {cell.split()[0]: cell.split()[1:] for cell in rows[name][2:]}
        for cell in cells:
            found = re.fullmatch(r"(\d+): ([\d.]+), ([\d.]+) %", cell)
            assert found, cell
            steps, differ = at[found[1]]
            assert same(steps, found[2]) and same(differ.rstrip("%"), found[3]), f"{name}: {cell}, printed {at}"


@pytest.mark.slow
def test_the_large_model_and_bfloat16() -> None:
    check_rows(printed("--large"), ["random, V 32000"])
    rows = [row for name, row in printed("--large", "--bfloat16").items() if name.startswith("random")]
    numbers = r"([\d.]+), ([\d.]+), ([\d.]+) and ([\d.]+)"
    check_sentence(
        rf"has {numbers} on the four random checkpoints, {numbers} of the float16 run\.",
        *(row[4] for row in rows),
        *(row[6] for row in rows),
    )
