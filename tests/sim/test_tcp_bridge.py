"""A simulated board's port as a TCP port: bytes pass in both directions, for one program after the other."""

from __future__ import annotations

import os
import socket
import threading
import tty

import pytest

from lutern.model_ref.errors import LuternError
from lutern.sim.tcp_bridge import HOST, TcpBridge


class Echo:
    """A port whose far end sends all bytes back."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        tty.setraw(self.theirs)
        self.port = os.ttyname(self.theirs)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            os.write(self.ours, os.read(self.ours, 4096))


def received(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += client.recv(count - len(found))
    return found


def test_bytes_pass_both_ways() -> None:
    """All byte values pass in both directions, for two programs one after the other."""
    sent = bytes(range(256)) * 8
    with TcpBridge(Echo().port, 0) as bridge:
        for _ in range(2):
            with socket.create_connection((HOST, bridge.number), timeout=60) as client:
                client.sendall(sent)
                assert received(client, len(sent)) == sent


def test_a_port_that_is_in_use() -> None:
    with TcpBridge(Echo().port, 0) as bridge, pytest.raises(LuternError) as refused:
        TcpBridge(Echo().port, bridge.number)
    assert str(refused.value).startswith(f"the TCP port {bridge.number} of {HOST} cannot be served (")


def test_bridge_ends_while_a_program_is_connected() -> None:
    with TcpBridge(Echo().port, 0) as bridge:
        client = socket.create_connection((HOST, bridge.number), timeout=60)
        client.sendall(b"x")
        assert received(client, 1) == b"x"
    assert client.recv(1) == b""
    client.close()
