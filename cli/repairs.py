"""Weights that were loaded again while a model ran: a sentence for each on standard error, when the run has ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lutern.api.figures import session_of
from lutern.firmware.session import Machine


@contextmanager
def repairs_shown(machine: Machine) -> Iterator[None]:
    """Shows what was mended in here, each once, also when the run has failed in the end."""
    session = session_of(machine)
    before = len(session.repairs) if session else 0
    try:
        yield
    finally:
        for sentence in session.repairs[before:] if session else []:
            print(f"warning: {sentence}", file=sys.stderr)


__all__ = ["repairs_shown"]
