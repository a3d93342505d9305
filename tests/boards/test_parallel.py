"""Tools in parallel: the most tools at a time, the order of the results, a single failure, and the end of all tools."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from lutern.boards import parallel
from lutern.boards.parallel import Tools, run_together
from lutern.model_ref.errors import LuternError

TIMEOUT_S = 60
SLEEPER = (sys.executable, "-c", "import time; time.sleep(3600)")


def failing(tools: Tools) -> int:
    raise LuternError("this seed fails.")


@pytest.mark.parametrize("most", [1, 3])
def test_outcomes_are_in_order(most: int) -> None:
    told: list[int] = []
    found = run_together([lambda tools: 1, failing, lambda tools: 3], told.append, most)
    assert [found[0], str(found[1]), found[2]] == [1, "this seed fails.", 3]
    assert isinstance(found[1], LuternError)
    assert told == ([0, 1, 2] if most == 1 else [0, 1, 2, 3])


def test_most_tools_at_the_same_time() -> None:
    """A barrier of three opens only if three jobs run at the same time. A fourth job never runs with them."""
    meeting, running, most, lock = threading.Barrier(3), 0, 0, threading.Lock()

    def job(tools: Tools) -> None:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        meeting.wait(TIMEOUT_S)
        with lock:
            running -= 1

    run_together([job] * 6, lambda done: None, 3)
    assert most == 3


def test_exit_codes() -> None:
    tools = Tools()
    assert [tools.run((sys.executable, "-c", f"raise SystemExit({code})")) for code in (0, 3)] == [0, 3]


def test_an_interrupted_tool_is_an_interrupt() -> None:
    program = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    with pytest.raises(KeyboardInterrupt):
        Tools().run((sys.executable, "-c", program))


def test_a_fault_ends_all() -> None:
    """Ctrl-C, or an error of our own code, ends all running tools. Otherwise this test would not end."""
    begun = threading.Event()

    def sleeper(tools: Tools) -> int:
        begun.set()
        return tools.run(SLEEPER)

    def faulty(tools: Tools) -> int:
        assert begun.wait(TIMEOUT_S)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_together([sleeper, faulty, sleeper], lambda done: None, 2)


def test_no_tool_starts_after_a_stop() -> None:
    tools = Tools()
    tools.stop()
    with pytest.raises(KeyboardInterrupt):
        tools.run(SLEEPER)


def test_a_process_ends_with_its_thread() -> None:
    """An exception in the waiting thread ends the process."""
    tools, seen = Tools(), []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if self not in seen:
                seen.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Watched)
        with pytest.raises(KeyboardInterrupt):
            tools.run(SLEEPER)
    assert seen[0].poll() is not None


def test_a_tool_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """``watch`` is called repeatedly while the tool runs, and not after its end. The exit code does not change."""
    monkeypatch.setattr(parallel, "WATCH_SECONDS", 0.01)
    seen: list[int] = []
    program = "import sys; sys.stdin.read(); raise SystemExit(3)"
    reading, writing = os.pipe()

    def watch() -> None:
        seen.append(1)
        if len(seen) == 3:
            os.close(writing)

    assert Tools().run((sys.executable, "-c", program), watch, stdin=reading) == 3
    os.close(reading)
    assert len(seen) >= 3
