"""The progress of a load shows rate and time left on a terminal of 80 columns, and prints no bar into a pipe."""

from __future__ import annotations

import io
import re

import pytest

from lutern.cli import progress
from lutern.cli.output import plain_console
from lutern.firmware.loader import COMPARING, SENDING, VERIFYING
from lutern.sim import elapsed

IMAGE_BYTES = 392_297_856


class Clock:
    """A clock whose time the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def drawn(monkeypatch: pytest.MonkeyPatch, clock: Clock, terminal: bool) -> io.StringIO:
    """Return the output of the following bars, which is a terminal of 80 columns or a pipe."""
    file = io.StringIO()

    def console(stderr: bool) -> object:
        assert stderr
        return plain_console(file=file, width=80, force_terminal=terminal, get_time=clock, _environ={})

    monkeypatch.setattr(progress, "plain_console", console)
    return file


def last_line(file: io.StringIO) -> str:
    """Return the last bar that was drawn, without its colors."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()][-1]


def load(clock: Clock, stages: dict[str, tuple[int, float]]) -> None:
    """Show a load with the given stages: bytes per second, and the seconds after which the stage ends."""
    with progress.load_bar() as advance:
        for stage, (rate, seconds) in stages.items():
            for second in range(int(seconds) + 1):
                advance(stage, round(rate * second), IMAGE_BYTES)
                clock.now += 1


def test_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Rate and time left refer to the stage that sends. The comparison before this stage is a hundred times as fast and
    must not count."""
    file = drawn(monkeypatch, clock, terminal=True)
    load(clock, {COMPARING: (75e6, 4), SENDING: (288_000, 30)})
    line = last_line(file)
    assert len(line) <= 80 and line.startswith("sending the model "), line
    assert re.search(r" 8\.6/392\.3 MB 288\.0 kB/s 0:2[12]:\d\d\s*$", line), line


@pytest.mark.parametrize("stage", [COMPARING, VERIFYING])
def test_the_longest_line(stage: str, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """No text of the line is cut off."""
    file = drawn(monkeypatch, clock, terminal=True)
    load(clock, {stage: (100_100, 3000)})
    line = last_line(file)
    assert len(line) <= 80 and "…" not in line, line
    assert re.search(rf"^{stage} the model +\S+ 300\.3/392\.3 MB 100\.1 kB/s 0:1\d:\d\d\s*$", line), line


def test_a_pipe_gets_no_bars(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    file = drawn(monkeypatch, clock, terminal=False)
    load(clock, {COMPARING: (1e6, 3), SENDING: (1e5, 100)})
    with progress.transfer_bar("march") as advance:
        advance(1, 2)
    assert file.getvalue() == ""


def test_another_transfer(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    file = drawn(monkeypatch, clock, terminal=True)
    with progress.transfer_bar("march") as advance:
        for megabytes in range(4):
            advance(megabytes * 1_000_000, 16_000_000)
            clock.now += 2
    assert re.search(r"^march +\S+ 3\.0/16\.0 MB 500\.0 kB/s 0:00:\d\d\s*$", last_line(file)), last_line(file)


def test_long_steps_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe, a long step prints a line after the first minute, and then each time the elapsed time has doubled. A
    short step prints no line."""
    drawn(monkeypatch, Clock(), terminal=False)
    with progress.named_progress_bar("short") as advance:
        advance(0, 2, "one")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(elapsed, "FIRST_LINE_SECONDS", 1e-3)
    found, wanted = "", "build, 1 of 3, place and route: 0 min\n"
    with progress.named_progress_bar("build") as advance:
        advance(1, 3, "place and route")
        while wanted not in found:  # if the line is missing, the time limit of the test ends this loop
            found += capsys.readouterr().err
    assert set(found.splitlines(keepends=True)) <= {wanted, "build: 0 min\n"}


def test_a_long_load_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A first run compiles before it loads. The printed lines name the step that takes the time."""
    drawn(monkeypatch, Clock(), terminal=False)
    monkeypatch.setattr(elapsed, "FIRST_LINE_SECONDS", 1e-3)
    found, compiling, sending = "", "Compiling tiny: 0 min\n", "sending the model, 3,000 of 9,000 bytes: 0 min\n"
    with progress.load_bar() as advance:
        with elapsed.elapsed("Compiling tiny"):
            while compiling not in found:  # if the line is missing, the time limit of the test ends this loop
                found += capsys.readouterr().err
        assert set(found.splitlines(keepends=True)) == {compiling}
        advance(SENDING, 3_000, 9_000)
        while sending not in found:
            found += capsys.readouterr().err
    assert set(found.splitlines(keepends=True)) <= {compiling, "loading the model: 0 min\n", sending}


def test_elapsed_time(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Steps that take minutes show the elapsed time and the state of the tool, within 80 columns."""
    file = drawn(monkeypatch, clock, terminal=True)
    with progress.step_bar("build") as advance:
        for _ in range(90):
            advance(1, 3, "place and route: at iteration #20, wirelen 9")
            clock.now += 1
    line = last_line(file)
    assert len(line) <= 80 and " 1/3 0:01:30 " in line and line.rstrip().endswith("wirelen 9"), line
