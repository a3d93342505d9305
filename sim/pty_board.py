"""The simulated board behind a pseudo-terminal, which any program can open as a serial port.

    program ─► port ═► pty ═► PtyBoard ─► bit-level line ─► hw.top.SerialTop ─► bit-level line ═► pty ═► port

A thread moves bytes, and runs the simulation while bytes may come or go. Time on the line is simulated time, whatever
baud rate the program sets. The window size of the pseudo-terminal shows the simulated time to the program
(``firmware.serial_port``). If the simulation fails, the port is closed, as if the cable were pulled, and ``wait``
raises the reason.
"""

from __future__ import annotations

import os
import select
import threading
import tty
from typing import Protocol

from lutern.firmware.serial_port import show_cycles
from lutern.model_ref.errors import LuternError

READ_BYTES = 4096
SLICE_CYCLES = 50_000  # cycles that are simulated between two polls of the port
QUIET_CYCLES = 20_000_000  # if no byte moves for so many cycles, the chip will send no more bytes


class Board(Protocol):
    """The board behind the port: a ``SimulatedBoard``, or a board whose line damages bytes."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the chip."""

    def read(self, limit: int, timeout_s: float) -> bytes:
        """Return the bytes that the chip has sent."""

    def run(self, cycles: int) -> int:
        """Simulate ``cycles`` cycles. Return the number of bytes that can be read."""


class PtyBoard:
    """Serves ``board`` at ``port``, which is the path of a pseudo-terminal, until ``close`` is called."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        show_cycles(self._ours, 0, is_idle=True)
        self._wake, self._waker = os.pipe()
        self._open, self._closing = True, threading.Lock()
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"board at {self.port}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._failure = error
        finally:
            for handle in (self._ours, self._theirs):
                os.close(handle)
            self._ended.set()

    def _serve(self) -> None:
        quiet, cycles = QUIET_CYCLES, 0
        while True:
            idle = quiet >= QUIET_CYCLES
            ready, _, _ = select.select([self._ours, self._wake], [], [], None if idle else 0)
            if self._wake in ready:
                return
            if self._ours in ready:
                show_cycles(self._ours, cycles)
                self.board.write(os.read(self._ours, READ_BYTES))
                quiet = 0
            waiting = self.board.run(SLICE_CYCLES)
            cycles += SLICE_CYCLES
            quiet += SLICE_CYCLES
            if waiting:
                self._send(self.board.read(waiting, 0))
                quiet = 0
            show_cycles(self._ours, cycles, is_idle=quiet >= QUIET_CYCLES)

    def _send(self, data: bytes) -> None:
        """Send all bytes. Stop early if the board is closed while no program reads them."""
        while data:
            ready, writable, _ = select.select([self._wake], [self._ours], [])
            if ready:
                return
            if writable:
                data = data[os.write(self._ours, data) :]

    def wait(self) -> None:
        """Wait until the port is closed. Raises LuternError if the simulation failed."""
        self._ended.wait()
        self._raise()

    def close(self) -> None:
        """Close the port. Any thread may call this method, also more than once."""
        with self._closing:
            if self._open:
                self._open = False
                os.write(self._waker, b"x")
                self._thread.join()
                for handle in (self._wake, self._waker):
                    os.close(handle)

    def _raise(self) -> None:
        if self._failure is not None:
            raise LuternError(
                f"The simulated board at {self.port} has ended: {self._failure}; report this, it is a defect of the "
                "gateware or of the simulation."
            ) from self._failure

    def __enter__(self) -> PtyBoard:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is None:
            self._raise()


__all__ = ["PtyBoard"]
