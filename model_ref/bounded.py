"""Limits the processor time and the memory of foreign code that runs in this process.

    bounded(seconds, bytes): after ``seconds`` of processor time      SIGVTALRM raises TooMuch
                             after ``bytes`` of new address space     Python raises MemoryError

A chat template comes with a model, and a few characters of a template can double a text forty times. The limit counts
processor time, so other programs on the computer do not change it. Time is limited only in the main thread, because
only the main thread receives signals.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TooMuch(Exception):
    """The error that code has used more processor time than allowed."""


def _address_bytes() -> int | None:
    """Return the size of this process's address space in bytes, or None if the system does not report it."""
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
    """Limit the block to ``seconds`` of processor time and ``byte_count`` bytes of memory.

    Raises ``TooMuch`` or ``MemoryError`` if the block needs more.
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
