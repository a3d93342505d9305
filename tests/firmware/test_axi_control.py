"""The link through AXI4-Lite registers: bytes, time-outs, and one error message for each wrong input."""

from __future__ import annotations

import random
import re
from collections import deque
from pathlib import Path

import pytest

from lutern.firmware.axi_control import POLL_S, WRITE_TIMEOUT_S, AxiLink, MappedRegisters
from lutern.firmware.link_errors import LinkError
from lutern.hw.axi_registers import BASE_AT, BUS_ERRORS_AT, DATA_AT, HAS_BYTE, NAME, NAME_AT, PORTS_AT, STATUS_AT
from lutern.hw.link.axi_lite import FIFO_BYTES
from lutern.model_ref.errors import LuternError

MIB = 1 << 20


class Machine:
    """A machine's registers as in hw/link/axi_lite.py. The machine answers each byte with ``answers`` equal bytes."""

    def __init__(self, ports: int = 2, answers: int = 1, takes: bool = True) -> None:
        self.others = {NAME_AT: NAME, PORTS_AT: ports, BUS_ERRORS_AT: 3}
        self.there: deque[int] = deque()
        self.back: deque[int] = deque()
        self.answers, self.takes = answers, takes
        self.now = 0.0
        self.poked: list[tuple[int, int]] = []

    def peek(self, offset: int) -> int:
        if offset == STATUS_AT:
            return FIFO_BYTES - len(self.there) | len(self.back) << 16
        if offset == DATA_AT:
            return self.back.popleft() | HAS_BYTE if self.back else 0
        return self.others[offset]

    def poke(self, offset: int, value: int) -> None:
        if offset != DATA_AT:
            self.poked.append((offset, value))
            return
        assert len(self.there) < FIFO_BYTES, "the host must not send a byte for which the FIFO has no room"
        self.there.append(value)

    def wait(self, seconds: float) -> None:
        assert seconds == POLL_S
        self.now += 4 * seconds  # an operating system often waits longer than was requested
        while self.takes and self.there and len(self.back) + self.answers <= FIFO_BYTES:
            self.back.extend([self.there.popleft()] * self.answers)

    def seconds(self) -> float:
        return self.now


def link(machine: Machine, **others: object) -> AxiLink:
    return AxiLink(machine, [0x1000, 0x4000_0000], **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("answers", [1, 5])
def test_bytes(answers: int) -> None:
    """All bytes arrive, although the machine's FIFOs are too small for all bytes and answers arrive while the host
    still writes."""
    machine = Machine(answers=answers)
    board = link(machine)
    sent = random.Random(1).randbytes(3 * FIFO_BYTES)
    board.write(sent)
    wanted = bytes(byte for byte in sent for _ in range(answers))
    found = b""
    while data := board.read(100, 1.0):
        assert len(data) <= 100
        found += data
    assert found == wanted, "seed 1"


def test_time_outs() -> None:
    machine = Machine(takes=False)
    board = link(machine)
    assert board.read(10, 0.5) == b"" and 0.5 <= machine.now < 0.5 + 8 * POLL_S
    began = machine.now
    with pytest.raises(LinkError, match=r"^The machine has taken no byte for 20 s; reset it and repeat the command\.$"):
        board.write(bytes(FIFO_BYTES + 1))
    assert 0 <= machine.now - began - WRITE_TIMEOUT_S < 1


def test_bases_and_errors() -> None:
    machine = Machine()
    board = AxiLink(machine, [0xAB_CDEF_0000, 0x1000], [MIB, MIB], MIB)
    assert machine.poked == [(BASE_AT, 0xCDEF_0000), (BASE_AT + 4, 0xAB), (BASE_AT + 8, 0x1000), (BASE_AT + 12, 0)]
    assert board.bus_errors == 3


@pytest.mark.parametrize(
    ("bases", "sizes", "needed", "sentence"),
    [
        ([0x1000], None, 0, "1 bases were given, but the machine has 2 AXI4 ports; give one for each."),
        ([0, MIB], [MIB] * 3, 0, "3 sizes of memory were given, but the machine has 2 AXI4 ports; give one for each."),
        (
            [0x1000, 0x1F800],
            None,
            0,
            "the words of port 1 begin at 0x1f800; give a multiple of 4,096 so that they end below 2^40.",
        ),
        (
            [-0x1000, 0x1000],
            None,
            0,
            "the words of port 0 begin at -0x1000; give a multiple of 4,096 so that they end below 2^40.",
        ),
        (
            [0x1000, (1 << 40) - MIB],
            None,
            MIB + 1,
            "the words of port 1 begin at 0xfffff00000; give a multiple of 4,096 so that they end below 2^40.",
        ),
        (
            [0, 4 * MIB],
            [4 * MIB, MIB],
            2 * MIB,
            "port 1 has 1,048,576 bytes of memory, but its share of the image is 2,097,152; give every port as much, "
            "because each word is striped over all ports.",
        ),
        (
            [2 * MIB, MIB],
            [4 * MIB, 4 * MIB],
            MIB + 1,
            "the words of port 1 begin at 0x100000, the words of port 0 at 0x200000, and each port needs 1,048,577 "
            "bytes; give bases whose words do not overlap.",
        ),
    ],
)
def test_wrong_places(bases: list[int], sizes: list[int] | None, needed: int, sentence: str) -> None:
    machine = Machine()
    with pytest.raises(LuternError, match=f"^{re.escape(sentence)}$"):
        AxiLink(machine, bases, sizes, needed)
    assert not machine.poked


def test_another_device() -> None:
    machine = Machine()
    machine.others[NAME_AT] = 0xFFFFFFFF
    with pytest.raises(
        LuternError, match=r"^register 0 is 0xffffffff, but register 0 of a Lutern machine is 0x4e52544c; give the "
    ):
        link(machine)
    assert not machine.poked


def test_mapped_registers() -> None:
    registers = MappedRegisters("/dev/zero")  # a device whose pages are memory
    for offset in (0, 4, 0xFFC):
        assert registers.peek(offset) == 0
        registers.poke(offset, 0x89ABCDEF)
        assert registers.peek(offset) == 0x89ABCDEF
    before = registers.seconds()
    registers.wait(POLL_S)
    assert registers.seconds() > before
    with pytest.raises(LuternError, match=r"^register 0 is 0x89abcdef, "):
        AxiLink(registers, [0])


def test_no_device(tmp_path: Path) -> None:
    mend = "give the UIO device of the machine, as /dev/uio0"
    missing, file = tmp_path / "uio0", tmp_path / "file"
    file.write_bytes(bytes(4096))
    for path, sentence in (
        (
            missing,
            f"{missing} cannot be opened (No such file or directory); {mend}, and make sure that you may write to it.",
        ),
        (tmp_path, f"{tmp_path} cannot be opened (Is a directory); {mend}, and make sure that you may write to it."),
        (file, f"{file} is no device; {mend}."),
        ("/dev/null", f"/dev/null cannot be mapped ([Errno 19] No such device); {mend}."),
    ):
        with pytest.raises(LuternError, match=f"^{re.escape(sentence)}$"):
            MappedRegisters(path)
    assert file.read_bytes() == bytes(4096)
