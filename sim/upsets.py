"""Upsets of a simulated board, which are bit flips in its registers and memories.

    Verilog ─► every register  q <= next       becomes  q <= next ^ top.upset[its bits]
               every memory    m[a] <= data    also     m[top.upset_address] ^= top.upset_mask if m is chosen

The inputs ``upset...`` of the module `top` are 0 except in the cycle of an upset. So the machine is unchanged in all
other cycles. Registers with an asynchronous reset, the output registers of block RAM, and memories that are never
written (tables) cannot be upset.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEAST = 65
"""Smallest number of bits of an input ``upset...``. Verilator stores an input of 65 or more bits as an array of words,
which the harness expects."""
_NAME = r"(?:\\\S+ |[A-Za-z_]\w*)"
_REGISTER = re.compile(rf"^  always @\(posedge \w+\)\n    ({_NAME}) *<= (.*);$", re.MULTILINE)
_WRITTEN = re.compile(
    rf"^(  always @\(posedge \w+\) begin\n)(    if \(.*\)\n      ({_NAME}) *\[.*\] <= .*;\n)", re.MULTILINE
)
_DECLARED = re.compile(rf"^  reg (?:\[(\d+):0\] )?({_NAME}) *(?:\[(\d+):0\])?(?: = .*)?;$", re.MULTILINE)
_MODULE = re.compile(r"^module (\\\S+ |\w+).*?^endmodule$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"^// (register|memory) (\d+) (\d+) (\d+) (\S+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Register:
    """A register of ``bits`` bits. ``first`` is the number of its first bit among the bits of all registers. ``path``
    is the path of the modules that contain the register."""

    first: int
    bits: int
    path: str
    name: str


@dataclass(frozen=True)
class ChipMemory:
    """Memory ``number`` of the chip, with ``words`` words of ``bits`` bits. ``path`` is the path of the modules that
    contain the memory."""

    number: int
    words: int
    bits: int
    path: str
    name: str


def with_upsets(verilog_text: str) -> str:
    """Return the Verilog with inputs that upset its registers and memories. The Verilog begins with a list of these
    registers and memories."""
    registers: list[Register] = []
    memories: list[ChipMemory] = []

    def changed(module: re.Match[str]) -> str:
        text, path = module[0], module[1].strip().removeprefix("\\")
        declared = _DECLARED.findall(text)
        widths = {name.strip(): int(high or 0) + 1 for high, name, _ in declared}
        depths = {name.strip(): int(last) + 1 for _, name, last in declared if last}

        def register(found: re.Match[str]) -> str:
            name = found[1].strip()
            first = registers[-1].first + registers[-1].bits if registers else 0
            registers.append(Register(first, widths[name], path, name))
            bits = f"top.upset[{first + widths[name] - 1}:{first}]"
            return f"{found[0].partition('<=')[0]}<= ({found[2]}) ^ {bits};"

        def memory(found: re.Match[str]) -> str:
            name = found[3].strip()
            if name not in depths:
                return found[0]
            memories.append(ChipMemory(len(memories) + 1, depths[name], widths[name], path, name))
            word = f"{found[3]}[top.upset_address]"
            upset = f"    if (top.upset_memory == {len(memories)})\n      {word} <= {word} ^ top.upset_mask;\n"
            return f"{found[1]}{upset}{found[2]}"

        return _WRITTEN.sub(memory, _REGISTER.sub(register, text))

    text = _MODULE.sub(changed, verilog_text)
    bits = sum(register.bits for register in registers)
    mask_bits = max((memory.bits for memory in memories), default=0)
    ports = {"upset": max(bits, _LEAST), "upset_memory": 16, "upset_address": 32, "upset_mask": max(mask_bits, _LEAST)}
    before, top, after = text.partition("\nmodule top(")
    names, end, rest = after.partition(");\n")
    inputs = "".join(f"  input [{width - 1}:0] {name};\n" for name, width in ports.items())
    notes = [f"// register {each.first} {each.bits} 0 {each.path} {each.name}\n" for each in registers]
    notes += [f"// memory {each.number} {each.words} {each.bits} {each.path} {each.name}\n" for each in memories]
    return "".join(notes) + before + top + ", ".join([*ports, names]) + end + inputs + rest


def listed(verilog_text: str) -> tuple[list[Register], list[ChipMemory]]:
    """Return the registers and memories in the list at the start of a Verilog text of `with_upsets`."""
    found = _NOTE.findall(verilog_text)
    registers = [Register(int(a), int(b), path, name) for kind, a, b, _, path, name in found if kind == "register"]
    memories = [
        ChipMemory(int(a), int(b), int(c), path, name) for kind, a, b, c, path, name in found if kind == "memory"
    ]
    return registers, memories


__all__ = ["ChipMemory", "Register", "listed", "with_upsets"]
