"""The Makefile's help names every target. Targets that cannot work in a path with a space print a sentence and end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from processes import run

MAKEFILE = Path(__file__).parents[1] / "Makefile"
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), re.MULTILINE)[1].split())  # type: ignore[index]


@pytest.mark.parametrize("arguments", [(), ("help",)], ids=["default", "help"])
def test_help(arguments: tuple[str, ...]) -> None:
    done = run(["make", "--no-print-directory", *arguments], cwd=MAKEFILE.parent)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.fullmatch(r"make (\S+) +(\S.*)", line) for line in done.stdout.splitlines()]
    assert all(rows) and {row[1] for row in rows if row} == TARGETS
    assert {"demo", "test", "format", "clean", "coverage"} <= TARGETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that contains the Makefile, and whose name contains a space."""
    folder = tmp_path / "my lutern"
    folder.mkdir()
    shutil.copy(MAKEFILE, folder)
    return folder


@pytest.mark.parametrize("target", ["test", "test-all", "coverage"])
def test_tests_refuse_a_space_in_the_path(target: str, folder: Path) -> None:
    done = run(["make", target], cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    sentence = f"the tests cannot run in '{folder}' because the path has a space: move the checkout to one without"
    assert re.sub(r"^Makefile:\d+: \*\*\* ", "", done.stderr) == f"{sentence}.  Stop.\n"
    assert list(folder.iterdir()) == [folder / "Makefile"]


@pytest.mark.parametrize("target", ["help", "demo", "bench", "docs", "lint", "format", "types", "clean"])
def test_other_targets_accept_a_space_in_the_path(target: str, folder: Path) -> None:
    """No command contains the path of the folder, and the relative paths contain no space."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(MAKEFILE.with_name(name), folder)
    done = run(["make", "--no-print-directory", "-n", target], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "") and str(folder) not in done.stdout
    assert "my lutern" not in done.stdout and done.stdout


def test_clean_removes_what_was_built(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    kept = [".venv/lib/__pycache__/x", "hw/top.py", "tests/build.py"]
    gone = ["build/benches/x", "hw/__pycache__/x", ".mypy_cache/x", "hw/link/__pycache__/x"]
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert run(["make", "clean"], cwd=tmp_path).returncode == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"Makefile", *kept}
