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
    with _bar(what, (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()), False) as advance:
        yield lambda done, total: advance(done, total, "")


@contextmanager
def _bar(what: str, columns: tuple[ProgressColumn, ...], hidden: bool) -> Iterator[Callable[[int, int, str], None]]:
    console = plain_console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=None, name="")
        yield lambda done, total, name: bar.update(task, completed=done, total=total, name=name)
