"""Draws a table on a terminal of any width, and never cuts a number.

    as long as the table is too wide:
    headings on several lines ─► long texts on several lines ─► row names on several lines ─► blocks of columns

Each block begins with the names of the rows. Columns without a text are not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from lutern.cli.columns import Column
from lutern.cli.output import plain_console

GAP = 1
"""Blanks between two columns."""
NARROWEST = 14
"""The least width to which a column of texts is folded."""


def draw_table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], total: bool = False) -> None:
    """Draw a table on a terminal, in blocks of columns if the table is too wide."""
    if not rows:
        return
    texts = [[column.text(value) for column, value in zip(columns, row, strict=True)] for row in rows]
    used = [index for index in range(len(columns)) if any(row[index] for row in texts)]
    columns = [columns[index] for index in used]
    texts = [[row[index] for index in used] for row in texts]
    bodies = [max(_width(row[index]) for row in texts) for index in range(len(columns))]
    natural = [max(body, _width(column.title)) for body, column in zip(bodies, columns, strict=True)]
    width = plain_console().width
    if sum(natural) + GAP * (len(columns) - 1) > width:  # first, headings are divided into several lines
        words = (max(map(_width, column.title.split()), default=0) for column in columns)
        natural = [max(body, word) for body, word in zip(bodies, words, strict=True)]
    for number, (chosen, widths) in enumerate(blocks(columns, natural, width)):
        if number:
            print()
        _draw_block(
            [columns[index] for index in chosen], [[row[index] for index in chosen] for row in texts], widths, total
        )


def blocks(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[tuple[list[int], list[int]]]:
    """Return the blocks of columns, and each column's width. ``natural``: the widths without folding."""
    every = list(range(len(columns)))
    whole = _fitted(columns, natural, every, width)
    if whole is not None:
        return [(every, whole)]
    names = [0]
    while names[-1] + 1 < len(columns) and columns[names[-1] + 1].left and not columns[names[-1] + 1].folds:
        names.append(names[-1] + 1)
    found: list[tuple[list[int], list[int]]] = []
    chosen = [*names]
    for index in every[len(names) :]:
        if len(chosen) > len(names) and _fitted(columns, natural, [*chosen, index], width) is None:
            found.append((chosen, _widths(columns, natural, chosen, width)))
            chosen = [*names]
        chosen.append(index)
    return [*found, (chosen, _widths(columns, natural, chosen, width))]


def _widths(columns: Sequence[Column], natural: Sequence[int], chosen: list[int], width: int) -> list[int]:
    return _fitted(columns, natural, chosen, width) or [
        min(natural[index], NARROWEST) if columns[index].left else natural[index] for index in chosen
    ]


def _fitted(columns: Sequence[Column], natural: Sequence[int], chosen: list[int], width: int) -> list[int] | None:
    """Return widths with which these columns fit. Texts that fold are narrowed first, then names. Return None if
    numbers would be cut.
    """
    widths = [natural[index] for index in chosen]
    room = width - GAP * (len(chosen) - 1)
    folding: tuple[Callable[[Column], bool], ...] = (lambda one: one.folds, lambda one: one.folds or one.left)
    for can_fold in folding:
        while sum(widths) > room:
            place = max(
                (place for place, index in enumerate(chosen) if can_fold(columns[index])),
                key=lambda place: widths[place],
                default=None,
            )
            if place is None or widths[place] <= NARROWEST:
                break
            widths[place] -= min(sum(widths) - room, widths[place] - NARROWEST)
    return widths if sum(widths) <= room else None


def _draw_block(columns: Sequence[Column], rows: list[list[str]], widths: Sequence[int], total: bool) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        justify = "left" if column.left or column.folds else "right"
        table.add_column(column.title, width=width, overflow="fold", justify=justify)  # type: ignore[arg-type]
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=total and index == len(rows) - 2)
    console = plain_console()
    needed = sum(widths) + GAP * (len(widths) - 1)
    console.print(table, width=max(needed, console.width), soft_wrap=needed > console.width, crop=False)


def _width(text: str) -> int:
    return max((cell_len(line) for line in text.split("\n")), default=0)


__all__ = ["blocks", "draw_table"]
