"""`lutern verilog`: the module's ports, the file, and errors that a user can correct."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.cli.verilog import verilog
from lutern.hw import top
from lutern.hw.config import HwConfig
from processes import run

LUTERN = Path(sys.executable).parent / "lutern"
PORTS = {"clk", "rst", *(f"{link}__{part}" for link in ("rx", "tx") for part in ("valid", "ready", "payload"))}


class Echo(wiring.Component):
    """Replaces the top level: a component with the ports of the top level, without taps, and with a register."""

    def __init__(self, config: HwConfig) -> None:
        assert not config.debug_tap
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.rx.ready.eq(self.tx.ready)
        m.d.sync += [self.tx.payload.eq(self.rx.payload), self.tx.valid.eq(self.rx.valid)]
        return m


def ports(text: str) -> set[str]:
    """Return the ports of module lutern."""
    found = re.search(r"^module lutern\((.*)\);$", text, re.MULTILINE)
    assert found, text[:400]
    return set(found[1].split(", "))


def test_machines_with_axi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Machines with AXI4 have AXI4-Lite for a processor, in place of the byte streams of the link."""
    monkeypatch.setattr(top, "Top", None)
    monkeypatch.setattr(top, "AxiTop", Echo)
    verilog("axi-x128")
    assert ports(capsys.readouterr().out) == PORTS


def test_to_standard_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(top, "Top", Echo)
    verilog("tiny")
    text = capsys.readouterr().out
    assert text.startswith("// lutern verilog --preset tiny\n") and text.endswith("endmodule\n")
    assert ports(text) == PORTS


def test_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(top, "Top", Echo)
    out = tmp_path / "top.v"
    out.write_text("what stood there")
    verilog("sim-64", out=out)
    assert ports(out.read_text()) == PORTS
    assert capsys.readouterr().out == f"{out}: module lutern, sim-64, {out.stat().st_size:,} bytes\n"
    assert [path.name for path in tmp_path.iterdir()] == ["top.v"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "there is no preset huge; choose one of "),
        (("--preset", "tiny", "-o", "nowhere/top.v"), "nowhere/top.v cannot be written, there is no folder nowhere; "),
        (("--preset", "tiny", "-o", "."), ". is a folder; give the name of a file."),
    ],
)
def test_errors_that_a_user_can_correct(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run([LUTERN, "verilog", *arguments], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lutern: {message}") and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_whole_machine(tmp_path: Path) -> None:
    done = run([LUTERN, "verilog", "--preset", "tiny"], cwd=tmp_path)
    assert done.returncode == 0
    assert ports(done.stdout) == PORTS
    assert done.stderr == ""
