"""`lutern scale`: trains several sizes under equal conditions, MatMul-free and as a Transformer, and fits the law that
their losses follow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.columns import Column, fixed
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, real, whole
from lutern.cli.progress import named_progress_bar
from lutern.cli.table import FormatOption, printing
from lutern.measure import pictures, scaling
from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.output_files import write_whole
from lutern.train.scaling import SIZES, Plan
from lutern.train.scaling_all import train_all

PICTURE = "scaling"
"""The name of the files scaling.svg, scaling.png and scaling.csv in the output folder."""
COLUMNS = (
    Column("kind", left=True),
    Column("size", left=True),
    Column("weights"),
    Column("learning_rate"),
    Column("training_bits", "training", fixed(4)),
    Column("validation_bits", "validation", fixed(4)),
    Column("exponent", "exponent to the next", fixed(3)),
)
assert tuple(column.key for column in COLUMNS) == scaling.COLUMNS


def sizes_of(text: str) -> tuple[tuple[int, int], ...]:
    """Return the pairs of hidden size and layers in a text such as `64x4,96x5`."""
    try:
        return tuple((int(width), int(layers)) for width, layers in (size.split("x") for size in text.split(",")))
    except ValueError:
        raise LuternError(
            f"--sizes is {quoted(text)}, but must be hidden sizes and layers, such as {shown(SIZES[:3])}."
        ) from None


def shown(sizes: tuple[tuple[int, int], ...]) -> str:
    """Return the text from which ``sizes_of`` reads these sizes."""
    return ",".join(f"{width}x{layers}" for width, layers in sizes)


def factors_of(text: str) -> tuple[float, ...]:
    """Return the factors in a text such as `0.5,1`."""
    try:
        return tuple(float(factor) for factor in text.split(","))
    except ValueError:
        raise LuternError(f"--rates is {quoted(text)}, but must be factors, such as 0.5,1.") from None


def scale(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Training data in a format of lutern train.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the runs, the table and the pictures. Unfinished runs in it are continued.")
    ],
    sizes: Annotated[str, typer.Option(metavar="DxL,...", help="Hidden size and layers of each network.")] = shown(
        SIZES
    ),
    steps: Annotated[int, whole("--steps", least=2, most=LARGEST_COUNT, help="Steps of every run.")] = Plan.steps,
    batch: Annotated[int, whole("--batch", least=1, most=LARGEST_COUNT, help="Crops in each step.")] = Plan.batch,
    length: Annotated[
        int, whole("--length", least=2, most=LARGEST_COUNT, help="Tokens in each crop.")
    ] = Plan.sequence_length,
    rates: Annotated[
        str,
        typer.Option(
            metavar="F,...",
            help="Factors of the learning rate. Each network is trained with each factor, and the best run counts.",
        ),
    ] = "1",
    dropout: Annotated[float, real("--dropout", least=0, most=0.99, help="As in lutern train.")] = Plan.dropout,
    tokenizer: Annotated[str, typer.Option(metavar="NAME|FILE", help="As in lutern train.")] = Plan.tokenizer,
    at_once: Annotated[
        int, whole("--at-once", least=1, most=256, help="Number of runs in parallel, on one GPU or CPU.")
    ] = Plan.at_once,
    minutes: Annotated[
        float | None,
        real(
            "--minutes",
            least=0.01,
            most=1e6,
            help="Stop all runs after this time. The last step that all runs have reached is compared.",
        ),
    ] = None,
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of all random numbers.")] = Plan.seed,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU if there is one.")] = Plan.device,
    form: FormatOption = "text",
) -> None:
    """Train several sizes, MatMul-free and as a float Transformer, and draw loss over weights and over compute."""
    pictures.require_matplotlib()
    plan = Plan(
        sizes=sizes_of(sizes),
        factors=factors_of(rates),
        steps=steps,
        batch=batch,
        sequence_length=length,
        dropout=dropout,
        tokenizer=tokenizer,
        seed=seed,
        device=device,
        at_once=at_once,
        minutes=minutes,
    )
    with named_progress_bar("steps") as advance:
        results = train_all(data, out, plan, advance)
    figure = pictures.scaling(results)
    write_whole(out / f"{PICTURE}.csv", scaling.to_csv(results))
    write_whole(out / f"{PICTURE}.svg", pictures.to_svg(figure, PICTURE))
    write_whole(out / f"{PICTURE}.png", pictures.to_png(figure))
    with printing(form) as printer:
        printer.table("scaling", COLUMNS, scaling.rows(results))
        for sentence in scaling.sentences(results):
            printer.say(sentence)
        printer.say(f"{out / PICTURE}.svg, .png, .csv")
