"""Ctrl-C and the end of the test kill children of tests, and a test that hangs fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import processes

WAIT = "import time; time.sleep(3600)"
LEAVE_A_CHILD = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WAIT!r}])
print(child.pid, flush=True)
"""
HANGING_TESTS = f"""
import subprocess, sys, threading
import pytest
def test_child():
    subprocess.run([sys.executable, "-c", {WAIT!r}], check=True)
def test_that_passes():
    pass
def test_thread():
    threading.Event().wait()
"""


@pytest.fixture
def _ignored_sigint() -> Iterator[None]:
    """Ignore SIGINT, as a shell without job control does in a background job."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def alive(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Wait up to a minute for the end of a killed process, and return whether it has ended."""
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


@pytest.mark.usefixtures("_ignored_sigint")
def test_child_receives_ctrl_c_that_its_parent_ignores() -> None:
    with processes.started([sys.executable, "-c", f"print('here', flush=True); {WAIT}"]) as child:
        assert child.stdout is not None and child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in processes.finish(child).stderr
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_child_without_ctrl_c() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    with processes.started([sys.executable, "-c", program], ignores_sigint=True) as child:
        assert processes.finish(child).stdout == "True\n"
    assert processes.run_python(program).stdout == "False\n"


def test_a_child_that_takes_too_long() -> None:
    """The child's own child, which keeps the pipes open, is killed too."""
    with processes.started([sys.executable, "-c", f"{LEAVE_A_CHILD}\n{WAIT}"]) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        with pytest.raises(subprocess.TimeoutExpired):
            processes.finish(child, 0.1)
    assert gone(grandchild)


def test_nothing_outlives_a_child() -> None:
    with processes.started([sys.executable, "-c", LEAVE_A_CHILD]) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        assert alive(grandchild)
    assert gone(grandchild)


@pytest.mark.parametrize("kind", ["child", "thread"])
def test_a_test_that_hangs(kind: str, tmp_path: Path) -> None:
    """If a test hangs because of a child, the test fails and the next test runs. If the test's own thread hangs, the
    whole run ends."""
    tests = Path(__file__).parent
    shutil.copy(tests / "processes.py", tmp_path)
    text = (tests / "conftest.py").read_text()
    short = text.replace("LIMIT_S = 1200.0", "LIMIT_S = 2.0").replace("GRACE_S = 30.0", "GRACE_S = 2.0")
    assert short.count("_S = 2.0") == 2
    (tmp_path / "conftest.py").write_text(short)
    (tmp_path / "slow_cases.txt").write_text("")
    (tmp_path / "test_hanging.py").write_text(HANGING_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", f"{kind} or passes", "-W", "ignore"]
    done = processes.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert f"test_hanging.py::test_{kind} hangs" in done.stderr
    if kind == "child":
        assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    else:
        assert done.returncode == 1 and "Timeout" in done.stderr and "passed" not in done.stdout
