"""A simulated board's port as a TCP port of this computer, for programs that need a socket, and for containers.

    program ─► 127.0.0.1:NUMBER ═► TcpBridge ═► pseudo-terminal ─► PtyBoard

Only one program can be connected, and further programs wait. While no program is connected to the TCP port, a program
can open the pseudo-terminal directly.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from types import TracebackType
from typing import Any

from lutern.model_ref.errors import LuternError

READ_BYTES = 4096
HOST = "127.0.0.1"


class TcpBridge:
    """Connects TCP port ``number`` of this computer to the pseudo-terminal at the path ``port``. 0 selects a free TCP
    port."""

    def __init__(self, port: str, number: int) -> None:
        try:
            self._listener = socket.create_server((HOST, number))
        except OSError as error:
            raise LuternError(
                f"the TCP port {number} of {HOST} cannot be served ({error.strerror}); give another number."
            ) from None
        self.number: int = self._listener.getsockname()[1]
        self._port = port
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"TCP port {self.number}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            waited_for: list[Any] = [self._listener, self._wake]
            ready, _, _ = select.select(waited_for, [], [])
            if self._wake in ready:
                return
            client, _ = self._listener.accept()
            with client, contextlib.suppress(OSError):
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        """Move bytes in both directions until the program closes its connection."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = os.open(self._port, os.O_RDWR | os.O_NOCTTY)
        try:
            while True:
                waited_for: list[Any] = [client, port, self._wake]
                ready, _, _ = select.select(waited_for, [], [])
                if self._wake in ready:
                    return
                if client in ready:
                    data = client.recv(READ_BYTES)
                    if not data:
                        return
                    _write_all(port, data)
                if port in ready:
                    client.sendall(os.read(port, READ_BYTES))
        finally:
            os.close(port)

    def close(self) -> None:
        """Close the TCP port. A connected program loses its connection."""
        os.write(self._waker, b"x")
        self._thread.join()
        self._listener.close()
        for handle in (self._wake, self._waker):
            os.close(handle)

    def __enter__(self) -> TcpBridge:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


__all__ = ["HOST", "TcpBridge"]
