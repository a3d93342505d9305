"""A command ends with one sentence and status 1 after an error that a user can correct, without output and with status
130 after Ctrl-C, and with a traceback after a defect."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from lutern.cli import commands
from processes import Finished, finish, run, run_python, started

PROGRAM = """
import sys
from lutern.cli import commands, main
from lutern.cli.lazy import Entry
from lutern.model_ref.errors import LuternError

def fail() -> None:
    {}

commands.COMMANDS["fail"] = Entry("__main__", "fail", "Fail.")
sys.argv = ["lutern", "fail"]
main.main()
"""


def run_failing_command(statement: str, folder: Path) -> Finished:
    """Run `lutern fail`, a command whose body is `statement`."""
    return run_python(PROGRAM.format(statement), cwd=folder)


def test_error_that_a_user_can_correct(tmp_path: Path) -> None:
    done = run_failing_command("raise LuternError('d is 7; a multiple of 4 is wanted.')", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "lutern: d is 7; a multiple of 4 is wanted.\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """The command cleans up and ends without output. The exit status shows which signal ended the command."""
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


STARTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "{}":
            os.kill(os.getpid(), signal.{})

sys.meta_path.insert(0, Interrupt())
sys.argv = ["lutern", "estimate"]
from lutern.cli.main import main
main()
"""


@pytest.mark.parametrize("module", ["lutern.cli.commands", "typer"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_while_it_starts(module: str, name: str, tmp_path: Path) -> None:
    """Before the command is known, the signal ends the process without output and without delay, as without a
    handler."""
    done = run_python(STARTING.format(module, name), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-getattr(signal, name), "", "")


@pytest.mark.parametrize("module", ["lutern.cli.estimate", "numpy", "amaranth"])
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signal_while_a_command_is_imported(module: str, name: str, status: int, tmp_path: Path) -> None:
    """The signal ends the command without output, as it does after the import."""
    done = run_python(STARTING.format(module, name), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_ctrl_c_again_and_again(tmp_path: Path) -> None:
    """Further Ctrl-C arrive while the process removes files after the first Ctrl-C, and while the process ends. The
    process still ends."""
    statement = """
    import atexit, os, signal, time
    def again() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    atexit.register(again)
    try:
        again()
    finally:
        again()
"""
    done = run_failing_command(statement.strip(), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_that_is_ignored(tmp_path: Path) -> None:
    """A shell without job control starts background commands with Ctrl-C ignored. SIGTERM still ends such a command."""
    program = PROGRAM.format(
        """
    import os, signal
    os.kill(os.getpid(), signal.SIGINT)
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
""".strip()
    )
    with started([sys.executable, "-c", program], cwd=tmp_path, ignores_sigint=True) as child:
        done = finish(child)
    assert (done.returncode, done.stdout, done.stderr) == (143, "goes on\n", "")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("ENOSPC", "nothing more can be written (No space left on device); make room."),
        ("EFBIG", "nothing more can be written (File too large); make room."),
        ("EDQUOT", "nothing more can be written (Disk quota exceeded); make room."),
        ("EACCES", "a/b cannot be used (Permission denied); give another, or change its rights."),
        ("EROFS", "a/b cannot be used (Read-only file system); give another, or change its rights."),
    ],
)
def test_errors_of_the_system(
    number: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)), "a/b")

    monkeypatch.setattr(commands, "app", fail)
    monkeypatch.setattr(commands, "defaults", lambda arguments: {})
    monkeypatch.setattr(commands, "open_streams", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    assert commands.run() == 1
    assert capfd.readouterr() == ("", f"lutern: {sentence}\n")


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(commands, "app", fail)
    monkeypatch.setattr(commands, "defaults", lambda arguments: {})
    monkeypatch.setattr(commands, "open_streams", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    assert commands.run() == 1
    assert capfd.readouterr().err == (
        "lutern: the memory of this computer is not enough for this; choose a smaller model or text.\n"
    )


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
