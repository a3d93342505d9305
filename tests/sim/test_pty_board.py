"""The simulated board's port: the time that it simulates, its end when the simulation fails, and its recordings.

The board is the model of the chip, which needs no compiler. tests/cli/test_port.py tests the gateware at such a port.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lutern.api.ports import open_port
from lutern.firmware import serial_port
from lutern.firmware.link import Client, SilenceError
from lutern.firmware.link_dump import dump
from lutern.firmware.loader import load_sections
from lutern.firmware.serial_port import CYCLES_PER_SECOND, PortError, SerialPort, simulated_cycles
from lutern.hw.presets import preset
from lutern.hw.protocol import INFO, Opcode
from lutern.model_ref.errors import LuternError
from lutern.sim.chip_model import FaultyLine, ModelChip
from lutern.sim.pty_board import QUIET_CYCLES, SLICE_CYCLES, PtyBoard
from processes import run_python

CONFIG = preset("stream-x32").with_(name="link", memory_words=1 << 12)


class Board:
    """The model of the chip as a simulated board. An answer is sent ``slices`` slices of time after the last byte."""

    def __init__(self, slices: int = 0, each_slice: Callable[[], None] = lambda: None) -> None:
        self.line = FaultyLine(ModelChip(CONFIG), 1, 0)
        self.slices, self.each_slice, self.left = slices, each_slice, 0
        self.answers = b""

    def write(self, data: bytes) -> None:
        self.line.write(data)
        self.answers += self.line.read(1 << 20, 0)
        self.left = self.slices

    def run(self, cycles: int) -> int:
        self.each_slice()
        self.left -= 1
        return len(self.answers) if self.left < 0 else 0

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self.answers = self.answers[:limit], self.answers[limit:]
        return data


def test_a_busy_computer_causes_no_timeout() -> None:
    """An answer takes 0.4 s on this computer, but only 0.1 s of the board's time. So a timeout of 0.2 s does not
    expire."""
    board = Board(slices=4, each_slice=lambda: time.sleep(0.1))
    with PtyBoard(board) as served, SerialPort(served.port) as port:
        assert port.is_simulated and port.cycles_per_second == CYCLES_PER_SECOND
        client = Client(port, timeout_s=0.2, tries=1)
        for _ in range(2):
            client.transact(Opcode.INFO)
        assert client.resent_count == 0 and board.line.written_frames == 3  # the INFO of the greeting is a third frame


def test_timeouts_count_the_boards_cycles() -> None:
    """A timeout counts the board's cycles, and the host waits for no more cycles than the timeout allows."""
    board = Board(slices=1 << 40)
    with PtyBoard(board) as served, SerialPort(served.port) as port:
        with pytest.raises(SilenceError, match="did not answer INFO: 3 frames were sent, 6 s passed in silence"):
            Client(port, timeout_s=2.0, tries=3).transact(Opcode.INFO)
        handle = os.open(served.port, os.O_RDONLY | os.O_NOCTTY)
        cycles = simulated_cycles(handle)
        os.close(handle)
    assert cycles is not None and cycles >= 6 * CYCLES_PER_SECOND


def test_an_idle_board_is_woken() -> None:
    """A quiet board stops its simulation, and continues if a host waits longer."""
    seconds = 2.5 * QUIET_CYCLES / CYCLES_PER_SECOND
    board = Board(slices=2 * QUIET_CYCLES // SLICE_CYCLES)
    with PtyBoard(board) as served, SerialPort(served.port) as port:
        board.write = lambda data: ModelWakes.write(board, data)  # type: ignore[method-assign]
        assert INFO.unpack(Client(port, timeout_s=seconds, tries=1).transact(Opcode.INFO))["word_bytes"] == 4


class ModelWakes:
    """A board on which an END byte wakes the simulation, but does not delay the answer."""

    @staticmethod
    def write(board: Board, data: bytes) -> None:
        left = board.left
        Board.write(board, data)
        if data == b"\xc0":
            board.left = left


def test_a_board_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the board's process is stopped, the clock of this computer ends the wait."""
    monkeypatch.setattr(serial_port, "STOPPED_S", 0.3)
    goes_on = threading.Event()
    with PtyBoard(Board(each_slice=lambda: bool(goes_on.wait(60)) and None)) as served, SerialPort(served.port) as port:
        port.write(b"\xc0")
        assert port.read(10, 1.0) == b""
        goes_on.set()


def test_a_failed_simulation_ends_the_port() -> None:
    """To the program at the port, the failure looks like an unplugged cable. ``wait`` reports the reason."""

    def fail() -> None:
        raise AssertionError("the memory part's rule 5 of sdram.v is broken")

    served = PtyBoard(Board(each_slice=fail))
    reason = (
        f"^The simulated board at {served.port} has ended: the memory part's rule 5 of sdram.v is broken; report this, "
        r"it is a defect of the gateware or of the simulation\.$"
    )
    with SerialPort(served.port) as port, pytest.raises(PortError, match="is gone; plug the board in again"):
        Client(port).transact(Opcode.INFO)
    with pytest.raises(LuternError, match=reason):
        served.wait()
    with pytest.raises(LuternError, match=reason), served:
        pass
    served.close()  # a second call is allowed


FAILS = """
import sys
from lutern.cli import board, main
class Fails:
    def __init__(self, *_): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def write(self, data): pass
    def run(self, cycles): raise AssertionError("a rule is broken")
board.SimulatedBoard = Fails
board.PtyBoard.__enter__ = lambda self: (open(self.port, "wb", 0).write(b"x"), self)[1]
sys.argv = ["lutern", "board"]
main.main()
"""


def test_the_board_command_says_why_it_ends() -> None:
    done = run_python(FAILS)
    assert done.returncode == 1 and done.stdout.startswith("/dev/")
    assert done.stderr.startswith("lutern: The simulated board at /dev/") and "a rule is broken; report" in done.stderr


def test_a_line_is_not_simulated() -> None:
    far, near = os.openpty()
    try:
        assert simulated_cycles(near) is None
        with SerialPort(os.ttyname(near)) as port:
            assert not port.is_simulated and port.cycles_per_second is None
    finally:
        os.close(far)
        os.close(near)


def test_a_recorded_session(tmp_path: Path) -> None:
    """The recording contains every frame that passed, including resent and damaged frames."""
    board = Board()
    board.line.rate = 1e-3
    board.line._left = {True: 700, False: 90}
    words = np.random.default_rng(3).integers(0, 256, (3000, 4), dtype=np.uint8)
    record = tmp_path / "record"
    with PtyBoard(board) as served, open_port(served.port, 3_000_000, record) as port:
        client = Client(port, timeout_s=0.2)
        load_sections(client, [(0, words)])
        port.set_baud(1_000_000)
    text = record.read_text()
    said = list(dump(text.splitlines()))
    kinds = [line.split()[3] for line in said[:-1] if " > " in line and "damaged" not in line]
    assert {"INFO", "CHECKSUM", "WRITE"} == set(kinds)
    assert said[0].endswith("= 3,000,000 baud") and said[-2].endswith("= 1,000,000 baud")
    assert f"to the board: {len(kinds):,} frames, " in said[-1] and len(kinds) >= 2 + 2 + 24
    assert client.resent_count > 0 and " 0 damaged" in said[-1] and "damaged: CRC" in "\n".join(said), "seed 1"


@pytest.mark.parametrize("place", ["folder", "no/such/file"])
def test_a_record_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LuternError), open_port("/dev/null", 1_000_000, tmp_path / place):
        pass
