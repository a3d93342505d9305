"""`lutern compare`: the error of the integer network beside that of a float16 run, and what each word length costs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lutern.cli.models import open_model
from lutern.cli.output import plain_console
from lutern.measure import compare as measure
from lutern.measure import embeddings as embedding_study
from lutern.measure.word_lengths import Cell, sweep
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.embedding import EMBEDDING_BITS
from lutern.model_ref.errors import LuternError

PIPE_COLUMNS = 170
"""Width of tables that are written to a file: none is folded."""


def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Checkpoint folders to compare as well.")] = None,
    large: Annotated[bool, typer.Option("--large", help="V 32000, d 1024 too: half a minute, 3 GB.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Random weights stored as the releases are.")] = False,
    word_lengths: Annotated[bool, typer.Option("--word-lengths", help="Print what every word length costs.")] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Print what embeddings of 12 bits save and cost.")
    ] = False,
) -> None:
    """Print the integer network's error against float32 beside that of a float16 run; status 1 above 0.8 of it."""
    console = plain_console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    if word_lengths:
        _word_lengths(console, models or [])
        return
    if embeddings:
        _embeddings(console, models or [])
        return
    table = Table(title="relative RMS error of logits against float32")
    for column in ("checkpoint", "d", "L", "m", "V", "integer", "float16", "share", "saturated"):
        table.add_column(column, justify="left" if column == "checkpoint" else "right")
    opened = [(name, _checkpoint(name)) for name in models or []]  # refused before anything is computed
    shapes = {**measure.SHAPES, **(measure.LARGE if large else {})}
    reference = measure.reference()
    results = [reference] if reference else []
    results += [measure.compare(f"random, {name}", measure.synthetic(c, bfloat16)) for name, c in shapes.items()]
    results += [measure.compare(name, checkpoint) for name, checkpoint in opened]
    for one in results:
        config = one.config
        shape = (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size)
        table.add_row(
            one.name,
            *map(str, shape),
            f"{one.integer:.4f}",
            f"{one.float16:.4f}",
            f"{one.share:.2f}",
            f"{one.saturated:,}",
        )
    console.print(table)
    failed = [one.name for one in results if not one.passes]
    if failed and not bfloat16:
        console.print(f"above {measure.GATE} of the float16 run, or saturated: {', '.join(failed)}")
        raise typer.Exit(1)


def _checkpoint(name: str) -> Checkpoint:
    """The float weights of a model."""
    checkpoint = open_model(name).checkpoint
    if checkpoint is None:
        raise LuternError(f"{name} is an image, which holds no float weights to compare with; give the checkpoint.")
    return checkpoint


def _embeddings(console: Console, models: list[str]) -> None:
    """One row a checkpoint: bytes and error with embeddings of 16 and of 12 bits."""
    wide, narrow = EMBEDDING_BITS
    table = Table(title="embeddings: bytes of the image without its tokenizer, error of logits, top-1 agreement")
    table.add_column("checkpoint", no_wrap=True)
    headings = ("d", "L", "m", "V", *(f"bytes, {bits} bits" for bits in EMBEDDING_BITS), "share")
    errors = (*(f"{bits} against float" for bits in EMBEDDING_BITS), f"{narrow} against {wide}", "same top-1")
    for column in (*headings, *errors):
        table.add_column(column, justify="right")
    found = [embedding_study.synthetic_cost(width) for width in embedding_study.WIDTHS]
    found += [embedding_study.cost(name, _checkpoint(name)) for name in models]
    for one in found:
        config, sizes = one.config, one.image_bytes
        shape = (config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size)
        table.add_row(
            one.name,
            *map(str, shape),
            *(f"{sizes[bits]:,}" for bits in EMBEDDING_BITS),
            f"{sizes[narrow] / sizes[wide]:.3f}",
            *(f"{one.errors[bits]:.4f}" for bits in EMBEDDING_BITS),
            f"{one.between:.4f}",
            f"{one.same:.1%}",
        )
    console.print(table)


def _word_lengths(console: Console, models: list[str]) -> None:
    """One row a stage and word: error in steps of the int8 code, and share of codes that differ."""
    for name in models or [str(measure.REFERENCE)]:
        checkpoint = _checkpoint(name)
        table = Table(title=f"{name}: bits, RMS error in steps of the int8 code, share of codes that differ")
        table.add_column("word", no_wrap=True)
        table.add_column("built", justify="right")
        table.add_column("codes of")
        rows = sweep(checkpoint)
        for _ in range(max(len(row.cells) for row in rows)):
            table.add_column("bits steps   differ", justify="right")
        for row in rows:
            table.add_row(row.word, str(row.built), row.codes_of, *(_cell(cell) for cell in row.cells))
        console.print(table)


def _cell(cell: Cell) -> str:
    steps = "      " if cell.steps is None else f"{cell.steps:.4f}" if cell.steps < 10 else f"{cell.steps:.3f}"
    return f"{cell.bits:2} {steps} {cell.differ:7.2%}"
