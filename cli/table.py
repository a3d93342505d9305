"""The tables of all commands: drawn on a terminal, lines with tabs in a pipe, and sentences beside them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence

from rich.table import Table

from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[str] | None = None,
    folded: Collection[str] = (),
    total: bool = False,
) -> None:
    """A table. ``left``: headings of the columns whose texts begin at the left, the first if not given; ``folded``: of
    those whose long texts take several lines, too; ``total``: the last row is drawn below a line."""
    if not sys.stdout.isatty():
        plain = [text.replace("\n", " ") for text in headings]
        print("\n".join("\t".join(row) for row in (plain, *rows)))
        return
    draw_table(headings, list(rows), left, folded, total)


def print_as_they_come(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    count: int,
    stage: str,
    *,
    left: Collection[str] | None = None,
) -> None:
    """A table of ``count`` rows that take long: each at once in a pipe; a bar, then the table, on a terminal."""
    in_terminal = sys.stdout.isatty()
    if not in_terminal:
        print("\t".join(headings), flush=True)
    kept = []
    with progress_bar(stage) as advance:
        advance(0, count)
        for index, row in enumerate(rows):
            advance(index + 1, count)
            kept.append(row)
            if not in_terminal:
                print("\t".join(row), flush=True)
    if in_terminal:
        draw_table(headings, kept, left)


def draw_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Collection[str] | None = None,
    folded: Collection[str] = (),
    total: bool = False,
) -> None:
    """The table of a terminal; see ``print_table``."""
    at_left = {*(headings[:1] if left is None else left), *folded}
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading not in folded, justify="left" if heading in at_left else "right")
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=total and index == len(rows) - 2)
    plain_console().print(table)


def print_text(text: str) -> None:
    """Sentences: on a terminal their lines end between words, in a pipe they are as they are."""
    if sys.stdout.isatty():
        plain_console().print(text)
    else:
        print(text)


def round_number(value: float, digits: int = 3) -> str:
    """With so many digits that count, without an exponent."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (digits - 1) else f"{rounded:g}"


__all__ = ["draw_table", "print_as_they_come", "print_table", "print_text", "round_number"]
