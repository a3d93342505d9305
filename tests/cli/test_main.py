"""What a user can mend ends with one sentence and status 1, Ctrl-C with 130 and silence, a defect with a traceback."""

import signal
import sys
from pathlib import Path

import pytest

from processes import Finished, run, run_python

PROGRAM = """
import sys
from lutern.cli import main
from lutern.model_ref.errors import LuternError

@main.app.command("fail")
def fail() -> None:
    {}

sys.argv = ["lutern", "fail"]
main.main()
"""


def run_failing_command(statement: str, folder: Path) -> Finished:
    """Run `lutern fail`, a command whose body is `statement`."""
    return run_python(PROGRAM.format(statement), cwd=folder)


def test_error_that_a_user_can_mend(tmp_path: Path) -> None:
    done = run_failing_command("raise LuternError('d is 7; a multiple of 4 is wanted.')", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "lutern: d is 7; a multiple of 4 is wanted.\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """The command cleans up, ends in silence, and says by its status which signal it was."""
    statement = f"""
    import os, time
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(60)
    finally:
        print("cleaned up")
"""
    done = run_failing_command(statement.strip(), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "cleaned up\n", "")


def test_defect(tmp_path: Path) -> None:
    done = run_failing_command("raise KeyError('d')", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")


def test_missing_package(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['numpy'] = None; sys.argv = ['lutern', 'generate']\n"
        "from lutern.cli.main import main; main()"
    )
    done = run_python(program, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lutern: the package numpy is not installed; run `lutern doctor`, which says how to get it.\n"


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--help"]], ids=["all", "doctor"])
def test_help(tmp_path: Path, arguments: list[str]) -> None:
    lutern = Path(sys.executable).parent / "lutern"
    done = run([lutern, *arguments], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "doctor" in done.stdout


def test_unknown_command(tmp_path: Path) -> None:
    lutern = Path(sys.executable).parent / "lutern"
    done = run([lutern, "dcotor"], cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'dcotor'" in done.stderr


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    for arguments in (["inspect", "x" * 5000], ["convert", "demo-small", "-o", str(tmp_path / ("x" * 300))]):
        done = run([Path(sys.executable).parent / "lutern", *arguments], cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "too long for a file" in done.stderr
