"""Prints the tables of all commands, and the sentences between the tables, for terminals, pipes and programs.

    --format            text, on a terminal    text, in a pipe              md            json, csv
    tables are          drawn                  keys, raw values with tabs   Markdown      keys, raw values
    sentences are       wrapped                not wrapped                  not wrapped   not printed

On a terminal no number is ever cut, and empty columns are not drawn. If a table is too wide, its headings take several
lines. If the table is still too wide, its texts take several lines. As the last means, the columns are drawn in several
blocks, and each block begins with the names of the rows.

    with printing(form) as printer:
        printer.table("builds", (Column("board", left=True), Column("clock_hz", "MHz", megahertz)), rows)
        printer.say("a sentence")
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lutern.cli.columns import Cell, Column, field_text, fixed, percent, raw, round_number, shown
from lutern.cli.drawing import draw_table
from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.model_ref.errors import LuternError

FORMATS = ("text", "md", "csv", "json")


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
        help="Format of the tables; csv and json print raw numbers and no sentences (docs/commands.md).",
    ),
]


class Printer:
    """Prints the tables and sentences of one command. ``printing`` yields a printer."""

    def __init__(self, form: str = "text") -> None:
        self.form = _known(form)
        self.for_programs = form in ("csv", "json")
        """True if programs read the output, so that no sentences are printed."""
        self._drawn = form == "text" and sys.stdout.isatty()
        self._data: dict[str, list[dict[str, Any]]] = {}
        self._count = 0

    def table(self, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], total: bool = False) -> None:
        """Print a table. ``name`` is the key of the table in JSON. If ``total`` is set, a line is drawn above the last
        row."""
        kept = [list(row) for row in rows]
        if self._drawn:
            draw_table(columns, kept, total)
            return
        if self.form == "md":  # readers do not see a column that has no texts
            used = [place for place, column in enumerate(columns) if any(column.text(row[place]) for row in kept)]
            columns, kept = [columns[place] for place in used], [[row[place] for place in used] for row in kept]
        self._begin(name, columns)
        for row in kept:
            self._row(name, columns, row)

    def table_as_it_comes(
        self, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]], count: int = 0, stage: str = ""
    ) -> None:
        """Print a table whose rows take long to compute. In a pipe each row is printed when it is computed, on a
        terminal all rows are drawn at the end. If ``count`` is given, a bar shows how many rows are computed."""
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
        """Print a table for programs only. For readers, sentences print the figures of this table."""
        if self.for_programs:
            self.table(name, columns, rows)

    def say(self, text: str = "") -> None:
        """Print a sentence for readers."""
        if self.for_programs:
            return
        if self._drawn and text:
            plain_console().print(text)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a warning, on standard error if programs read the output."""
        if self.for_programs:
            print(f"warning: {text}", file=sys.stderr)
        else:
            self.say(f"warning: {text}")

    def close(self) -> None:
        """If the format is JSON, print all tables: one table as a list, several tables as an object with one list for
        each table."""
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
            self._print_fields([field_text(value) for value in row])
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
    """Yield the printer of a command. If the command fails, no JSON is printed."""
    printer = Printer(form)
    yield printer
    printer.close()


__all__ = ["Cell", "Column", "FormatOption", "Printer", "fixed", "percent", "printing", "round_number", "shown"]
