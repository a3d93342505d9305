"""Simulations compile in folders of any name, because make receives only paths that it can handle."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.boards.cache import SEAL
from lutern.hw.pipeline import join_streams
from lutern.model_ref.errors import LuternError
from lutern.sim import convert, tools
from lutern.sim.runner import build_root
from lutern.sim.tools import run_program
from lutern.sim.verilate import LIBRARY, verilate
from processes import run_python

ODD = "a b[red]:bus:$x'(é)"
"""A folder name with characters that are special for make, for the shell, or in tables."""


class Echo(wiring.Component):
    """The smallest component that a simulated board can run. It sends all bytes back."""

    def __init__(self) -> None:
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        join_streams(m, self.rx, self.tx)
        m.d.sync += Signal().eq(self.rx.valid)  # the harness needs a clock
        return m


@pytest.mark.parametrize("where", ["cache", pytest.param("verilator", marks=pytest.mark.slow)])
def test_compiled_in_a_folder_with_an_unusual_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    """The cache, or Verilator and Python, may be in a folder whose name make cannot handle."""
    odd = tmp_path / ODD
    odd.mkdir()
    monkeypatch.setenv("LUTERN_CACHE", str(odd if where == "cache" else tmp_path / "cache"))
    if where == "verilator":
        package = Path(tools.verilator.__file__).parent
        (odd / "bin").mkdir()
        for item in package.iterdir():
            (odd / item.name).symlink_to(item) if item.name != "bin" else None
        for item in (package / "bin").iterdir():
            os.link(item, odd / "bin" / item.name)
        monkeypatch.setattr(tools.verilator, "__file__", str(odd / "__init__.py"))
        (odd / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (odd / "python").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(odd / "python"))
    library = verilate(Echo())
    assert library.name == LIBRARY and library.stat().st_size > 10_000
    kept = {path.name for path in library.parent.iterdir()}
    assert kept == {LIBRARY, "top.v", "taps.h", "build.log", SEAL}, "sources and objects must not be kept"
    assert sorted(path.name.partition("-")[0] for path in library.parents[1].iterdir()) == ["board", "runtime"]
    assert verilate(Echo()) == library


def test_plain_environment_is_left_alone() -> None:
    """If all paths are plain, the environment has no links."""
    root = Path(tools.verilator.__file__).parent
    if tools.is_plain(root) and tools.is_plain(sys.executable):
        values = tools.verilator_environment()
        assert values["VERILATOR_ROOT"] == str(root) and "VERILATOR_BIN" not in values


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20))
def test_plain_paths_survive_make(name: str) -> None:
    """Make reads a plain path as one unchanged word."""
    if not tools.is_plain(name):
        return
    text = f"X := {name}\nall:\n\t@printf %s $(X) $(words $(X))\n"
    done = subprocess.run(["make", "-f", "-"], input=text, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{name}1", name


@pytest.mark.parametrize(
    "name", ["a b", "a\tb", "[red]", ":bus:", "$x", "#x", "a'b", 'a"b', "a;b", "a%b", "~", "(a)", "é"]
)
def test_odd_paths(name: str) -> None:
    assert not tools.is_plain(f"/tmp/{name}/x")


def test_no_plain_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.setattr(tools.tempfile, "tempdir", str(tmp_path / "a b"))
    assert tools.is_plain(tools.plain_temporary_folder()), "the folder must be one of the computer's plain folders"
    monkeypatch.setattr(tools, "_PLAIN_TEMPORARY", (str(tmp_path / "none"),))
    with pytest.raises(LuternError, match=r"^make cannot work in .*/a b, nor in .*/none; set TMPDIR to a folder"):
        tools.plain_temporary_folder()


def test_benches_in_a_folder_with_an_unusual_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTERN_BUILD", "~/benches")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build_root() == tmp_path / "benches"
    monkeypatch.setenv("LUTERN_BUILD", str(tmp_path / "a b"))
    with pytest.raises(
        LuternError, match=r"^make cannot build benches in .*/a b; set LUTERN_BUILD to a folder that has "
    ):
        build_root()


def test_yosys_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LuternError, match=r"^Yosys failed \(.+\); run `lutern doctor`, which says what is missing\.$"):
        convert.convert_verilog("this is no RTLIL")


@pytest.mark.parametrize("what", ["No space left on device", "File too large"])
def test_no_room_for_yosys(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message states the real reason, in place of a missing tool."""

    class Full:
        def run(self, *_: object, **__: object) -> str:
            raise convert.yosys.YosysError(f"wasmtime._error.WasmtimeError: {what} (os error)")

    monkeypatch.setattr(convert.yosys, "find_yosys", lambda *_: Full())
    with pytest.raises(LuternError, match="there is no room for the files of Yosys; make"):
        convert.convert_verilog("")


ENDED = """
import os, signal, subprocess, sys, time
from lutern.sim.tools import run_program

class Popen(subprocess.Popen):
    def wait(self, timeout=None):
        while not os.path.exists("pid"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        return super().wait(timeout)

def end(number, frame):
    signal.signal(number, signal.SIG_IGN)
    sys.exit(143)

signal.signal(signal.SIGTERM, end)
subprocess.Popen = Popen
run_program(["sh", "-c", "sleep 1000 & echo $! > new; mv new pid; wait"])
"""


def test_programs_started_by_a_tool_end_too(tmp_path: Path) -> None:
    """If SIGTERM ends a command, a compiler that make has started ends too."""
    assert run_python(ENDED, cwd=tmp_path).returncode == 143
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    for _ in range(1000):  # until the parent of the compiler has noticed its end
        if not stat.exists() or stat.read_text().rpartition(") ")[2][0] in "ZX":
            return
        time.sleep(0.01)
    raise AssertionError("the inner program still runs")


def test_status_of_a_program() -> None:
    assert run_program(["sh", "-c", "exit 3"]) == 3
