"""Progress of long operations: a bar on a terminal, nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lutern.cli.output import plain_console

TRANSFER_BAR_WIDTH = 20
"""With bytes, rate and time left beside it a line of 80 columns is not cut."""


@contextmanager
def progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Gives ``advance(done, total)``; drawn on stderr, gone at the end. ``hidden``: nothing is drawn."""
    with named_progress_bar(what, hidden) as advance:
        yield lambda done, total: advance(done, total, "")


@contextmanager
def named_progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Gives ``advance(done, total, name)``; the name of what is being worked on stands behind the bar."""
    columns = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[name]}", markup=False))
    with _bar(what, columns, hidden) as advance:
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
def _bar(what: str, columns: tuple[ProgressColumn, ...], hidden: bool) -> Iterator[Callable[[int, int, str], None]]:
    with _progress(columns, hidden) as bar:
        task = bar.add_task(what, total=None, name="")
        yield lambda done, total, name: bar.update(task, completed=done, total=total, name=name)


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
