"""Opens the socket of a server before any slow step, and runs the server on this socket until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

import uvicorn
from fastapi import FastAPI

from lutern.api.serving.engine import Engine
from lutern.api.serving.limits import Limits
from lutern.model_ref.errors import LuternError

BACKLOG = 128
LEAVING_S = 5
"""Seconds for which unfinished answers are still sent after the server receives a signal to stop."""


def bind(host: str, port: int, key: str = "", limits: Limits | None = None) -> socket.socket:
    """Return a listening socket.

    Raises LuternError for an address that this computer does not have, and for a port that is in use or that this user
    may not open. If ``key`` is empty, also raises LuternError for an address that other computers can reach.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise LuternError(f"the host {host} has no address; give one such as 127.0.0.1 or 0.0.0.0.") from None
    if not is_loopback(str(address[0])) and not key:
        raise LuternError(
            f"other computers reach {host}, so clients must send a key; put one into a file and give it with "
            "--key-file, or into LUTERN_KEY, or serve only 127.0.0.1."
        )
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _drop_those_that_do_not_read(listening, (limits or Limits()).patience_s)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise LuternError(_reason(error, host, port)) from None
    return listening


def is_loopback(address: str) -> bool:
    """Return whether only this computer can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """Return the address for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM. Then finish the present pass, and raise the signal again."""
    make_server(app).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that ends all texts before it stops, so that clients receive an error and their connections close."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        engine: Engine = self.config.app.state.engine  # type: ignore[union-attr]
        await asyncio.to_thread(engine.stop)
        await super().shutdown(sockets)


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return the server of an application."""
    return _Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, ws="none", timeout_graceful_shutdown=LEAVING_S
        )
    )


def _drop_those_that_do_not_read(listening: socket.socket, patience_s: float) -> None:
    """Let the system close a connection whose client reads nothing for ``patience_s`` seconds. Otherwise the last bytes
    for this client would wait forever. Systems that lack this option of a socket keep such connections.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, round(1000 * patience_s))


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; give another with --port, or end the program that has it."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} needs more rights than this user has; give one from 1024 with --port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this computer does not have the address {host}; give one that it has, such as 127.0.0.1."
    return f"port {port} of {host} cannot be served ({error.strerror}); give another."


__all__ = ["address_of", "bind", "is_loopback", "make_server", "serve"]
