"""Shows the progress of long operations: a bar on a terminal, or in a pipe a line after 1, 2, 4, ... minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

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
from lutern.sim.elapsed import lines

TRANSFER_BAR_WIDTH = 20
"""The width of a bar that fits into 80 columns together with bytes, rate and remaining time."""


@contextmanager
def progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield ``advance(done, total)``, which draws a bar on stderr. The bar is removed at the end. If ``hidden`` is set,
    nothing is drawn."""
    with named_progress_bar(what, hidden) as advance:
        yield lambda done, total: advance(done, total, "")


@contextmanager
def named_progress_bar(what: str, hidden: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``advance(done, total, name)``. The name of the present item is drawn after the bar."""
    columns = (MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[name]}", markup=False))
    with _bar(what, columns, hidden) as advance:
        yield advance


@contextmanager
def step_bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``advance(done, total, name)`` for a few steps that take minutes each. The bar shows the elapsed time in
    place of the remaining time."""
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[name]}", markup=False))
    with _bar(what, columns, False, bar_width=10) as advance:
        yield advance


@contextmanager
def transfer_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield ``advance(done, total)``, both in bytes. The bar shows the rate and the remaining time."""
    with load_bar("{}") as advance:
        yield lambda done, total: advance(what, done, total)


@contextmanager
def load_bar(text: str = "{} the model") -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``advance(stage, done, total)`` with bytes, as in ``firmware.loader.Progress``. The bar shows the rate and
    the remaining time of each stage."""
    with ExitStack() as stack:
        draw: Callable[[str, int, int], None] | None = None

        def advance(what: str, done: int, total: int) -> None:
            nonlocal draw
            if draw is None:  # steps before the first byte, such as compiling, show their own progress
                draw = stack.enter_context(_load_bar(text))
            draw(what, done, total)

        yield advance


@contextmanager
def _load_bar(text: str) -> Iterator[Callable[[str, int, int], None]]:
    if not plain_console(stderr=True).is_terminal:
        line = text.format("loading")

        def note(what: str, done: int, total: int) -> None:
            nonlocal line
            line = f"{text.format(what)}, {done:,} of {total:,} bytes"

        with lines(lambda: line):
            yield note
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
    """Yield ``advance(done, total, name)`` for a pipe, into which a line is printed after 1, 2, 4, ... minutes."""
    text = what

    def advance(done: int, total: int, name: str) -> None:
        nonlocal text
        text = f"{what}, {done:,} of {total:,}{f', {name}' if name else ''}"

    with lines(lambda: text):
        yield advance


def _progress(columns: tuple[ProgressColumn, ...], hidden: bool, bar_width: int = 40) -> Progress:
    """Return a bar with its columns on stderr. The bar is removed at the end, and is not drawn if stderr is no
    terminal."""
    console = plain_console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width),
        *columns,
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )
