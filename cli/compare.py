"""`lutern compare`: prints the errors of the integer network and of a float16 run, and the error that each word length
causes."""

from __future__ import annotations

from typing import Annotated

import typer

from lutern.cli.models import open_model
from lutern.cli.table import Column, FormatOption, Printer, fixed, percent, printing
from lutern.measure import compare as measure
from lutern.measure import embeddings as embedding_study
from lutern.measure.word_lengths import sweep
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS
from lutern.model_ref.errors import LuternError

SHAPE_COLUMNS = (
    Column("checkpoint", left=True),
    Column("hidden_size", "d"),
    Column("layers", "L"),
    Column("intermediate_size", "m"),
    Column("vocab_size", "V"),
)
ERROR_COLUMNS = (
    *SHAPE_COLUMNS,
    Column("integer", show=fixed(4)),
    Column("float16", show=fixed(4)),
    Column("share", show=fixed(2)),
    Column("saturated"),
)


def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Checkpoint folders that are also compared.")] = None,
    large: Annotated[bool, typer.Option("--large", help="Also compare V 32000, d 1024 (half a minute, 3 GB).")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Store random weights in bfloat16.")] = False,
    word_lengths: Annotated[
        bool, typer.Option("--word-lengths", help="Print the error that each word length causes.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Print the bytes and the error of embeddings of 12 bits.")
    ] = False,
    form: FormatOption = "text",
) -> None:
    """Print the errors of the integer network and of a float16 run against float32. The exit status is 1 if the
    integer error is above 0.8 times the float16 error, or if values were clipped.
    """
    with printing(form) as printer:
        if word_lengths:
            _word_lengths(printer, models or [])
        elif embeddings:
            _embeddings(printer, models or [])
        elif not _errors(printer, models or [], large, bfloat16):
            raise typer.Exit(1)


def _errors(printer: Printer, models: list[str], large: bool, bfloat16: bool) -> bool:
    """Print the errors of each checkpoint, and return whether all checkpoints pass. If ``bfloat16`` is set, return
    True."""
    opened = [(name, _checkpoint(name)) for name in models]  # a wrong name is refused before anything is computed
    shapes = {**measure.SHAPES, **(measure.LARGE if large else {})}
    reference = measure.reference()
    results = [reference] if reference else []
    results += [measure.compare(f"random, {name}", measure.synthetic(c, bfloat16)) for name, c in shapes.items()]
    results += [measure.compare(name, checkpoint) for name, checkpoint in opened]
    printer.say("relative RMS error of logits against float32")
    rows = [(one.name, *_shape(one.config), one.integer, one.float16, one.share, one.saturated) for one in results]
    printer.table("errors", ERROR_COLUMNS, rows)
    failed = [one.name for one in results if not one.passes]
    if failed and not bfloat16:
        printer.say(f"above {measure.GATE} of the float16 run, or saturated: {', '.join(failed)}")
    return not failed or bfloat16


def _shape(config: ModelConfig) -> tuple[int, int, int, int]:
    return config.hidden_size, config.num_hidden_layers, config.intermediate_size, config.vocab_size


def _checkpoint(name: str) -> Checkpoint:
    """Return the float weights of a model."""
    checkpoint = open_model(name).checkpoint
    if checkpoint is None:
        raise LuternError(f"{name} is an image, which holds no float weights to compare with; give the checkpoint.")
    return checkpoint


def _embeddings(printer: Printer, models: list[str]) -> None:
    """Print one row for each checkpoint: the bytes and the error with embeddings of 16 bits and of 12 bits."""
    wide, narrow = EMBEDDING_BITS
    columns = (
        *SHAPE_COLUMNS,
        *(Column(f"bytes_{bits}_bits", f"bytes, {bits} bits") for bits in EMBEDDING_BITS),
        Column("share", show=fixed(3)),
        *(Column(f"error_{bits}_bits", f"{bits} against float", fixed(4)) for bits in EMBEDDING_BITS),
        Column("error_between", f"{narrow} against {wide}", fixed(4)),
        Column("same_top_1", "same top-1", percent(1)),
    )
    found = [embedding_study.synthetic_cost(width) for width in embedding_study.WIDTHS]
    found += [embedding_study.cost(name, _checkpoint(name)) for name in models]
    rows = [
        (
            one.name,
            *_shape(one.config),
            *(one.image_bytes[bits] for bits in EMBEDDING_BITS),
            one.image_bytes[narrow] / one.image_bytes[wide],
            *(one.errors[bits] for bits in EMBEDDING_BITS),
            one.between,
            one.same,
        )
        for one in found
    ]
    printer.say("embeddings: bytes of the image without its tokenizer, error of logits, top-1 agreement")
    printer.table("embeddings", columns, rows)


def _word_lengths(printer: Printer, models: list[str]) -> None:
    """Print one row for each number that the gateware stores as a word, and for each width of this word: the error in
    steps of the int8 code, and the share of codes that differ."""
    columns = (
        Column("word", left=True),
        Column("built"),
        Column("codes_of", left=True),
        Column("bits"),
        Column("steps", show=_steps),
        Column("differ", show=percent(2)),
    )
    for name in models or [str(measure.REFERENCE)]:
        printer.say(f"{name}: bits, RMS error in steps of the int8 code, share of codes that differ")
        rows = [
            (row.word, row.built, row.codes_of, cell.bits, cell.steps, cell.differ)
            for row in sweep(_checkpoint(name))
            for cell in row.cells
        ]
        printer.table(f"word lengths of {name}", columns, rows)


def _steps(steps: float) -> str:
    return f"{steps:.4f}" if steps < 10 else f"{steps:.3f}"
