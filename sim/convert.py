"""Converts an Amaranth component to RTLIL and Verilog, and lists its ports.

    component ──elaborate──► RTLIL ──yosys──► Verilog   0.3 s, but 5 s on the very first call (WebAssembly)
                               └────► digest            the key of a build cache, so a look-up need not run yosys

Ports of streams have Amaranth's names: port `i` becomes `i__valid`, `i__ready` and `i__payload`. A payload with a
layout is one flat vector in the bit order of the layout. Amaranth adds the ports `clk` and `rst` of the domain `sync`.
"""

import hashlib
import importlib.metadata
import os
import re
from dataclasses import dataclass

from amaranth._toolchain import yosys
from amaranth.back import rtlil
from amaranth.hdl import Shape, ValueCastable
from amaranth.lib import wiring

from lutern.boards.cache import wasm_environment
from lutern.boards.rtlil import brief_and_ordered, without_zero_memories
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import FULL
from lutern.sim.tools import environment

_INTERNAL = " ".join(
    f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")
)
"""Options that remove attributes which do not describe the circuit."""


@dataclass(frozen=True)
class Port:
    """One flat port of a component, with its name in Verilog."""

    name: str
    bits: int
    is_signed: bool


def list_ports(component: wiring.Component) -> list[Port]:
    """Return the flat ports of `component` in the order of its signature, without clk and rst."""
    ports = []
    for path, _, value in component.signature.flatten(component):
        flat = value.as_value() if isinstance(value, ValueCastable) else value
        shape = Shape.cast(flat.shape())
        ports.append(Port("__".join(map(str, path)), shape.width, shape.signed))
    return ports


def domain_ports(rtlil_text: str) -> list[str]:
    """Return the names of clock and reset of the domain `memory`; no names if the component has only the
    domain `sync`."""
    ports = rtlil_text.partition("module \\top\n")[2].partition("\nend\n")[0]
    return [name for name in ("memory_clk", "memory_rst") if f"\\{name}\n" in ports]


def convert_rtlil(component: wiring.Component, name: str = "top") -> str:
    """Return RTLIL without source positions and without the initial zeros of memories. So a source line that moves
    causes no rebuild. Equal components have equal text in all processes.

    Instead, Verilator's option --x-initial sets memories to zero.
    """
    with brief_and_ordered():
        return without_zero_memories(rtlil.convert(component, name=name, emit_src=False))


def convert_verilog(rtlil_text: str) -> str:
    """Return Verilog for the result of `convert_rtlil`, made by the yosys that Amaranth finds. Raises LuternError if
    yosys fails.

    The function does what `amaranth.back.verilog` does, but without the optimisation after `proc`. This optimisation
    splits words under a constant mask into bits, and Verilator then computes each bit separately, so the random numbers
    of hw/head.py would take six times as many instructions.
    """
    script = (
        f"read_rtlil <<rtlil\n{rtlil_text}\nrtlil",
        "proc -noopt -nomux -norom",
        "memory_collect",
        *(f"attrmap {kind}{_INTERNAL}" for kind in ("", "-modattr ")),
        "write_verilog -norename",
    )
    with environment(wasm_environment()):
        try:
            tool = yosys.find_yosys(lambda version: version >= (0, 40))
            return str(tool.run(["-q", "-"], "\n".join(script), ignore_warnings=True))
        except yosys.YosysError as error:
            if any(os.strerror(number) in str(error) for number in FULL):
                raise LuternError(
                    "there is no room for the files of Yosys; make room in the folder for temporary files."
                ) from None
            said = str(error).strip().splitlines() or ["it printed nothing"]
            raise LuternError(f"Yosys failed ({said[-1]}); run `lutern doctor`, which says what is missing.") from None


def registered_resets(verilog_text: str) -> str:
    """Return the Verilog with a register at each reset of module `top`, so that the resets act one cycle later.

    Verilator evaluates twice per cycle all logic that an input reaches without a register, and a reset reaches every
    register of the design.
    """
    before, start, rest = verilog_text.partition("\nmodule top(")
    ports, end, body = rest.partition(");\n")
    body, last, after = body.partition("\nendmodule\n")
    for name in ("rst", "memory_rst"):
        if not re.search(rf"^  input {name};$", body, re.MULTILINE):
            continue
        clock = name.replace("rst", "clk")
        body = re.sub(rf"(?<![.\w\\]){name}\b(?!;\n)", f"{name}_registered", body)
        body = f"  reg {name}_registered;\n  always @(posedge {clock}) {name}_registered <= {name};\n{body}"
    return before + start + ports + end + body + last + after


def digest(*parts: str | bytes) -> str:
    """Return the SHA-256 (hex) of `parts`, each with its length, and of the versions of the tools that a build depends
    on."""
    state = hashlib.sha256()
    versions = [f"{name}={importlib.metadata.version(name)}" for name in ("amaranth", "verilator")]
    for part in [*versions, *parts]:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()
