"""The models of ECP5's cells equal a second model, which follows the data sheet: memory consists of bytes of nine
bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

import lutern.sim
from lutern.sim.board import SimulatedBoard
from lutern.sim.convert import convert_rtlil, convert_verilog
from lutern.sim.verilate import verilate_text

CELLS = Path(str(lutern.sim.__path__[0])) / "ecp5_cells.v"
COMMAND = {"ada": 14, "adb": 14, "dia": 18, "dib": 18, "cea": 1, "wea": 1, "ceb": 1, "web": 1, "rsta": 1, "rstb": 1}
COMMAND_BYTES, RESULT_BYTES = 9, 5
STEPS = 1500
SEED = 3


@dataclass(frozen=True)
class Ram:
    """One DP16KD. ``registered`` names the ports with an output register."""

    a: int
    b: int
    mode_a: str = "NORMAL"
    mode_b: str = "NORMAL"
    registered: str = ""


RAMS = (
    Ram(18, 18),
    Ram(18, 9, "WRITETHROUGH", "READBEFOREWRITE"),
    Ram(9, 9, "READBEFOREWRITE", "WRITETHROUGH"),
    Ram(4, 18),
    Ram(2, 4, "WRITETHROUGH"),
    Ram(1, 2),
    Ram(9, 1),
    Ram(9, 9, registered="b"),
    Ram(18, 4, "WRITETHROUGH", registered="ab"),
    Ram(36, 36),
    Ram(36, 18),
    Ram(36, 4),
)
SIGNS = ((0, 0), (0, 1), (1, 0), (1, 1))


def contents() -> list[int]:
    """Return the initial contents of every memory: 2048 bytes of nine bits."""
    return np.random.default_rng(SEED).integers(512, size=2048).tolist()


class Cells(wiring.Component):
    """Cells that all execute a command of nine bytes in one cycle. Each cell then returns five bytes with its
    outputs."""

    def __init__(self) -> None:
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        command = Signal(8 * COMMAND_BYTES)
        ports: dict[str, Value] = {}
        place = 0
        for name, bits in COMMAND.items():
            ports[name] = command[place : place + bits]
            place += bits
        go = Signal()
        outputs = []
        held = contents()
        for ram in RAMS:
            out = {side: Signal(18, name=f"do{side}") for side in "ab"}
            pins: dict[str, object] = {
                "p_DATA_WIDTH_A": ram.a,
                "p_DATA_WIDTH_B": ram.b,
                "p_WRITEMODE_A": ram.mode_a,
                "p_WRITEMODE_B": ram.mode_b,
                **{f"p_REGMODE_{side.upper()}": "OUTREG" for side in ram.registered},
            }
            for row in range(64):
                words = [held[2 * i] | held[2 * i + 1] << 9 for i in range(16 * row, 16 * row + 16)]
                pins[f"p_INITVAL_{row:02X}"] = Const(sum(word << 20 * i for i, word in enumerate(words)), 320)
            for side in "ab":
                name = side.upper()
                pins |= {f"i_AD{name}{i}": ports[f"ad{side}"][i] for i in range(14)}
                pins |= {f"i_DI{name}{i}": ports[f"di{side}"][i] for i in range(18)}
                pins |= {f"o_DO{name}{i}": out[side][i] for i in range(18)}
                pins |= {f"i_CS{name}{i}": Const(0, 1) for i in range(3)}
                pins |= {f"i_{pin}{name}": ports[f"{pin.lower()}{side}"] & go for pin in ("CE", "RST")}
                wide = side == "b" and ram.a == 36
                pins |= {
                    f"i_WE{name}": Const(0, 1) if wide else ports[f"we{side}"],
                    f"i_OCE{name}": go if side in ram.registered else Const(1, 1),
                    f"i_CLK{name}": ClockSignal(),
                }
            m.submodules += Instance("DP16KD", **pins)
            outputs.append(Cat(out["a"], out["b"]))
        for signed_a, signed_b in SIGNS:
            product = Signal(36)
            pins = {"i_SIGNEDA": Const(signed_a, 1), "i_SIGNEDB": Const(signed_b, 1)}
            for i in range(18):
                pins |= {f"i_A{i}": ports["dia"][i], f"i_B{i}": ports["dib"][i]}
            pins |= {f"o_P{i}": product[i] for i in range(36)}
            m.submodules += Instance("MULT18X18D", **pins)
            outputs.append(product)
        result = Cat(*[Cat(value, Const(0, 8 * RESULT_BYTES - 36)) for value in outputs])
        left = Signal(range(len(result) // 8 + 1))
        taken = Signal(range(COMMAND_BYTES + 1))
        m.d.comb += [
            self.rx.ready.eq((taken != COMMAND_BYTES) & (left == 0)),
            go.eq(taken == COMMAND_BYTES),
            self.tx.valid.eq(left != 0),
            self.tx.payload.eq(result.word_select((len(result) // 8 - left)[: len(left)], 8)),
        ]
        with m.If(self.rx.valid & self.rx.ready):
            m.d.sync += [command.eq(Cat(command[8:], self.rx.payload)), taken.eq(taken + 1)]
        with m.If(go):
            m.d.sync += [taken.eq(0), left.eq(len(result) // 8)]
        with m.If(self.tx.valid & self.tx.ready):
            m.d.sync += left.eq(left - 1)
        return m


def spans(bits: int, address: int) -> list[tuple[int, int, int]]:
    """Return (byte, first bit, bits) of each piece that a port of ``bits`` bits accesses, beginning with the lowest.
    See FPGA-TN-02204."""
    if bits < 9:
        return [(address >> 3, (address & 7) // bits * bits, bits)]
    count = bits // 9
    return [((address >> 3) // count * count + i, 0, 9) for i in range(count)]


@dataclass
class Model:
    """A second model of a DP16KD."""

    ram: Ram
    memory: list[int] = field(default_factory=contents)
    read: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})

    def step(self, command: dict[str, int]) -> int:
        widths = {"a": self.ram.a, "b": self.ram.b}
        modes = {"a": self.ram.mode_a, "b": self.ram.mode_b}
        read = dict(self.read)
        before, written = list(self.memory), {"a": {}, "b": {}}  # type: ignore[var-annotated]
        for side in "ab":
            bits, address = widths[side], command[f"ad{side}"]
            if not command[f"ce{side}"] or not command[f"we{side}"] or (side == "b" and self.ram.a == 36):
                continue
            value = command["dia"] | (command["dib"] << 18 if bits == 36 else 0) if side == "a" else command["dib"]
            for number, (byte, first, count) in enumerate(spans(bits, address)):
                if bits < 18 or address >> number & 1:
                    mask = (1 << count) - 1
                    self.memory[byte] &= ~(mask << first)
                    self.memory[byte] |= (value >> 9 * number & mask) << first
                    written[side][byte] = mask << first
        for side, other in ("ab", "ba"):
            writes = command[f"we{side}"] and not (side == "b" and self.ram.a == 36)
            if command[f"rst{side}"]:
                self.read[side] = 0
            elif command[f"ce{side}"] and (not writes or modes[side] != "NORMAL"):
                seen = 0
                for number, (byte, first, count) in enumerate(spans(widths[side], command[f"ad{side}"])):
                    old = before[byte] ^ written[other].get(byte, 0)
                    own = written[side].get(byte, 0) if modes[side] == "WRITETHROUGH" else 0
                    value = old & ~own | self.memory[byte] & own
                    seen |= (value >> first & (1 << count) - 1) << 9 * number
                self.read[side] = seen
        if self.ram.b == 36:
            return self.read["b"]
        out = {
            side: (0 if command[f"rst{side}"] else read[side]) if side in self.ram.registered else self.read[side]
            for side in "ab"
        }
        return (out["a"] & 0x3FFFF) | out["b"] << 18


def commands() -> Iterator[dict[str, int]]:
    """Yield commands with few addresses, so that both ports often use the same row, but never write the same bit."""
    random = np.random.default_rng(SEED + 1)
    rows = random.integers(1 << 9, size=3)
    for _ in range(STEPS):
        command = {name: int(random.integers(1 << bits)) for name, bits in COMMAND.items()}
        for side in "ab":
            command[f"ad{side}"] = int(random.choice(rows)) << 5 | command[f"ad{side}"] & 31
            command[f"rst{side}"] &= int(random.integers(2))
            command[f"ce{side}"] |= int(random.integers(2))
        if command["ada"] >> 5 == command["adb"] >> 5 and command["wea"]:
            command["web"] = 0
        yield command


def results(text: str) -> list[list[int]]:
    """Simulate the cells from the Verilog ``text``, and return the results of all commands."""
    component = Cells()
    rtlil_text = convert_rtlil(component)
    library = verilate_text(component, lambda: text + convert_verilog(rtlil_text), text, rtlil_text)
    wanted = STEPS * RESULT_BYTES * (len(RAMS) + len(SIGNS))
    with SimulatedBoard(component, library=library) as board:
        for command in commands():
            word = place = 0
            for name, bits in COMMAND.items():
                word |= command[name] << place
                place += bits
            board.write(word.to_bytes(COMMAND_BYTES, "little"))
        for _ in range(wanted):
            if board.run(100_000) >= wanted:
                break
        got = np.frombuffer(board.read(wanted, 0.0), np.uint8).reshape(STEPS, -1, RESULT_BYTES).astype(object)
    return (got * [1 << 8 * i for i in range(RESULT_BYTES)]).sum(axis=2).tolist()


def signed(value: int, is_signed: int) -> int:
    return value - (1 << 18) if is_signed and value >> 17 else value


def check(got: list[list[int]]) -> None:
    models = [Model(ram) for ram in RAMS]
    for step, (command, row) in enumerate(zip(commands(), got, strict=True)):
        for number, model in enumerate(models):
            wanted = model.step(command)
            assert row[number] == wanted, f"{model.ram}, step {step}: {row[number]:x}, not {wanted:x}; {command}"
        for number, (signed_a, signed_b) in enumerate(SIGNS, len(RAMS)):
            product = signed(command["dia"], signed_a) * signed(command["dib"], signed_b)
            assert row[number] == product % (1 << 36), f"signs {signed_a} {signed_b}, step {step}: {command}"


def test_block_rams_and_multipliers() -> None:
    check(results(CELLS.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("enabled(DATA_WIDTH_A, ada) : 36'd0", "36'hfffffffff : 36'd0"),
        ("row * 40 + 20", "row * 40 + 18"),
        ("SIGNEDB & b[17]", "SIGNEDA & b[17]"),
    ],
    ids=["byte enables", "contents", "sign"],
)
def test_another_cell_is_found(was: str, now: str) -> None:
    text = CELLS.read_text()
    assert was in text
    with pytest.raises(AssertionError):
        check(results(text.replace(was, now)))
