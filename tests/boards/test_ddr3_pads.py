"""The PHY of DDR3 at the pins of every board: cells, constraints and clocks. The machine is almost empty."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards.board import Board
from lutern.boards.build import build, make_plan
from lutern.boards.catalog import BOARDS
from lutern.boards.system import System
from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, Dfi, LevelSettings

DDR3_BOARDS = [name for name, board in BOARDS.items() if board.ddr3]


class Echo(wiring.Component):
    """A small block in place of ``Top``. It sends the bytes of the link back, changed by the words of DFI."""

    def __init__(self, config: HwConfig, timings: Ddr3Timings) -> None:
        dfi = Dfi(timings.bank_bits, timings.pin_address_bits, timings.word_bits)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "dfi": Out(dfi),
                "levels": Out(LevelSettings(timings.data_bits // 8)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += [
            self.tx.valid.eq(self.rx.valid),
            self.rx.ready.eq(self.tx.ready),
            self.tx.payload.eq(self.rx.payload ^ self.dfi.rddata.xor()),
        ]
        m.d.memory += [self.dfi.wrdata.eq(self.dfi.rddata), self.dfi.wrdata_en.eq(~self.dfi.wrdata_en)]
        m.d.memory += [self.dfi.p0.a.eq(self.dfi.rddata), self.dfi.p1.a.eq(self.dfi.p0.a)]
        return m


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lutern.boards.system.Top", Echo)


def machine(board: Board) -> HwConfig:
    """Return the machine of the board's first preset with DDR3."""
    return board.config(next(preset for preset in board.presets if preset.startswith("ddr3")))


@pytest.mark.parametrize("name", DDR3_BOARDS)
def test_every_pin_is_used(name: str) -> None:
    board = BOARDS[name]
    platform, system = board.platform(), System(board, machine(board))
    platform.toolchain_prepare = lambda design, name, **options: None
    platform.prepare(system, "top")
    sites = [site for pin, site, _ in platform.iter_port_constraints_bits() if pin.startswith("ddram_0__")]
    wanted = [part for part in platform.lookup("ddram", 0).ios if hasattr(part, "ios")]
    assert sorted(sites) == sorted(pin for part in wanted for pin in part.ios[0].names)
    assert system.clocks["edge"] == 2 * system.clocks["memory"]
    assert list(system.clocks) == ["sync", "memory", "edge", "init"]


@pytest.mark.parametrize(("name", "bridges", "rows"), [("ecpix5-85f", 0, 15), ("orangecrab-85f", 1, 16)])
def test_cells_and_constraints(name: str, bridges: int, rows: int) -> None:
    board = BOARDS[name]
    files = board.platform().build(System(board, machine(board)), name="top", do_build=False).files
    text, constraints = (files[name] if isinstance(files[name], str) else files[name].decode() for name in FILES)
    cells = {kind: text.count(f"cell \\{kind} ") for kind in CELLS}
    assert cells == {**CELLS, "ECLKBRIDGECS": bridges}
    standard, termination = ("SSTL15", "75") if name.startswith("ecpix5") else ("SSTL135", "OFF")
    buffers: dict[str, Any] = dict(re.findall(r'IOBUF PORT "ddram_0__(\S+?)__io(?:\[\d+\])?" (.*);', constraints))
    assert buffers["dq"] == f"IO_TYPE={standard}_I SLEWRATE=FAST TERMINATION={termination}"
    assert buffers["dqs"] == f"IO_TYPE={standard}D_I SLEWRATE=FAST TERMINATION=OFF DIFFRESISTOR=100"
    assert buffers["ck"] == f"IO_TYPE={standard}D_I SLEWRATE=FAST"
    assert buffers["a"] == f"IO_TYPE={standard}_I SLEWRATE=FAST"
    assert len(re.findall(r'LOCATE COMP "ddram_0__a__io', constraints)) == rows
    assert ("cs_n" in buffers, "reset_n" in buffers) == (bool(bridges), bool(bridges))


FILES = ("top.il", "top.lpf")
CELLS = {
    "ECLKBRIDGECS": 0,
    "ECLKSYNCB": 1,
    "CLKDIVF": 1,
    "DDRDLLA": 1,
    "DQSBUFM": 2,
    "IDDRX2DQA": 16,
    "ODDRX2DQA": 16,
    "ODDRX2DQSB": 2,
    "BB": 18,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DDR3_BOARDS)
def test_the_pins_are_placed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Place and route accepts the pins: each byte is in the group of its strobe, and edge clocks are at legal
    places."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    board = BOARDS[name]
    plan = make_plan(board, machine(board))
    built = build(plan, [1], lambda done, total, what: None)
    assert {clock.domain for clock in built.best.clocks} == set(plan.clocks)
    assert built.best.met, built.best.clocks
