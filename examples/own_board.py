"""Describes a board of your own: pins in the style of amaranth-boards, and all that Lutern needs to make a netlist.

    .venv/bin/python examples/own_board.py [PRESET]    default: tiny (the preset "host" fits every board)

    platform (pins) ─┐
                     ├─► Board ─► make_plan ─► design for synthesis, and constraints ─► synthesise ─► netlist
    clock, link, ... ┘

The pins are invented. ``lutern.boards.build.build(plan, seeds=[1], progress=...)`` makes a bitstream, which takes
minutes. A new board in Lutern needs a file in ``boards/`` and a row in ``boards/catalog.py`` (docs/boards.md).
"""

import json
import sys
from typing import Any

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.vendor import LatticeECP5Platform

from lutern.boards.board import FPGAS, Board, leds
from lutern.boards.build import NETLIST, make_plan, synthesise
from lutern.boards.serial_link import SerialLink

LVCMOS33 = Attrs(IO_TYPE="LVCMOS33")


class WorkbenchPlatform(LatticeECP5Platform):
    """An ECP5 25F with an oscillator, four LEDs and a serial line."""

    device: Any = "LFE5U-25F"
    package: Any = "BG381"
    speed: Any = "6"
    default_clk: Any = "clk25"
    resources: Any = [
        Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), LVCMOS33),
        Resource("uart", 0, Subsignal("rx", Pins("H18", dir="i")), Subsignal("tx", Pins("J17", dir="o")), LVCMOS33),
        *(
            Resource("led", number, PinsN(pin, dir="o"), LVCMOS33)
            for number, pin in enumerate("U16 U17 U18 V17".split())
        ),
    ]
    connectors: Any = []


BOARD = Board(
    name="workbench",
    title="the board on the workbench",
    fpga=FPGAS["LFE5U-25F"],
    package="CABGA381",  # nextpnr's name of the package
    speed="6",
    platform=WorkbenchPlatform,
    clock="clk25",
    clock_hz=25_000_000,
    link=SerialLink((1_000_000, 115_200), "a USB adapter"),  # the baud rates of the bridge, the highest first
    leds=leds(0, 1, 2, 3),
    preset="host",
    loader=(),
)

if __name__ == "__main__":
    plan = make_plan(BOARD, BOARD.config(sys.argv[1] if len(sys.argv) > 1 else "tiny"))
    print(f"{BOARD.title}: {plan.config.name} at {plan.clocks['sync'] / 1e6:g} MHz, link at {plan.baud:,} baud")
    print("\n".join(line for line in plan.constraints.splitlines() if line.startswith("LOCATE")))
    design = json.loads((synthesise(plan) / NETLIST).read_text())["modules"]["top"]
    cells = [cell["type"] for cell in design["cells"].values()]
    used = {kind: cells.count(kind) for kind in ("LUT4", "TRELLIS_FF", "DP16KD", "MULT18X18D")}
    print("netlist:", ", ".join(f"{count:,} {kind}" for kind, count in used.items()))
