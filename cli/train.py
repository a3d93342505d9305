"""`lutern train`: trains a model on data and writes its checkpoint. This module reads the options for ``lutern.train``.

With `torchrun --no-python --nproc-per-node 2 lutern train ...`, every process runs this module, and only the first
process prints.
"""

import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any

import typer

import lutern.train
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, check_number, whole
from lutern.model_ref.errors import LuternError
from lutern.train import TrainOptions
from lutern.train.options import DEFAULTS

FLAGS = (*("tokenizer", "start_from", "schedule", "steps", "seed", "device", "parallel"), *("resume", "force"))
"""The fields of TrainOptions that have their own flag. --set changes all other fields."""
KINDS = {int: "a whole number", float: "a number"}


def list_settings() -> str:
    """Return the names that --set accepts, with their defaults."""
    fields = [field for field in dataclasses.fields(TrainOptions) if field.name not in FLAGS]
    return ", ".join(f"{field.name}={DEFAULTS.get(field.name, field.default)}" for field in fields)


def kind_of(annotation: Any) -> type:
    """Return the type of a field, without None if the field may be None."""
    kinds = [kind for kind in typing.get_args(annotation) or (annotation,) if kind is not type(None)]
    return kinds[0]  # type: ignore[no-any-return]


def parse_setting(setting: str) -> tuple[str, Any]:
    """Return the name and the value of `name=value`. The value has the type of the field ``name`` in TrainOptions."""
    name, equals, text = setting.partition("=")
    hints = typing.get_type_hints(TrainOptions)
    types = {name: kind_of(hint) for name, hint in hints.items() if name not in FLAGS}
    if not equals or name not in types:
        raise LuternError(f"--set {setting}: give NAME=VALUE, with a NAME from {', '.join(types)}.")
    if types[name] is str:
        return name, text
    if types[name] in KINDS:
        try:
            value = types[name](text)
        except ValueError:
            raise LuternError(f"--set {setting}: {name} needs {KINDS[types[name]]}.") from None
        check_number(f"--set {name}", value, -LARGEST_COUNT, LARGEST_COUNT)
        return name, value
    if text not in ("true", "false"):
        raise LuternError(f"--set {setting}: {name} needs true or false.")
    return name, text == "true"


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Training data: a text (UTF-8, plain or .xz), a data set's folder or file (.jsonl, .parquet, "
            ".arrow), or token numbers (.npy, .bin).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the checkpoint, and for the saves that --resume reads."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="character, bpe:N for N pieces that are found in the text, a tokenizer.json, or its folder; "
            "default: the tokenizer of --from, else character.",
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of a MatMul-free checkpoint from whose weights training begins."),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="cosine, or paper: the published learning rates, halved midway.")
    ] = TrainOptions.schedule,
    steps: Annotated[int, whole("--steps", least=1, most=LARGEST_COUNT, help="Optimiser steps.")] = TrainOptions.steps,
    seed: Annotated[
        int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of all random numbers.")
    ] = TrainOptions.seed,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU if there is one.")] = TrainOptions.device,
    parallel: Annotated[
        str, typer.Option(help="Under torchrun: ddp, or fsdp, which splits the model among the processes.")
    ] = TrainOptions.parallel,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last save in the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model or the saves in the folder.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help=f"Set another option; can be repeated: {list_settings()}."),
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Measure training and decoding on this computer, and write no model.")
    ] = False,
    baseline: Annotated[
        str,
        typer.Option(
            metavar="DIR|fla",
            help="With --benchmark, also measure a clone of matmulfreellm in DIR, or the package fla-core.",
        ),
    ] = "",
) -> None:
    """Train a model and write its checkpoint."""
    if benchmark:
        for line in lutern.train.benchmark(baseline):
            print(line, flush=True)
        return
    if data is None or out is None:
        raise LuternError("lutern train needs DATA, and --out FOLDER for the checkpoint; or give --benchmark alone.")
    try:
        values: dict[str, Any] = {"tokenizer": tokenizer, "schedule": schedule, "steps": steps, "seed": seed}
        values |= {"device": device, "parallel": parallel, "resume": resume, "force": force}
        values["start_from"] = None if start_from is None else str(start_from)
        values.update(parse_setting(setting) for setting in settings or [])
        report = lutern.train.train(data, out, TrainOptions(**values))
    except LuternError as error:
        if lutern.train.speaks(error):
            raise
        raise typer.Exit(1) from error
    if report:
        bits = report["validation_bits_per_character"]
        print(f"{out}: {report['trits']:,} trits, {bits:.4f} bits per character of the validation text.")
