"""`lutern eval`: bits per character and per token of a model on a text, float and integer side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lutern.cli.models import open_network
from lutern.cli.numbers import whole
from lutern.cli.output import plain_console
from lutern.cli.progress import progress_bar
from lutern.model_ref.evaluate import SteppedModel, bits_per_character, counted, split
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import COUNTED, Saturations
from lutern.model_ref.text import read_text


def evaluate(
    model: Annotated[str, typer.Argument(help="demo, demo-small, a checkpoint folder, or an image.")],
    text: Annotated[Path, typer.Argument(help="Text file, plain or .xz; its last 5 % are evaluated.")],
    whole: Annotated[bool, typer.Option("--whole", help="Evaluate the whole text, not its last 5 %.")] = False,
    streams: Annotated[
        int, whole("--streams", least=1, most=65_536, help="Parallel streams that the text is cut into.")
    ] = 64,
) -> None:
    """Print bits per character and per token, float and integer, and how many values saturated."""
    network = open_network(model)
    tokenizer = network.tokenizer()
    ids = np.array(tokenizer.encode(read_text(text), begin=False), dtype=np.int64)
    if not whole:
        ids = split(ids)[1]
    console = plain_console()
    weights = network.weights()
    counts = Saturations()
    checkpoint = network.checkpoint
    makers: dict[str, Callable[[], SteppedModel]] = {"integer": lambda: FastModel(weights, counts)}
    if checkpoint is not None:
        makers = {"float": lambda: FloatModel(checkpoint), **makers}
    results: dict[str, float] = {}
    per_character = 0.0
    for name, make in makers.items():
        with progress_bar(name) as advance:
            results[name] = bits_per_character(make(), ids, streams, advance, tokenizer.ahead)
        if not per_character:  # now known to be at least two tokens a stream
            characters, tokens = counted(tokenizer, ids, streams)
            per_character = tokens / characters
            console.print(f"{network.name}: {tokens:,} tokens, {characters:,} characters in {streams} streams")
        bits = results[name]
        console.print(f"{name:8} {bits * per_character:.5f} bits per character  {bits:.5f} bits per token")
    if "float" in results:
        difference = results["integer"] - results["float"]
        console.print(f"integer - float {difference * per_character:+.5f} bits per character")
    if network.synthetic:
        console.print(f"synthetic weights ({network.synthetic})")
    console.print("saturated: " + ", ".join(f"{name} {counts.of(name):,}" for name in COUNTED))
    for (name, layer), count in counts.counts.items():
        if count:
            console.print(f"  {name} of layer {layer}: {count:,}" if layer >= 0 else f"  embedding: {count:,}")
    console.print(f"ranges: calibrated for {', '.join(weights.calibrated)}" if weights.calibrated else "ranges: proved")
