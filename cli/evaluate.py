"""`lutern eval`: bits per character of a model on a text, float and integer side by side."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from lutern.cli.models import open_model
from lutern.cli.progress import progress_bar
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import SteppedModel, bits_per_character, split
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantize import integer_weights


def evaluate(
    model: Annotated[str, typer.Argument(help="demo, demo-small, or a checkpoint folder.")],
    text: Annotated[Path, typer.Argument(help="Text file, plain or .xz; its last 5 % are evaluated.")],
    whole: Annotated[bool, typer.Option("--whole", help="Evaluate the whole text, not its last 5 %.")] = False,
    streams: Annotated[int, typer.Option(min=1, help="Parallel streams that the text is cut into.")] = 64,
) -> None:
    """Print bits per character, float and integer."""
    opened = open_model(model)
    ids = np.array(opened.tokenizer.encode(read_text(text)))
    if not whole:
        ids = split(ids)[1]
    models: dict[str, SteppedModel] = {
        "float": FloatModel(opened.checkpoint),
        "integer": IntegerModel(integer_weights(opened.checkpoint)),
    }
    console = Console(highlight=False)
    console.print(f"{opened.name}: {len(ids):,} characters in {streams} streams")
    results = {}
    for name, candidate in models.items():
        with progress_bar(name) as advance:
            results[name] = bits_per_character(candidate, ids, streams, advance)
        console.print(f"{name:8} {results[name]:.5f} bits per character")
    console.print(f"integer - float {results['integer'] - results['float']:+.5f}")


def read_text(path: Path) -> str:
    """Contents of a UTF-8 text file, unpacked if its name ends in .xz."""
    try:
        if path.suffix == ".xz":
            with lzma.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise LuternError(f"{path} cannot be read as text ({error}); give a UTF-8 text file, plain or .xz.") from error
