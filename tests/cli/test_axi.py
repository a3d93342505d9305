"""Commands at a machine with AXI4. The simulated board of this machine replaces /dev/uio9, and a file replaces
/dev/mem."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from letters import LETTERS, save_letters
from lutern.cli import selftest
from lutern.cli.commands import app
from lutern.firmware import axi_port
from lutern.firmware.conversations import Sampling, generate
from lutern.firmware.link_dump import dump
from lutern.firmware.program import lay_out
from lutern.firmware.session import GoldenSession
from lutern.hw.axi_registers import STATUS_AT
from lutern.hw.presets import PRESETS, preset
from lutern.hw.protocol import PROTOCOL_VERSION
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.sim.axi_board import AxiBoard
from processes import lutern

CONFIG = preset("axi-x128").with_(memory_ports=2, memory_words=1 << 23, top_k=0)
"""The machine of tests/sim/test_axi_board.py, so that it is compiled only once."""
BASES = (0x21000, 0x3000)
PLACE = f"axi:/dev/uio9@{BASES[0]:#x},{BASES[1]}"
TOKENS = 4


class Registers:
    """The registers of a simulated board. ``memory``: a file with the words that the machine reads, in place of a DRAM
    on the bus."""

    memory: Path | None = None
    words = 0

    def __init__(self, board: AxiBoard) -> None:
        self.board = board

    def peek(self, offset: int) -> int:
        if offset == STATUS_AT and self.memory is not None:
            content = np.fromfile(self.memory, np.uint8)
            shares = [content[base : base + 8 * self.words].reshape(-1, 8) for base in BASES]
            self.board.poke(0, np.concatenate(shares, axis=1))
        return self.board.register_read(offset)

    def poke(self, offset: int, value: int) -> None:
        self.board.register_write(offset, value)

    def wait(self, seconds: float) -> None:
        self.board.pass_cycles(2000)

    def seconds(self) -> float:
        return self.board.cycles / CONFIG.clock_hz


@pytest.fixture(scope="module")
def whole() -> Iterator[AxiBoard]:
    with AxiBoard(CONFIG, bases=BASES) as board:
        yield board


@pytest.fixture
def machine(whole: AxiBoard, monkeypatch: pytest.MonkeyPatch) -> Registers:
    """Return an empty machine at /dev/uio9."""
    whole.poke(0, np.zeros((1 << 14, CONFIG.word_bytes), np.uint8))
    whole.reset()
    registers = Registers(whole)

    def opened(device: str) -> Registers:
        assert device == "/dev/uio9"
        return registers

    monkeypatch.setattr(axi_port, "MappedRegisters", opened)
    monkeypatch.setitem(PRESETS, CONFIG.name, CONFIG)
    return registers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_letters(tmp_path_factory.mktemp("model"))


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_text_by_the_front_and_the_back_door(machine: Registers, folder: Path, tmp_path: Path) -> None:
    """The text equals the integer model's text, and loading over the link stores the same words as loading through the
    file of the memory."""
    weights = integer_weights(load_checkpoint(folder))
    tokens = [token for token, _ in generate(GoldenSession(weights), [1, 2], TOKENS, Sampling(0.9, seed=4))]
    expected = "ab" + "".join(LETTERS[token] for token in tokens) + "\n"
    words = lay_out(weights, CONFIG).words
    common = ("generate", "ab", "--model", folder, "-n", str(TOKENS), "-t", "0.9", "--seed", "4", "--on", PLACE)
    record = tmp_path / "record"
    done = command(*common, "--record", record)
    assert (done.exit_code, done.stdout) == (0, expected), done.stderr
    assert f"axi-x128, 80 lanes, {PLACE}: " in done.stderr
    np.testing.assert_array_equal(machine.board.peek(0, len(words)), words)
    said = "\n".join(dump(record.read_text().splitlines()))
    assert " WRITE " in said and " RUN " in said and "damaged" not in said.rpartition("\n")[0]

    machine.board.poke(0, np.zeros_like(words))
    machine.memory, machine.words = tmp_path / "memory", len(words)
    machine.memory.write_bytes(bytes(1 << 18))
    done = command(*common, "--record", record, "--memory", machine.memory)
    assert (done.exit_code, done.stdout) == (0, expected), done.stderr
    np.testing.assert_array_equal(machine.board.peek(0, len(words)), words)
    assert " WRITE " not in "\n".join(dump(record.read_text().splitlines()))


def test_selftest_and_cycles(machine: Registers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The selftest uses no word beyond the given end of a memory."""
    passed = [
        f"pass  link    protocol version {PROTOCOL_VERSION}, machine axi-x128, 300 MHz, AXI4-Lite",
        "pass  memory  300 words of 16 bytes, and their complements, written and read back",
    ]
    done = command("selftest", "--on", f"{PLACE}+4096", "--words", "300")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == passed
    assert done.stdout.splitlines()[2].startswith(
        "fail  decode  port 1 has 4,096 bytes of memory, but its share of the"
    )
    monkeypatch.setattr(selftest, "largest_shipped", lambda config: None)
    done = command("selftest", "--on", f"{PLACE}+0x2000", "--words", "300")
    assert done.exit_code == 0, done.stdout
    assert done.stdout.splitlines() == [
        *passed,
        "pass  decode  random weights: 8 tokens and their logits equal the integer model's",
    ]
    done = command("selftest", "--on", f"{PLACE}+0x1000", "--words", "513")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1].startswith(
        "fail  memory  port 1 has 4,096 bytes of memory, but its share of the "
    )
    with pytest.raises(LuternError, match=r"^axi-x128 has no counters; build it with them"):
        command("cycles", "--on", PLACE, "--model", folder)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "generate",
            "--on axi:/dev/uio9",
            "axi:/dev/uio9 is no place of a machine with AXI4; give axi:DEVICE@BASE,... ",
        ),
        ("cycles", f"--on {PLACE}zz", f"{PLACE}zz is no place of a machine with AXI4; give "),
        ("selftest", "--on axi:", "axi: is no place of a machine with AXI4; give "),
        (
            "generate",
            f"--on {PLACE} --baud 3000000",
            f"--baud 3000000 is for a serial port, but --on {PLACE} is no such port; ",
        ),
        (
            "generate",
            "--on sim --memory here",
            "--memory here is for a machine with AXI4, but --on sim is no such machine; leave",
        ),
        (
            "cycles",
            "--on /dev/ttyUSB9 --memory here",
            "--memory here is for a machine with AXI4, but --on /dev/ttyUSB9 is no such machine",
        ),
        (
            "selftest",
            "--on axi:/dev/uio9@0",
            "1 bases were given, but the machine has 2 AXI4 ports; give one for each.",
        ),
        ("selftest", "--on axi:/dev/uio9@0,4097", "the words of port 1 begin at 0x1001; give a multiple of 4,096 so "),
        (
            "selftest",
            f"--on {PLACE} --memory /no/memory",
            "/no/memory cannot be opened (No such file or directory); give",
        ),
    ],
)
def test_refused(name: str, options: str, sentence: str, machine: Registers) -> None:
    with pytest.raises(LuternError, match=f"^{re.escape(sentence)}"):
        command(name, *options.split())


def test_no_machine() -> None:
    with pytest.raises(
        LuternError, match=r"^/dev/uio999 cannot be opened \(No such file or directory\); give the UIO "
    ):
        command("selftest", "--on", "axi:/dev/uio999@0x1000")
    done = lutern("selftest", "--on", "axi:/dev/zero@0x1000")
    sentence = (
        "register 0 is 0x00000000, but register 0 of a Lutern machine is 0x4e52544c; give the address of its "
        "AXI4-Lite slave."
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"lutern: {sentence}\n")
