"""A serial port as a ``Link``: the board's USB bridge, or the pseudo-terminal of a simulated board.

Opened exclusively (a lock that every program using pyserial sees). What can go wrong with a port is one sentence each.

A simulated board counts its cycles in the size of the pseudo-terminal's window, which a serial line has no use for:

    rows: SIMULATED, or IDLE │ columns, x, y: cycles, 48 bits, highest first

On such a port a second of patience is ``CYCLES_PER_SECOND`` cycles, however long this computer takes to simulate them.
The board is idle when nothing has come for long; an END byte, an empty frame, says that somebody waits.
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
"""A port that takes nothing for so long has lost its other end."""
CYCLES_PER_SECOND = 2_000_000
"""Of a simulated board's patience: about what a small design simulates in a second."""
SIMULATED, IDLE = 0x4C54, 0x4C49
"""Rows of the window of a simulated board's port: "LT" while it simulates, else "LI"."""
LOOK_S = 0.1
"""Seconds between two looks at a simulated board's clock."""
STOPPED_S = 120.0
"""A simulated board whose clock stands for so long has stopped."""


class PortError(LinkError):
    """The port cannot be opened, or is gone."""


class SerialPort:
    """8N1 without flow control; ``baud`` must be the gateware's, and can be set anew."""

    def __init__(self, port: str, baud: int = BAUD) -> None:
        self.port, self.baud = port, baud
        if baud < 1:
            raise PortError(f"The port {port} cannot be used at {baud:,} baud; give the gateware's rate.")
        try:
            self._serial = serial.Serial(port, baud, timeout=0, write_timeout=WRITE_TIMEOUT_S, exclusive=True)
        except (OSError, ValueError, OverflowError) as error:  # pyserial's own error is an OSError
            raise PortError(_refusal(port, baud, error)) from None
        with contextlib.suppress(OSError, ValueError, NotImplementedError, AttributeError):
            self._serial.set_low_latency_mode(True)  # FTDI's bridges else hold answers back for 16 ms
        self._serial.reset_input_buffer()
        self.is_simulated = simulated_cycles(self._serial.fileno()) is not None

    def set_baud(self, baud: int) -> None:
        """Another rate from now on; what waits to be read was sent at the one before, and is dropped."""
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
        """At most `limit` bytes, as soon as there are any; none when `timeout_s` has passed."""
        try:
            return self._read_simulated(limit, timeout_s) if self.is_simulated else self._read(limit, timeout_s)
        except (OSError, TypeError):  # pyserial falls over a port that vanishes between two of its own lines
            raise self._gone() from None

    def _read(self, limit: int, timeout_s: float) -> bytes:
        self._serial.timeout = timeout_s
        first = self._serial.read(1)
        return first + self._serial.read(min(limit - 1, self._serial.in_waiting)) if first else b""

    def _read_simulated(self, limit: int, timeout_s: float) -> bytes:
        """As `_read`, in the board's own time."""
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
        """Cycles of a simulated board in a second of patience; None of a real one."""
        return CYCLES_PER_SECOND if self.is_simulated else None

    def close(self) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):
            self._serial.close()

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _gone(self) -> PortError:
        return PortError(
            f"The port {self.port} is gone; plug the board in again and repeat the command: what the "
            "board's memory holds is not sent twice."
        )


def show_cycles(handle: int, cycles: int, *, is_idle: bool = False) -> None:
    """Count a simulated board's cycles at either end of its pseudo-terminal."""
    window = (IDLE if is_idle else SIMULATED, *(cycles >> shift & 0xFFFF for shift in (32, 16, 0)))
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("4H", *window))


def simulated_cycles(handle: int) -> int | None:
    """Cycles of the simulated board at this port; None if there is a line."""
    rows, *parts = _window(handle)
    return parts[0] << 32 | parts[1] << 16 | parts[2] if rows in (SIMULATED, IDLE) else None


def _window(handle: int) -> tuple[int, ...]:
    try:
        return struct.unpack("4H", fcntl.ioctl(handle, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return (0, 0, 0, 0)


def _refusal(port: str, baud: int, error: Exception) -> str:
    """Why a port cannot be opened, in one sentence."""
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
