"""Serial ports, on pseudo-terminals: bytes, and one error message for each possible error."""

from __future__ import annotations

import errno
import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from lutern.firmware import serial_port
from lutern.firmware.serial_port import PortError, SerialPort


class Cable:
    """A pseudo-terminal whose far end belongs to the test."""

    def __init__(self) -> None:
        self.far, self.near = os.openpty()
        tty.setraw(self.near)
        self.port = os.ttyname(self.near)
        self._pulling = threading.Lock()

    def pull(self) -> None:
        """Close the terminal once. A test's timer and the end of a test may both call this function."""
        with self._pulling:
            if self.far >= 0:
                for handle in (self.far, self.near):
                    os.close(handle)
                self.far = self.near = -1


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    yield made
    made.pull()


def test_bytes_in_both_directions(cable: Cable) -> None:
    everything = bytes(range(256)) * 4
    with SerialPort(cable.port) as port:
        threading.Thread(target=port.write, args=(everything,)).start()
        came = b""
        while len(came) < len(everything):
            came += os.read(cable.far, 4096)
        assert came == everything
        os.write(cable.far, everything)
        assert port.read(10, 1.0) == everything[:10]
        came = everything[:10]
        while len(came) < len(everything):
            came += port.read(4096, 1.0)
        assert came == everything
        before = time.monotonic()
        assert port.read(10, 0.05) == b""
        assert 0.04 < time.monotonic() - before < 2


def test_bytes_for_an_earlier_program_are_dropped(cable: Cable) -> None:
    os.write(cable.far, b"of an earlier program")
    with SerialPort(cable.port) as port:
        assert port.read(100, 0.02) == b""


def test_a_port_that_does_not_exist() -> None:
    with pytest.raises(
        PortError,
        match=r"^There is no port /dev/ttyLUTERN9; plug the board in and give its port "
        r"\(ports here: .*\)\.$",
    ):
        SerialPort("/dev/ttyLUTERN9")


def test_another_rate(cable: Cable) -> None:
    """The port uses the new rate for the following bytes, and drops bytes that came before. An invalid rate is
    refused."""
    with SerialPort(cable.port) as port:
        assert port.baud == 3_000_000
        os.write(cable.far, b"noise")
        for baud in (8_000_000, 5_333_333, 1_000_000):
            port.set_baud(baud)
            assert port.baud == baud and port.read(100, 0.02) == b""
        os.write(cable.far, b"answer")
        assert port.read(6, 1.0)[:1] == b"a"
        with pytest.raises(PortError, match=f"^The port {cable.port} cannot be used at -1 baud"):
            port.set_baud(-1)


def test_a_port_in_use(cable: Cable) -> None:
    with SerialPort(cable.port), pytest.raises(PortError) as error:
        SerialPort(cable.port)
    assert str(error.value) == (
        f"The port {cable.port} is in use by another program; end that one or give another port."
    )
    SerialPort(cable.port).close()  # the port is free again


def test_port_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial_port.serial, "Serial", refuse)
    with pytest.raises(PortError) as error:
        SerialPort("/dev/ttyUSB0")
    assert str(error.value) == (
        "The port /dev/ttyUSB0 may not be opened by this user; join the group that owns it (dialout on Debian and "
        "Ubuntu) and log in again."
    )


def test_a_file_and_invalid_baud_rates(tmp_path: Path, cable: Cable) -> None:
    path = tmp_path / "file"
    path.write_text("")
    for port, baud in ((str(path), 1_000_000), (cable.port, -1), (cable.port, 0)):
        with pytest.raises(PortError, match=f"^The port {port} cannot be used at {baud:,} baud.*; give "):
            SerialPort(port, baud)


@pytest.mark.parametrize("what", ["read", "write"])
def test_unplugged(what: str, cable: Cable) -> None:
    with SerialPort(cable.port) as port:
        os.write(cable.far, b"x")
        assert port.read(5, 1.0) == b"x"
        threading.Timer(0.05, cable.pull).start()

        def until_it_is_gone() -> None:
            for _ in range(1000):
                if what == "read":
                    port.read(5, 1.0)
                else:
                    port.write(b"y")
                    time.sleep(0.005)

        with pytest.raises(PortError) as error:
            until_it_is_gone()
        assert str(error.value) == (
            f"The port {cable.port} is gone; plug the board in again and repeat the command: data that the board's "
            f"memory holds already are not sent again."
        )


def test_a_port_that_takes_no_bytes(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "WRITE_TIMEOUT_S", 0.05)
    with (
        SerialPort(cable.port) as port,
        pytest.raises(PortError, match=f"^The port {cable.port} takes no bytes any more"),
    ):
        port.write(bytes(1 << 20))
