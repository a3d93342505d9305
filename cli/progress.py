"""Progress of long operations: a bar on a terminal; in a pipe a line for a step that takes longer than a minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lutern.cli.output import plain_console

FIRST_LINE_SECONDS = 60.0
TRANSFER_BAR_WIDTH = 20
"""With bytes, rate and time left a line of 80 columns is not cut."""


@contextmanager
def progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Gives ``advance(done, total)``; drawn on stderr, gone at the end. ``hidden``: nothing is drawn."""
    with named_progress_bar(what, hidden) as advance:
        yield lambda done, total: advance(done, total, "")


@contextmanager
def named_progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Gives ``advance(done, total, name)``; the name of what is being worked on is shown after the bar."""
    columns = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[name]}", markup=False))
    with _bar(what, columns, hidden) as advance:
        yield advance


@contextmanager
def step_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """The same of few steps that take minutes each: shows how long it has taken, in place of a guess of the rest."""
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[name]}", markup=False))
    with _bar(what, columns, False, bar_width=10) as advance:
        yield advance


@contextmanager
def transfer_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives ``advance(done, total)`` in bytes; shows rate and time left."""
    with load_bar("{}") as advance:
        yield lambda done, total: advance(what, done, total)


@contextmanager
def load_bar(text: str = "{} the model") -> Iterator[Callable[[str, int, int], None]]:
    """Gives ``advance(stage, done, total)`` in bytes, as ``firmware.loader.Progress``: each stage has its own rate and
    its own time left."""
    if not plain_console(stderr=True).is_terminal:
        with _lines("bytes") as line:
            yield lambda what, done, total: line(done, total, text.format(what))
        return
    stage = ""
    with _progress((DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()), False, TRANSFER_BAR_WIDTH) as bar:
        task = bar.add_task("", total=None)

        def advance(what: str, done: int, total: int) -> None:
            nonlocal stage
            name, bracket, note = what.partition(" (")
            if name != stage:
                stage = name
                bar.reset(task, total=total)
            bar.update(task, completed=done, description=text.format(name) + bracket + note)

        yield advance


@contextmanager
def _bar(
    what: str, columns: tuple[ProgressColumn, ...], hidden: bool, bar_width: int = 40
) -> Iterator[Callable[[int, int, str], None]]:
    if not hidden and not plain_console(stderr=True).is_terminal:
        with _lines(what) as advance:
            yield advance
        return
    with _progress(columns, hidden, bar_width) as bar:
        task = bar.add_task(what, total=None, name="")
        yield lambda done, total, name: bar.update(task, completed=done, total=total, name=name)


@contextmanager
def _lines(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """In a pipe: a line on stderr after a minute, and then after twice the time of the last one."""
    state, ended, began = {"text": ""}, threading.Event(), time.monotonic()

    def advance(done: int, total: int, name: str) -> None:
        state["text"] = f", {done:,} of {total:,}{f', {name}' if name else ''}"

    def speak() -> None:
        seconds = FIRST_LINE_SECONDS
        while not ended.wait(max(0.0, began + seconds - time.monotonic())):
            print(f"{what}{state['text']}: {seconds / 60:.0f} min", file=sys.stderr, flush=True)
            seconds *= 2

    threading.Thread(target=speak, daemon=True).start()
    try:
        yield advance
    finally:
        ended.set()


def _progress(columns: tuple[ProgressColumn, ...], hidden: bool, bar_width: int = 40) -> Progress:
    """A bar and its columns on stderr, gone at the end; not drawn where that is no terminal."""
    console = plain_console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width),
        *columns,
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )
