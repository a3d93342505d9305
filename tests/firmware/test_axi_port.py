"""The place of a machine with AXI4, as the command line gives it, and the words of its memory in a file that maps this
memory."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest

from lutern.firmware import axi_port
from lutern.firmware.axi_port import AxiPlace, AxiPort, MappedWords, axi_place
from lutern.firmware.link_dump import HEAD
from lutern.firmware.program import lay_out
from lutern.hw.axi_registers import BASE_AT, DATA_AT, HAS_BYTE, NAME, NAME_AT, PORTS_AT, STATUS_AT
from lutern.hw.presets import preset
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 5
BUS = 1 << 40
CONFIG = preset("axi-x256")
MODEL = ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=2, intermediate_size=96)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("axi:/dev/uio0@0x70000000", AxiPlace("/dev/uio0", (0x70000000,), (BUS,))),
        ("axi:/dev/uio0@0X7000a000,8192", AxiPlace("/dev/uio0", (0x7000A000, 8192), (BUS, BUS))),
        ("axi:a@b@010+0x10,0x20+32,3", AxiPlace("a@b", (10, 0x20, 3), (16, 32, BUS))),
    ],
)
def test_places(text: str, place: AxiPlace) -> None:
    assert axi_place(text) == place


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/dev/uio0",
        "/dev/uio0@",
        "@0x1000",
        "/dev/uio0@0x1000,",
        "/dev/uio0@0x1000, 0x2000",
        "/dev/uio0@7000a000",
        "/dev/uio0@-1",
        "/dev/uio0@0x1000+",
        "/dev/uio0@" + "9" * 5000,
        "/dev/uio0@\u0664",
    ],
)
def test_invalid_places(rest: str) -> None:
    sentence = f"axi:{rest} is no place of a machine with AXI4; give axi:DEVICE@BASE,... with a base for each AXI4 port"
    with pytest.raises(LuternError, match=f"^{re.escape(sentence)}, as [^;.]*, or [^;.]*[.]$"):
        axi_place(f"axi:{rest}")


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(np.random.default_rng(SEED).bytes(1 << 17))
    return path


@pytest.mark.parametrize(
    ("word_bytes", "bases"), [(16, (0x3000,)), (64, (0x9000, 0x1000, 0x11000, 0x18000)), (16, (0, 0x8000))]
)
def test_words_are_striped(word_bytes: int, bases: tuple[int, ...], memory: Path) -> None:
    """``poke`` writes each byte where docs/axi.md says, and changes no other byte of the file."""
    before, count, address = memory.read_bytes(), 300, 55
    words = np.random.default_rng(SEED).integers(0, 256, (count, word_bytes), dtype=np.uint8)
    share = word_bytes // len(bases)
    descriptor = os.open(memory, os.O_RDWR)
    mapped = MappedWords(memory, descriptor, bases, share, address + count)
    os.close(descriptor)
    expected = bytearray(before)
    for word in range(count):
        for byte in range(word_bytes):
            expected[bases[byte // share] + share * (address + word) + byte % share] = words[word, byte]
    mapped.poke(address, words)
    assert memory.read_bytes() == bytes(expected), f"seed {SEED}"
    np.testing.assert_array_equal(mapped.peek(address, count), words)
    np.testing.assert_array_equal(mapped.peek(address + 3, 1), words[3:4])
    first = [before[bases[byte // share] + byte % share] for byte in range(word_bytes)]
    assert mapped.peek(0, 1).tolist() == [first]


class Registers:
    """A machine with two AXI4 ports that sends the bytes ``heard`` to the host."""

    def __init__(self, heard: bytes = b"") -> None:
        self.values = {NAME_AT: NAME, PORTS_AT: 2}
        self.heard = list(heard)

    def peek(self, offset: int) -> int:
        if offset == STATUS_AT:
            return 8 | len(self.heard) << 16
        return HAS_BYTE | self.heard.pop(0) if offset == DATA_AT else self.values[offset]

    def poke(self, offset: int, value: int) -> None:
        self.values[offset] = value

    def wait(self, seconds: float) -> None:
        raise AssertionError("the host must not wait, because bytes are there")

    def seconds(self) -> float:
        return 0.0


def port(
    monkeypatch: pytest.MonkeyPatch, text: str, memory: Path | None = None, record: io.StringIO | None = None
) -> AxiPort:
    monkeypatch.setattr(axi_port, "MappedRegisters", lambda device: Registers(b"\xc0\x01"))
    return AxiPort(axi_place(f"axi:/dev/uio9@{text}"), memory, record)


def test_bytes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    record = io.StringIO()
    link = port(monkeypatch, "0x1000,0x9000", record=record)
    link.write(b"\x12\x34")
    assert (link.read(10, 0.0), link.read(10, 0.0)) == (b"\xc0\x01", b"")
    assert re.fullmatch(rf"{HEAD}\n\d+\.\d{{6}} > 1234\n\d+\.\d{{6}} < c001\n", record.getvalue())
    assert link.registers.peek(BASE_AT + 8) == 0x9000


def test_the_file_must_have_room_for_the_program(monkeypatch: pytest.MonkeyPatch, memory: Path) -> None:
    """The size of a program is known only after its layout. The file of the memory must then be large enough."""
    program = lay_out(integer_weights(random_checkpoint(MODEL, SEED)), CONFIG)
    needed = 16 * len(program.words)
    assert CONFIG.memory_ports == 2 and 4096 < needed < 0x8000
    assert port(monkeypatch, "0x1000,0x9000").reach(program) is None
    link = port(monkeypatch, "0x1000,0x9000", memory)
    door = link.reach(program)
    assert door is not None
    door.poke(0, program.words)
    link.close()
    link.close()
    np.testing.assert_array_equal(door.peek(0, len(program.words)), program.words)
    for text, sentence in (
        (
            "0x1000,0x2000",
            f"the words of port 0 begin at 0x1000, the words of port 1 at 0x2000, and each port needs {needed:,} bytes",
        ),
        (
            "0x1000,0x9000+4096",
            f"port 1 has 4,096 bytes of memory, but its share of the image is {needed:,}; give every",
        ),
        ("0x1000,0x1f000", f"{memory} cannot be mapped: {needed:,} bytes at 0x1f000 (mmap length is greater than file"),
    ):
        with pytest.raises(LuternError, match=f"^{re.escape(sentence)}"):
            port(monkeypatch, text, memory).reach(program)
    with pytest.raises(
        LuternError, match=r"^/no/memory cannot be opened \(No such file or directory\); give a file that "
    ):
        port(monkeypatch, "0x1000,0x9000", Path("/no/memory"))
    with pytest.raises(
        LuternError, match=r"^1 bases were given, but the machine has 2 AXI4 ports; give one for each\.$"
    ):
        port(monkeypatch, "0x1000")


def test_room_for_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """States in the memory follow the words of the program, so the ports' memories must not overlap the states."""
    program = lay_out(integer_weights(random_checkpoint(MODEL, SEED)), CONFIG.with_(state="memory"))
    words = 16 * program.sizes.words
    pages = -(-words // 4096) * 4096
    with pytest.raises(
        LuternError, match=r"^the words of port 0 begin at 0x0, the words of port 1 at .* do not overlap\.$"
    ):
        port(monkeypatch, f"0,{pages}").reach(program)
