"""Moves registers at the outputs of block RAMs into the block RAMs, which have their own output registers.

    DP16KD DOB0..17 ─► TRELLIS_FF ─► nets   becomes   DP16KD with REGMODE_B OUTREG ─► nets

Yosys does not use these output registers. Here the output registers of a port are used if each output of the port
drives only a flip-flop on the port's clock, without an enable or a reset, and with initial value 0. So the machine does
the same in every cycle. The machine then has fewer flip-flops and nets, and the clock-to-output time of a block RAM
falls to a third. This costs nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

PORTS = "AB"
OUTPUTS = 18
_PLAIN = {"CEMUX": "1", "REGSET": "RESET", "CLKMUX": "CLK"}


def fold_output_registers(design: dict[str, Any]) -> int:
    """Change a netlist (yosys' JSON), and return the number of flip-flops that were removed."""
    cells = design["modules"]["top"]["cells"]
    sinks: Counter[Any] = Counter(
        bit for module_port in design["modules"]["top"]["ports"].values() for bit in module_port["bits"]
    )
    registers: dict[Any, str] = {}
    for name, cell in cells.items():
        directions = cell["port_directions"]
        for port, bits in cell["connections"].items():
            if directions[port] != "output":
                sinks.update(bits)
        if cell["type"] == "TRELLIS_FF" and _is_plain(cell):
            registers[cell["connections"]["DI"][0]] = name
    folded = 0
    for cell in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for port in PORTS:
            folded += _fold(cells, cell, port, registers, sinks)
    return folded


def _is_plain(cell: dict[str, Any]) -> bool:
    """Return whether a flip-flop only delays its input by one cycle."""
    pins, values = cell["connections"], cell["parameters"]
    plain = all(str(values.get(name)).strip() == value for name, value in _PLAIN.items())
    return plain and pins.get("LSR", ["0"]) == ["0"]


def _fold(cells: dict[str, Any], ram: dict[str, Any], port: str, registers: dict[Any, str], sinks: Counter[Any]) -> int:
    pins = ram["connections"]
    used = {
        name: pins[name][0]
        for name in (f"DO{port}{index}" for index in range(OUTPUTS))
        if pins.get(name) and sinks[pins[name][0]]
    }
    held = {name: registers.get(bit, "") for name, bit in used.items()}
    wide = any(int(ram["parameters"][f"DATA_WIDTH_{side}"], 2) > OUTPUTS for side in PORTS)
    if wide or not used or pins[f"RST{port}"] != ["0"] or ram["parameters"][f"CLK{port}MUX"] != f"CLK{port}":
        return 0
    for name, register in held.items():
        if not register or sinks[used[name]] != 1 or cells[register]["connections"]["CLK"] != pins[f"CLK{port}"]:
            return 0
    ram["parameters"][f"REGMODE_{port}"] = "OUTREG"
    pins[f"OCE{port}"] = ["1"]
    for name, register in held.items():
        pins[name] = cells.pop(register)["connections"]["Q"]
    return len(held)


__all__ = ["fold_output_registers"]
