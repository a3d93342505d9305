"""A serial port as a ``Link``: the board's USB bridge, or a pseudo-terminal that the simulated board stands behind.

Opened exclusively (a lock that every program using pyserial sees). What can go wrong with a port is one sentence each.
"""

from __future__ import annotations

import contextlib
import errno

import serial
from serial.tools.list_ports import comports

from lutern.firmware.link import LinkError

BAUD = 3_000_000
WRITE_TIMEOUT_S = 20.0
"""A port that takes nothing for so long has lost its other end."""


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
            self._serial.timeout = timeout_s
            first = self._serial.read(1)
            return first + self._serial.read(min(limit - 1, self._serial.in_waiting)) if first else b""
        except (OSError, TypeError):  # pyserial falls over a port that vanishes between two of its own lines
            raise self._gone() from None

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


__all__ = ["BAUD", "PortError", "SerialPort"]
