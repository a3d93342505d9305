"""Limits of requests, and of the time for which a client may delay others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Members
    -------
    tokens : int
        Largest number of tokens that a text may be asked to have.
    prompt_tokens : int
        Largest number of tokens of a prompt.
    body_bytes : int
        Largest number of bytes of a request's body.
    queue : int
        Texts that may wait for a place in the machine.
    texts : int
        Largest number of texts of one request: prompts times ``n``.
    patience_s : float
        Seconds that a client has to send its request, or to read its answer, before the connection is closed.
    """

    tokens: int = 1024
    prompt_tokens: int = 4096
    body_bytes: int = 1 << 20
    queue: int = 64
    texts: int = 16
    patience_s: float = 30.0


__all__ = ["Limits"]
