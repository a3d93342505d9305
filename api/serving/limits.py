"""Defines the limits of requests, and the waiting time for clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Members
    -------
    tokens : int
        Largest number of tokens that a request may ask for in each text.
    prompt_tokens : int
        Largest number of tokens in a prompt.
    body_bytes : int
        Largest number of bytes in a request's body.
    queue : int
        Number of texts that may wait until the machine has a free place.
    texts : int
        Largest number of texts in one request: number of prompts times ``n``.
    patience_s : float
        Waiting time: seconds within which a client must send its request, and read each part of its answer.
    """

    tokens: int = 1024
    prompt_tokens: int = 4096
    body_bytes: int = 1 << 20
    queue: int = 64
    texts: int = 16
    patience_s: float = 30.0


__all__ = ["Limits"]
