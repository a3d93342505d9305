"""Records the bytes at a port, in the form that docs/protocol.md describes and `lutern link dump` reads."""

from __future__ import annotations

import time
from typing import TextIO

from lutern.firmware.link_dump import HEAD
from lutern.firmware.serial_port import BAUD, SerialPort


class Recording:
    """A recording in ``file``, written line by line."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._begin = file, time.monotonic()
        file.write(f"{HEAD}\n")

    def note(self, direction: str, what: str) -> None:
        """Write a line, unless ``what`` is empty."""
        if what:
            self._file.write(f"{time.monotonic() - self._begin:.6f} {direction} {what}\n")


class RecordedPort(SerialPort):
    """A serial port that records all bytes."""

    def __init__(self, port: str, baud: int, file: TextIO) -> None:
        self._recording = Recording(file)
        super().__init__(port, baud)
        self._recording.note("=", str(baud))

    def set_baud(self, baud: int) -> None:
        """See ``SerialPort``."""
        super().set_baud(baud)
        self._recording.note("=", str(baud))

    def write(self, data: bytes) -> None:
        """See ``SerialPort``."""
        self._recording.note(">", data.hex())
        super().write(data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``SerialPort``."""
        data = super().read(limit, timeout_s)
        self._recording.note("<", data.hex())
        return data


def open_serial(port: str, baud: int = BAUD, record: TextIO | None = None) -> SerialPort:
    """Open a port, and record its bytes in ``record``, if given."""
    return SerialPort(port, baud) if record is None else RecordedPort(port, baud, record)


__all__ = ["RecordedPort", "Recording", "open_serial"]
