"""`lutern new`: writes a random checkpoint in a published shape, for trials at full size without trained weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.numbers import LARGEST_SEED, whole
from lutern.cli.progress import named_progress_bar
from lutern.model_ref.config import MAX_LAYERS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED, SHARD_BYTES, write_random_checkpoint


def new(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")],
    shape: Annotated[str, typer.Option("--size", help=f"Shape: {', '.join(PUBLISHED)}.")] = "370m",
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of all random numbers.")] = 1,
    layers: Annotated[
        int | None, whole("--layers", least=1, most=MAX_LAYERS, help="Number of layers; default: as in the shape.")
    ] = None,
    shard_bytes: Annotated[
        int, whole("--shard-bytes", least=1, most=1 << 50, help="Largest size of a file.")
    ] = SHARD_BYTES,
) -> None:
    """Write a checkpoint of random numbers in the published format and shape, and mark it as synthetic."""
    if shape not in PUBLISHED:
        raise LuternError(f"there is no size {shape}; choose one of {', '.join(PUBLISHED)}.")
    config = PUBLISHED[shape]
    if layers is not None:
        config = dataclasses.replace(config, num_hidden_layers=layers)
    mark = f"random numbers: lutern new --size {shape} --seed {seed}" + (f" --layers {layers}" if layers else "")
    with named_progress_bar("writing") as advance:
        write_random_checkpoint(out, config, seed, mark, shard_bytes, advance)
    print(f"{out}: {config.trits:,} ternary weights, synthetic ({mark}).")
