"""`lutern eval`: prints bits per character and per token of a model's float and integer network on a text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from lutern.api.models import Model
from lutern.cli.models import open_model
from lutern.cli.numbers import whole
from lutern.cli.progress import progress_bar
from lutern.cli.prompts import STANDARD_INPUT, collect_prompts
from lutern.cli.table import Column, FormatOption, Printer, fixed, printing
from lutern.model_ref.evaluate import SteppedModel, bits_per_character, counted, split
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import COUNTED, Saturations
from lutern.model_ref.text import read_text

STREAMS = 64
STREAM_TOKENS = 256
"""By default, a stream has at least this many tokens, since each stream begins with an empty state."""
FEW_CHARACTERS = 10_000
"""The least number of characters for reliable figures. With fewer characters, the figures of two similar texts differ
by tenths of a bit."""
COLUMNS = (
    Column("numerics", left=True),
    Column("bits_per_character", show=fixed(5)),
    Column("bits_per_token", show=fixed(5)),
    *map(Column, ("characters", "tokens", "streams", "saturated")),
)


def evaluate(
    model: Annotated[str, typer.Argument(help="demo, demo-small, demo-large, a checkpoint folder, or an image.")],
    text: Annotated[
        Path, typer.Argument(help="Text file, plain or .xz, or - for standard input. The last 5 % are evaluated.")
    ],
    whole: Annotated[bool, typer.Option("--whole", help="Evaluate the whole text, not its last 5 %.")] = False,
    streams: Annotated[
        int | None,
        whole(
            "--streams",
            least=1,
            most=65_536,
            help=f"Number of parallel streams into which the text is divided. Default: {STREAMS}, or fewer if a stream "
            f"would have less than {STREAM_TOKENS} tokens.",
        ),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Print bits per character and per token of the float and the integer network, and the number of saturated
    values."""
    network = open_model(model)
    tokenizer = network.tokenizer
    ids = np.array(tokenizer.encode(text_of(text), begin=False), dtype=np.int64)
    if not whole:
        ids = split(ids)[1]
    count = streams or min(STREAMS, max(1, len(ids) // STREAM_TOKENS))
    with printing(form) as printer:
        print_figures(printer, network, ids, count)


def text_of(path: Path) -> str:
    """Return the text of a file, or of standard input."""
    return collect_prompts(STANDARD_INPUT, [], [], piped=False)[0] if str(path) == STANDARD_INPUT else read_text(path)


def print_figures(printer: Printer, network: Model, ids: NDArray[np.int64], streams: int) -> None:
    """Print the result of each numerics when it is computed, then the numbers of saturated values."""
    weights, counts, checkpoint = network.weights, Saturations(), network.checkpoint
    makers: dict[str, Callable[[], SteppedModel]] = {"integer": lambda: FastModel(weights, counts)}
    if checkpoint is not None:
        makers = {"float": lambda: FloatModel(checkpoint), **makers}
    results: dict[str, float] = {}
    characters = tokens = 0
    for name, make in makers.items():
        with progress_bar(name) as advance:
            results[name] = bits_per_character(make(), ids, streams, advance, network.tokenizer.ahead)
        if not characters:  # after an evaluation, each stream surely has two tokens
            characters, tokens = counted(network.tokenizer, ids, streams)
            printer.say(
                f"{network.name}: {tokens:,} tokens, {characters:,} characters in {streams} stream{'s' * (streams > 1)}"
            )
        bits = results[name]
        printer.say(f"{name:8} {bits * tokens / characters:.5f} bits per character  {bits:.5f} bits per token")
    saturated = {"integer": sum(counts.counts.values())}
    rows = (
        (name, bits * tokens / characters, bits, characters, tokens, streams, saturated.get(name))
        for name, bits in results.items()
    )
    printer.facts("figures", COLUMNS, *rows)
    if "float" in results:
        difference = (results["integer"] - results["float"]) * tokens / characters
        printer.say(f"integer - float {difference:+.5f} bits per character")
    if network.synthetic:
        printer.say(f"synthetic weights ({network.synthetic})")
    printer.say("saturated: " + ", ".join(f"{name} {counts.of(name):,}" for name in COUNTED))
    for (name, layer), count in counts.counts.items():
        if count:
            printer.say(f"  {name} of layer {layer}: {count:,}" if layer >= 0 else f"  embedding: {count:,}")
    printer.say(f"ranges: calibrated for {', '.join(weights.calibrated)}" if weights.calibrated else "ranges: proved")
    if characters < FEW_CHARACTERS:
        printer.warn(
            f"{characters:,} characters are few: figures of a similar text may differ by tenths of a bit. Give "
            f"{FEW_CHARACTERS:,} or more; --whole evaluates all of a text."
        )
