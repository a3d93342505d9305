"""A serial port as a ``Link``: the board's USB bridge, or the pseudo-terminal of a simulated board.

The port is opened exclusively, with a lock that every program using pyserial respects. Each error of a port has
its own message.

A simulated board writes its cycle count to the window size of the pseudo-terminal, which a serial line does not use:

    rows: SIMULATED or IDLE │ columns, x, y: the cycle count, 16 bits in each, the highest bits first

On such a port, one second of a time limit is ``CYCLES_PER_SECOND`` cycles, however long this computer simulates them. A
board that has received nothing for a long time is idle and counts no cycles. A host that waits for an idle board sends
it an END byte, which is an empty frame.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import struct
import termios
import time

import serial
from serial.tools.list_ports import comports

from lutern.firmware.link import LinkError
from lutern.hw.protocol import END

BAUD = 3_000_000
WRITE_TIMEOUT_S = 20.0
"""Seconds after which a port that accepts no bytes is treated as broken."""
CYCLES_PER_SECOND = 2_000_000
"""Number of cycles of a simulated board that count as one second of a time limit. A computer simulates about this
number of cycles of a small design in one second.
"""
SIMULATED, IDLE = 0x4C54, 0x4C49
"""Rows of the window of a simulated board's port: "LT" while the board simulates, else "LI"."""
LOOK_S = 0.1
"""Seconds between two reads of a simulated board's clock."""
STOPPED_S = 120.0
"""Seconds after which a simulated board whose cycle count does not change is treated as stopped."""


class PortError(LinkError):
    """The port cannot be opened, or has disappeared."""


class SerialPort:
    """A port with 8N1 and no flow control. ``baud`` must be the baud rate of the gateware, and can be changed."""

    def __init__(self, port: str, baud: int = BAUD) -> None:
        self.port, self.baud = port, baud
        if baud < 1:
            raise PortError(f"The port {port} cannot be used at {baud:,} baud; give the gateware's rate.")
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=WRITE_TIMEOUT_S, exclusive=True)
        except (OSError, ValueError, OverflowError) as error:  # pyserial's own error is an OSError
            raise PortError(_refusal(port, baud, error)) from None
        with contextlib.suppress(OSError, ValueError, NotImplementedError, AttributeError):
            self._serial.set_low_latency_mode(True)  # otherwise FTDI's bridges hold answers back for 16 ms
        self._serial.reset_input_buffer()
        self.is_simulated = simulated_cycles(self._serial.fileno()) is not None

    def set_baud(self, baud: int) -> None:
        """Change the baud rate. Bytes that wait to be read were sent at the old baud rate, and are dropped."""
        try:
            self._serial.baudrate = baud
            self._serial.reset_input_buffer()
        except (OSError, ValueError, OverflowError) as error:
            raise PortError(_refusal(self.port, baud, error)) from None
        self.baud = baud

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            raise PortError(
                f"The port {self.port} takes no bytes any more; unplug the board, plug it in again and "
                "repeat the command."
            ) from None
        except OSError:
            raise self._gone() from None

    def read(self, limit: int, timeout_s: float) -> bytes:
        """Return at most `limit` bytes as soon as at least one has arrived, or no bytes after `timeout_s`."""
        try:
            return self._read_simulated(limit, timeout_s) if self.is_simulated else self._read(limit, timeout_s)
        except (OSError, TypeError):  # pyserial raises a TypeError if the port vanishes while it is read
            raise self._gone() from None

    def _read(self, limit: int, timeout_s: float) -> bytes:
        self._serial.timeout = timeout_s
        first = self._serial.read(1)
        return first + self._serial.read(min(limit - 1, self._serial.in_waiting)) if first else b""

    def _read_simulated(self, limit: int, timeout_s: float) -> bytes:
        """Read as `_read` does, but measure `timeout_s` in cycles of the board."""
        begin = before = self._cycles()
        stopped_at = time.monotonic() + STOPPED_S
        while True:
            data = self._read(limit, LOOK_S)
            cycles = self._cycles()
            if data or cycles - begin >= timeout_s * CYCLES_PER_SECOND or time.monotonic() > stopped_at:
                return data
            if cycles != before:
                before, stopped_at = cycles, time.monotonic() + STOPPED_S
            elif _window(self._serial.fileno())[0] == IDLE:
                self._serial.write(bytes([END]))

    def _cycles(self) -> int:
        return simulated_cycles(self._serial.fileno()) or 0

    @property
    def cycles_per_second(self) -> int | None:
        """Number of cycles of a simulated board that count as one second of a time limit; None for a real board."""
        return CYCLES_PER_SECOND if self.is_simulated else None

    def close(self) -> None:
        """Close the port, and release its lock."""
        with contextlib.suppress(OSError):
            self._serial.close()

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gone(self) -> PortError:
        return PortError(
            f"The port {self.port} is gone; plug the board in again and repeat the command: data that the board's "
            f"memory holds already are not sent again."
        )


def show_cycles(handle: int, cycles: int, *, is_idle: bool = False) -> None:
    """Write a simulated board's cycle count to the window size of its pseudo-terminal. Either end may be ``handle``."""
    window = (IDLE if is_idle else SIMULATED, *(cycles >> shift & 0xFFFF for shift in (32, 16, 0)))
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("4H", *window))


def simulated_cycles(handle: int) -> int | None:
    """Return the cycle count of the simulated board at this port; None for a real line."""
    rows, *parts = _window(handle)
    return parts[0] << 32 | parts[1] << 16 | parts[2] if rows in (SIMULATED, IDLE) else None


def _window(handle: int) -> tuple[int, ...]:
    try:
        return struct.unpack("4H", fcntl.ioctl(handle, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return (0, 0, 0, 0)


def _refusal(port: str, baud: int, error: Exception) -> str:
    """Return why a port cannot be opened, in one sentence."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        found = ", ".join(sorted(item.device for item in comports())) or "none at the moment"
        return f"There is no port {port}; plug the board in and give its port (ports here: {found})."
    if code in (errno.EAGAIN, errno.EBUSY):
        return f"The port {port} is in use by another program; end that one or give another port."
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"The port {port} may not be opened by this user; join the group that owns it (dialout on Debian and "
            "Ubuntu) and log in again."
        )
    return f"The port {port} cannot be used at {baud:,} baud ({error}); give a serial port, and the gateware's rate."


__all__ = ["BAUD", "CYCLES_PER_SECOND", "PortError", "SerialPort", "show_cycles", "simulated_cycles"]
