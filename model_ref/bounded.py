"""Limits the processor time and the memory of foreign code that runs in this process.

    bounded(seconds, bytes): SIGVTALRM ─► TooMuch        address space: its present size and ``bytes`` ─► MemoryError

A model brings its chat template, and a few characters of a template can double a text forty times. The limit counts
processor time, so a busy computer changes nothing. Time is bounded in the main thread only, where signals arrive.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TooMuch(Exception):
    """The code has used up its processor time."""


def _address_bytes() -> int | None:
    """Return the size of this process's address space in bytes; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


@contextmanager
def _bounded_memory(byte_count: int) -> Iterator[None]:
    here, (soft, hard) = _address_bytes(), resource.getrlimit(resource.RLIMIT_AS)
    if here is None:
        yield
        return
    limits = [here + byte_count, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def bounded(seconds: float, byte_count: int) -> Iterator[None]:
    """Bound the block to ``seconds`` of processor time and ``byte_count`` bytes of memory.

    Raises ``TooMuch`` or ``MemoryError`` when the block takes more.
    """
    with _bounded_memory(byte_count):
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: object) -> None:
            raise TooMuch

        before = signal.signal(signal.SIGVTALRM, end)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


__all__ = ["TooMuch", "bounded"]
