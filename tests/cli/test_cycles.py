"""`lutern cycles`: phases of a token from the counters of a chip, simulated and at a port, and refused options."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lutern.cli.commands import app
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Session
from lutern.hw.config import HwConfig
from lutern.hw.link.uart import LOWEST_DIVISOR
from lutern.hw.presets import PRESETS, preset
from lutern.hw.top import SerialTop, Top
from lutern.measure.cycles import token_cycles
from lutern.measure.phases import count_token
from lutern.model_ref.checkpoint import save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.pty_board import PtyBoard

SEED = 5
MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
FOUR = preset("tiny").with_(name="tiny-four", streams=4, max_state=512)
"""The machine of tests/measure/test_cycles.py, with counters."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(PRESETS, FOUR.name, FOUR)
    (tmp_path / "model").mkdir()
    save_checkpoint(tmp_path / "model", MODEL, random_checkpoint(MODEL, SEED).tensors)
    return tmp_path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["cycles", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def check(text: str, config: HwConfig, streams: int) -> None:
    lines = [line.split("\t") for line in text.splitlines() if "\t" in line]
    headings, rows = lines[0], lines[1:]
    assert [len(row) for row in rows] == [len(headings)] * (7 * MODEL.num_hidden_layers + 4)
    assert rows[1][:2] == ["layer 0", "f_proj"] and rows[-2][:2] == ["head", "choice"]
    numbers = [[int(cell.replace(",", "")) for cell in row[2:]] for row in rows]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    expected = token_cycles(MODEL, config, streams).cycles
    assert numbers[-1][:2] == [expected, expected] and all(cycles == modelled for cycles, modelled, *_ in numbers)
    assert all(cycles == sum(rest[:5]) == sum(rest[5:]) for cycles, _, *rest in numbers)


@pytest.mark.slow
def test_simulated(folder: Path) -> None:
    text = run("--model", folder / "model", "--preset", FOUR.name, "--streams", 3, "-o", folder / "token.svg")
    check(text, FOUR, 3)
    assert all("layer 1" in (folder / name).read_text() for name in ("token.svg", "token-layers.svg"))
    assert "command: lutern " in (folder / "token.svg").read_text()
    rows = list(csv.DictReader((folder / "token.csv").open()))
    assert sum(int(row["cycles"]) for row in rows) == token_cycles(MODEL, FOUR, 3).cycles
    assert (folder / "token-layers.csv").read_text().startswith("part,beats,")


@pytest.mark.slow
def test_at_a_port(folder: Path) -> None:
    """A chip at a serial line gives the same table. The chip's digest tells the command that the chip has counters."""
    config = preset("tiny").with_(counters=True)
    with SimulatedBoard(SerialTop(config, LOWEST_DIVISOR)) as board, PtyBoard(board) as served:
        check(run("--model", folder / "model", "--on", served.port), config, 1)


def test_session_refuses_counters() -> None:
    """A session refuses to read counters if nothing has run, if the machine has no counters, or if the model has more
    layers than the table of counters has rows. The session also refuses too many streams."""
    config = FOUR.with_(counters=True)
    program = lay_out(integer_weights(random_checkpoint(MODEL, SEED)), config)
    with SimulatedBoard(Top(config)) as board:
        session = Session(Client(board), program)
        with pytest.raises(LuternError, match=r"^no token was chosen since the machine was set up, so nothing is"):
            session.counters()
        with pytest.raises(LuternError, match=r"^5 streams were asked for, but tiny-four takes 1 to 4 with this model"):
            count_token(session, 5)
        session.config = FOUR
        with pytest.raises(LuternError, match=r"^tiny-four has no counters; build it with them: lutern build --count"):
            session.counters()
        session.config = config
        deep = ModelConfig(vocab_size=37, hidden_size=4, num_hidden_layers=30, intermediate_size=4)
        session.program = lay_out(integer_weights(random_checkpoint(deep, SEED)), config)
        with pytest.raises(
            LuternError, match=r"^a token of this model has 213 phases, but the counters of tiny-four hold"
        ):
            session.counters()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--on", "moon"),
            r"^there is nothing called moon to count on; give sim, a port such as /dev/ttyUSB0, or axi:",
        ),
        (
            ("-o", "picture.jpg"),
            r"^picture.jpg cannot be drawn; give a name that ends in .svg, .pdf, .png, in a folder",
        ),
        (("-o", "nowhere/picture.svg"), r"^nowhere/picture.svg cannot be drawn; give a name that ends in .svg"),
        (
            ("--preset", "host"),
            r"^host waits for words from the host, for a time that depends on the line; give a "
            "port",
        ),
    ],
)
def test_bad_options(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(LuternError, match=sentence):
        run(*arguments)
