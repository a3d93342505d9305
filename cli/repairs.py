"""At the end of a run, prints one sentence on standard error each time that weights were loaded again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lutern.api.figures import session_of
from lutern.firmware.session import Machine


@contextmanager
def repairs_shown(machine: Machine) -> Iterator[None]:
    """Print each repair that happens in this context, also if the run fails."""
    session = session_of(machine)
    before = len(session.repairs) if session else 0
    try:
        yield
    finally:
        for sentence in session.repairs[before:] if session else []:
            print(f"warning: {sentence}", file=sys.stderr)


__all__ = ["repairs_shown"]
