"""docs/first-ten-minutes.md: the commands that take only seconds print what the page shows."""

from __future__ import annotations

import re
import shlex

import pytest

from documents import ROOT
from processes import lutern

PAGE = (ROOT / "docs" / "first-ten-minutes.md").read_text()
QUICK = (
    "lutern estimate --preset sim-64",
    "lutern estimate --preset sim-64 --format csv",
    "lutern estimate --size 1.3b --preset ddr3-x16",
    "lutern build --board ulx3s-25f --preset resident-85f",
)


def shown(command: str) -> list[str]:
    """Return the lines that the page shows below a command."""
    (below,) = re.findall(rf"^\$ {re.escape(command)}\n(.*?)^(?:```|\$ )", PAGE, re.DOTALL | re.MULTILINE)
    return str(below).splitlines()


@pytest.mark.parametrize("command", QUICK)
def test_quick_commands(command: str) -> None:
    """Spaces may differ, because the page is wider than a terminal. The page's table contains rounded numbers, which
    are compared with the exact numbers that the command prints into a pipe."""
    done = lutern(*shlex.split(command)[1:])
    printed = " ".join((done.stdout + done.stderr).split())
    raw = {row[0]: row for row in (line.split("\t") for line in done.stdout.splitlines()) if len(row) > 1}
    lines = shown(command)
    assert lines
    for line in lines:
        if line.startswith("resource "):
            continue
        if row := re.fullmatch(r"(LUT, placed|block RAM) +([\d,]+) +(\d+%|exact)", line):
            name, count, error = row.groups()
            assert (count, error) == (f"{int(raw[name][1]):,}", f"{float(raw[name][4]):.0%}".replace("0%", "exact"))
            continue
        assert " ".join(line.split()) in printed, printed


def test_ten_lines_of_python() -> None:
    """The page's Python program has at most ten lines, is valid Python, and its lines with the integer model and the
    estimate run."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 10
    compile(code, "docs/first-ten-minutes.md", "exec")
    names: dict[str, object] = {}
    exec("\n".join(line for line in code.splitlines() if line.startswith(("import", "model", "print(lutern"))), names)
    assert repr(names["model"]).startswith("<Model demo: 4 layers")
