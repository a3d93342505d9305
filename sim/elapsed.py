"""Progress of long steps, so that the user sees that a step is still running.

on a terminal    a spinner, the name of the step and the elapsed time, which are removed at the end
into a pipe      a line on standard error after 1, 2, 4, 8, ... minutes
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

FIRST_LINE_SECONDS = 60.0


@contextlib.contextmanager
def elapsed(text: str) -> Iterator[None]:
    """Show ``text`` and the elapsed time while a block runs."""
    if not sys.stderr.isatty():
        with lines(lambda: text):
            yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as progress:
        progress.add_task(text, total=None)
        yield


@contextlib.contextmanager
def lines(text: Callable[[], str]) -> Iterator[None]:
    """Print ``text()`` and the elapsed minutes on standard error after 1, 2, 4, 8, ... minutes."""
    ended, began = threading.Event(), time.monotonic()

    def speak() -> None:
        seconds = FIRST_LINE_SECONDS
        while not ended.wait(max(0.0, began + seconds - time.monotonic())):
            print(f"{text()}: {seconds / 60:.0f} min", file=sys.stderr, flush=True)
            seconds *= 2

    threading.Thread(target=speak, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


__all__ = ["elapsed", "lines"]
