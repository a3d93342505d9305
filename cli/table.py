"""The tables of all commands, and the sentences between them: one printer for terminals, pipes and programs.

    --format     a terminal       a pipe                   md                json, csv
    tables       drawn            tabs, keys, raw values   Markdown          keys, raw values
    sentences    wrapped          as they are              as they are       left out

On a terminal no number is ever cut. A table that is too wide loses its empty columns, then its texts take several
lines, then its columns are drawn in several blocks, each of which begins with the names of the rows.

    with printing(form) as printer:
        printer.table("builds", (Column("board", left=True), Column("clock_hz", "MHz", megahertz)), rows)
        printer.say("a sentence")
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import typer
from rich.cells import cell_len
from rich.table import Table

from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.model_ref.errors import LuternError

FORMATS = ("text", "md", "csv", "json")
GAP = 1
"""Blanks between two columns."""
NARROWEST = 14
"""A column of texts is not folded further while another way is left."""


def _known(form: str) -> str:
    if form not in FORMATS:
        raise LuternError(f"there is no format {form}; choose one of {', '.join(FORMATS)}.")
    return form


FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar=f"<{'|'.join(FORMATS)}>",
        callback=_known,
        help="How tables are printed; csv and json have raw numbers and no sentences (docs/commands.md).",
    ),
]


class Cell(NamedTuple):
    """A value, and the text that a reader sees of it where its column alone does not say how."""

    value: Any
    text: str


def shown(value: Any) -> str:
    """The text of a value that a reader sees, if its column says nothing else."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Column:
    """A column. ``key``: its name for programs, which never changes; ``heading``: what a reader sees, the key if not
    given; ``show``: the text of a value; ``left``: begins at the left, as texts do; ``folds``: long texts take several
    lines."""

    key: str
    heading: str = ""
    show: Callable[[Any], str] = shown
    left: bool = False
    folds: bool = False

    def text(self, value: Any) -> str:
        """The text of a cell that a reader sees."""
        if isinstance(value, Cell):
            return value.text
        return "" if value is None else self.show(value)

    @property
    def title(self) -> str:
        """What a reader sees above it."""
        return self.heading or self.key.replace("_", " ")


def percent(digits: int) -> Callable[[float], str]:
    """Shows a share."""
    return lambda value: f"{value:.{digits}%}"


def fixed(digits: int, unit: float = 1) -> Callable[[float], str]:
    """Shows a number with this number of digits after the point, divided by ``unit``."""
    return lambda value: f"{value / unit:,.{digits}f}"


def raw(value: Any) -> Any:
    """What programs read of a cell."""
    return value.value if isinstance(value, Cell) else value


def _field(value: Any) -> str:
    """The same as a text."""
    found = raw(value)
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


class Printer:
    """Prints the tables and sentences of one command; see ``printing``."""

    def __init__(self, form: str = "text") -> None:
        self.form = _known(form)
        self.for_programs = form in ("csv", "json")
        """No sentences."""
        self._drawn = form == "text" and sys.stdout.isatty()
        self._data: dict[str, list[dict[str, Any]]] = {}
        self._count = 0

    def table(self, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], total: bool = False) -> None:
        """A table. ``name``: of it in JSON; ``total``: a line is drawn above the last row."""
        kept = [list(row) for row in rows]
        if self._drawn:
            draw_table(columns, kept, total)
            return
        if self.form == "md":  # readers see no column without a text
            used = [place for place, column in enumerate(columns) if any(column.text(row[place]) for row in kept)]
            columns, kept = [columns[place] for place in used], [[row[place] for place in used] for row in kept]
        self._begin(name, columns)
        for row in kept:
            self._row(name, columns, row)

    def table_as_it_comes(
        self, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], count: int = 0, stage: str = ""
    ) -> None:
        """A table of rows that take long: each at once in a pipe, all at the end on a terminal. A bar counts them where
        it is known that there will be ``count``."""
        if not self._drawn:
            self._begin(name, columns)
        kept = []
        with progress_bar(stage, hidden=not count) as advance:
            for index, row in enumerate(rows):
                advance(index + 1, count)
                kept.append(row)
                if not self._drawn:
                    self._row(name, columns, row)
        if self._drawn:
            draw_table(columns, kept)

    def facts(self, name: str, columns: Sequence[Column], *rows: Sequence[Any]) -> None:
        """What a reader finds in sentences, as a table for programs."""
        if self.for_programs:
            self.table(name, columns, rows)

    def say(self, text: str = "") -> None:
        """A sentence, for readers."""
        if self.for_programs:
            return
        if self._drawn and text:
            plain_console().print(text)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A sentence that must not be missed: on standard error where programs read the output."""
        if self.for_programs:
            print(f"warning: {text}", file=sys.stderr)
        else:
            self.say(f"warning: {text}")

    def close(self) -> None:
        """Print what comes at the end: one table of JSON is a list, several are an object of lists."""
        if self.form == "json":
            found = next(iter(self._data.values())) if len(self._data) == 1 else self._data
            print(json.dumps(found, indent=1))

    def _begin(self, name: str, columns: Sequence[Column]) -> None:
        if self.form == "json":
            self._data[name] = []
            return
        if self.form == "csv" and self._count:
            print()
        self._count += 1
        if self.form == "md":
            _print_markdown([column.title.replace("\n", " ") for column in columns])
            _print_markdown(["---"] * len(columns))
        else:
            self._print_fields([column.key for column in columns])

    def _row(self, name: str, columns: Sequence[Column], row: Sequence[Any]) -> None:
        if self.form == "json":
            self._data[name].append({column.key: raw(value) for column, value in zip(columns, row, strict=True)})
        elif self.form == "md":
            _print_markdown([column.text(value) for column, value in zip(columns, row, strict=True)])
        else:
            self._print_fields([_field(value) for value in row])
        sys.stdout.flush()

    def _print_fields(self, fields: Sequence[str]) -> None:
        if self.form == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow(fields)
        else:
            print("\t".join(" ".join(field.split()) for field in fields))


def _print_markdown(texts: Sequence[str]) -> None:
    print("| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |")


@contextmanager
def printing(form: str = "text") -> Iterator[Printer]:
    """The printer of a command; nothing of JSON is printed where the command fails."""
    printer = Printer(form)
    yield printer
    printer.close()


def draw_table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], total: bool = False) -> None:
    """The table of a terminal, in blocks of columns where one is too wide."""
    if not rows:
        return
    texts = [[column.text(value) for column, value in zip(columns, row, strict=True)] for row in rows]
    used = [index for index in range(len(columns)) if any(row[index] for row in texts)]
    columns = [columns[index] for index in used]
    texts = [[row[index] for index in used] for row in texts]
    bodies = [max(_width(row[index]) for row in texts) for index in range(len(columns))]
    natural = [max(body, _width(column.title)) for body, column in zip(bodies, columns, strict=True)]
    width = plain_console().width
    if sum(natural) + GAP * (len(columns) - 1) > width:  # headings take several lines first
        words = (max(map(_width, column.title.split()), default=0) for column in columns)
        natural = [max(body, word) for body, word in zip(bodies, words, strict=True)]
    for number, (chosen, widths) in enumerate(blocks(columns, natural, width)):
        if number:
            print()
        _draw_block(
            [columns[index] for index in chosen], [[row[index] for index in chosen] for row in texts], widths, total
        )


def blocks(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[tuple[list[int], list[int]]]:
    """The blocks of columns, and how wide each column is; ``natural``: what they would take."""
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
    """Widths in which these columns fit: first of texts that fold, then of names; None where numbers would be cut."""
    widths = [natural[index] for index in chosen]
    room = width - GAP * (len(chosen) - 1)
    for can_fold in (lambda column: column.folds, lambda column: column.folds or column.left):
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


def round_number(value: float, digits: int = 3) -> str:
    """With this number of significant digits, without an exponent."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (digits - 1) else f"{rounded:g}"


__all__ = ["Cell", "Column", "FormatOption", "Printer", "fixed", "percent", "printing", "round_number", "shown"]
