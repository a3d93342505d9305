"""docs/numerics.md gives the figures that `lutern compare` prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lutern.api.models import open_checkpoint
from lutern.measure.embeddings import cost, synthetic_cost

DOC = Path(__file__).parents[2] / "docs" / "numerics.md"
TOLERANCE = 0.01
"""The relative tolerance of a figure. Another order of additions in float32 changes codes that are close to halves."""


def printed(*arguments: str) -> dict[str, list[str]]:
    """Return the rows of the table that the command prints, by the name of the checkpoint."""
    lines = [line for line in text_of(*arguments, "--format", "md").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in rows[2:]}


def text_of(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lutern.cli.main", "compare", *arguments], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_page(section: str) -> dict[str, list[str]]:
    """Return the rows of the table in a section of the page, by their first cell."""
    text = DOC.read_text().split(f"## {section}")[1].split("## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def documented() -> dict[str, list[str]]:
    """Return the rows of the page's first table of errors, by the name of the checkpoint."""
    return of_page("Against float32")


def same(got: str, wanted: str) -> bool:
    """Whether a printed figure, after rounding, equals the documented figure within the tolerance."""
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
    check_sentence(r"`lutern compare demo` gives ([\d.]+), and ([\d.]+) for the float16 run\.", *rows["demo"][4:6])


def test_the_word_lengths() -> None:
    """Each figure of the page is the command's figure, rounded in the same way."""
    rows = json.loads(text_of("--word-lengths", "--format", "json"))
    text = DOC.read_text().split("## Word lengths")[1].split("## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(lines) >= 14
    for line in lines:
        name, built, codes_of, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        of_word = [row for row in rows if row["word"] == name]
        assert {(str(row["built"]), row["codes_of"]) for row in of_word} == {(built, codes_of)}, name
        at = {str(row["bits"]): (str(row["steps"]), str(100 * row["differ"])) for row in of_word}
        for cell in cells:
            found = re.fullmatch(r"(\d+): ([\d.]+), ([\d.]+) %", cell)
            assert found, cell
            steps, differ = at[found[1]]
            assert same(steps, found[2]) and same(differ, found[3]), f"{name}: {cell}, printed {at}"


def check_embeddings(name: str, got: list[str]) -> None:
    """Check that sizes equal those of the page, and errors are within the tolerance. A few of 256 tokens may differ."""
    wanted = of_page("Embeddings of 12 bits")[name]
    assert got[:6] == wanted[:6], name
    numbers, figures = ([float(cell.rstrip("%")) for cell in row[6:]] for row in (got, wanted))
    assert numbers[:4] == pytest.approx(figures[:4], rel=0.02) and abs(numbers[4] - figures[4]) < 2, f"{name}: {got}"


def test_embeddings_of_12_bits() -> None:
    for one in (synthetic_cost(128), cost("demo-small", open_checkpoint("demo-small"))):
        config, sizes = one.config, one.image_bytes
        shape = (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size)
        figures = (sizes[12] / sizes[16], one.errors[16], one.errors[12], one.between, 100 * one.same)
        check_embeddings(one.name, [*map(str, shape), f"{sizes[16]:,}", f"{sizes[12]:,}", *map(str, figures)])
        assert one.errors[16] < one.errors[12] < 1.3 * one.errors[16], f"{one.name}: {one.errors}"


@pytest.mark.slow
def test_the_table_of_embeddings() -> None:
    rows = printed("--embeddings", "demo", "demo-small")
    assert set(rows) == set(of_page("Embeddings of 12 bits"))
    for name, row in rows.items():
        check_embeddings(name, row)


@pytest.mark.slow
def test_the_large_model_and_bfloat16() -> None:
    check_rows(printed("--large"), ["random, V 32000"])
    rows = [row for name, row in printed("--large", "--bfloat16").items() if name.startswith("random")]
    numbers = r"([\d.]+), ([\d.]+), ([\d.]+) and ([\d.]+)"
    check_sentence(
        rf"has errors of {numbers} on the four random checkpoints, which are {numbers} of those of the float16 run\.",
        *(row[4] for row in rows),
        *(row[6] for row in rows),
    )
