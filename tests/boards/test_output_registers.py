"""Registers at the outputs of block RAMs: registers that can move into the block RAM do so, and the others stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lutern.boards.output_registers import fold_output_registers

CLOCK, OTHER_CLOCK, ENABLE = 2, 3, 4
OUTPUTS = 9
Change = Callable[[dict[str, Any]], None]


def register(data: int, q: int) -> dict[str, Any]:
    """Return a flip-flop as yosys writes it. In its parameters, texts of digits end with a blank."""
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "1 ", "CLKMUX": "CLK", "LSRMUX": "LSR", "REGSET": "RESET"},
        "port_directions": {"CLK": "input", "DI": "input", "LSR": "input", "Q": "output"},
        "connections": {"CLK": [CLOCK], "DI": [data], "LSR": ["0"], "Q": [q]},
    }


def netlist() -> dict[str, Any]:
    """Return a netlist with a block RAM, whose port B drives registers and whose port A drives a LUT."""
    pins = {"CLKA": [CLOCK], "CLKB": [CLOCK], "RSTA": ["0"], "RSTB": ["0"], "OCEA": ["1"], "OCEB": ["1"]}
    pins |= {f"DO{side}{index}": [10 * (1 + ("A", "B").index(side)) + index] for side in "AB" for index in range(18)}
    pins |= {f"DO{side}{index}": [] for side in "AB" for index in range(OUTPUTS, 18)}
    ram = {
        "type": "DP16KD",
        "parameters": {
            **{f"DATA_WIDTH_{side}": format(9, "032b") for side in "AB"},
            **{f"REGMODE_{side}": "NOREG" for side in "AB"},
            **{f"CLK{side}MUX": f"CLK{side}" for side in "AB"},
        },
        "port_directions": {name: "output" if name.startswith("DO") else "input" for name in pins},
        "connections": pins,
    }
    cells = {"ram": ram} | {f"held_{index}": register(20 + index, 50 + index) for index in range(OUTPUTS)}
    cells["lut"] = {
        "type": "LUT4",
        "parameters": {},
        "port_directions": {"A": "input", "B": "input", "Z": "output"},
        "connections": {"A": [10], "B": [50], "Z": [70]},
    }
    return {"modules": {"top": {"ports": {"out": {"direction": "output", "bits": [70]}}, "cells": cells}}}


def test_registers_go_into_the_block_ram() -> None:
    design = netlist()
    assert fold_output_registers(design) == OUTPUTS
    cells = design["modules"]["top"]["cells"]
    assert set(cells) == {"ram", "lut"}
    ram = cells["ram"]
    assert [ram["connections"][f"DOB{index}"] for index in range(OUTPUTS)] == [[50 + index] for index in range(OUTPUTS)]
    assert ram["connections"]["DOA0"] == [10]
    assert (ram["parameters"]["REGMODE_A"], ram["parameters"]["REGMODE_B"]) == ("NOREG", "OUTREG")


def _of_register(section: str, name: str, value: object) -> Change:
    return lambda cells: cells["held_3"][section].update({name: value})


def _of_ram(section: str, name: str, value: object) -> Change:
    return lambda cells: cells["ram"][section].update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        _of_register("parameters", "CEMUX", "CE"),
        _of_register("parameters", "REGSET", "SET"),
        _of_register("connections", "LSR", [ENABLE]),
        _of_register("connections", "CLK", [OTHER_CLOCK]),
        lambda cells: cells["lut"]["connections"].update(B=[23]),
        lambda cells: cells.pop("held_3") and cells["lut"]["connections"].update(B=[23]),
        lambda cells: cells.update(second=register(23, 80)),
        _of_ram("connections", "RSTB", [ENABLE]),
        _of_ram("parameters", "CLKBMUX", "INV"),
        _of_ram("parameters", "DATA_WIDTH_A", format(36, "032b")),
    ],
    ids=["enable", "set", "reset", "clock", "other use", "none", "two", "cleared", "falling", "wide"],
)
def test_all_registers_stay_if_one_cannot_move(change: Change) -> None:
    design = netlist()
    change(design["modules"]["top"]["cells"])
    count = len(design["modules"]["top"]["cells"])
    assert fold_output_registers(design) == 0
    assert len(design["modules"]["top"]["cells"]) == count


def test_output_bits_of_the_chip_are_kept() -> None:
    design = netlist()
    design["modules"]["top"]["ports"]["bit"] = {"direction": "output", "bits": [23]}
    assert fold_output_registers(design) == 0
