"""Child processes of tests: Ctrl-C ends each child, each child is killed in the end, and so are its descendants.

A shell without job control starts ``make test &`` with SIGINT ignored, ``nohup make test`` ignores SIGHUP, and every
child would inherit these settings. Therefore children are started with the default actions. Each child leads its own
session, and the whole session is killed when the test is done with the child, or when the child takes too long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

TIMEOUT_S = 600.0
"""A child is killed after this number of seconds. The longest child needs much less, even on a busy computer."""
ROUTE_S = 3600.0
"""A child that places and routes is killed after this number of seconds."""

Finished = subprocess.CompletedProcess[str]


@contextlib.contextmanager
def _signals(of_sigint: signal.Handlers | object) -> Iterator[None]:
    """Within the block, SIGINT has the given action and SIGHUP has the default action. A child does not inherit a
    Python handler, but the default action."""
    before = signal.signal(signal.SIGINT, of_sigint), signal.signal(signal.SIGHUP, signal.SIG_DFL)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGHUP, before[1])


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[str] | None = None,
    ignores_sigint: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Start a child with stdout and stderr in pipes, and kill it at the end of the block. ``env`` replaces the
    environment."""
    with _signals(signal.SIG_IGN if ignores_sigint else signal.default_int_handler):
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            pipe.close()


def finish(child: subprocess.Popen[str], timeout_s: float = TIMEOUT_S) -> Finished:
    """Wait until a child of ``started`` ends."""
    out, err = child.communicate(timeout=timeout_s)
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Finished:
    """Run a command to its end. ``env`` replaces the environment."""
    with started(command, cwd=cwd, env=env, stdin=stdin) as child:
        return finish(child, timeout_s)


def run_python(program: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
    """Run the text of a program with this Python."""
    return run([sys.executable, "-c", program], cwd=cwd, env=env)


def lutern(*arguments: str | Path, timeout_s: float = TIMEOUT_S, **environment: str) -> Finished:
    """Run the command ``lutern``. The names in ``environment`` are added to the environment of this process."""
    command = [sys.executable, "-m", "lutern.cli.main", *arguments]
    return run(command, env={**os.environ, **environment}, timeout_s=timeout_s)


def on_terminal(
    *arguments: str | Path, columns: int = 80, timeout_s: float = TIMEOUT_S, **environment: str
) -> tuple[int, str]:
    """Run the command ``lutern`` in a terminal that is ``columns`` wide. Return its exit code and its output."""
    reader, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    command = [sys.executable, "-m", "lutern.cli.main", *arguments]
    with _signals(signal.default_int_handler):
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=env, start_new_session=True
        )
    os.close(terminal)
    late = threading.Timer(timeout_s, os.killpg, (child.pid, signal.SIGKILL))
    late.start()
    drawn = b""
    try:
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while data := os.read(reader, 1 << 16):
                drawn += data
        return child.wait(), drawn.decode()
    finally:
        late.cancel()
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def kill_descendants() -> None:
    """Kill all children of this process and their children, no matter which code started them."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()  # the name before ")" may contain any characters
            parents[int(path.parent.name)] = int(fields[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    for child in found - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
