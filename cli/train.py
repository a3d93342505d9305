"""`lutern train`: a text in, a checkpoint out. The work is done by lutern.train, this reads the options."""

import dataclasses
import typing
from pathlib import Path
from typing import Annotated, Any

import typer

import lutern.train
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, check_number, whole
from lutern.model_ref.errors import LuternError
from lutern.train import TrainOptions

FLAGS = ("steps", "seed", "device", "resume")  # fields of TrainOptions with a flag of their own; --set takes the others
KINDS = {int: "a whole number", float: "a number"}


def list_settings() -> str:
    """What --set takes, with the defaults."""
    fields = [field for field in dataclasses.fields(TrainOptions) if field.name not in FLAGS]
    return ", ".join(f"{field.name}={field.default}" for field in fields)


def parse_setting(setting: str) -> tuple[str, Any]:
    """Name and value of `name=value`, the value in the type that TrainOptions gives that name."""
    name, equals, text = setting.partition("=")
    types = {name: kind for name, kind in typing.get_type_hints(TrainOptions).items() if name not in FLAGS}
    if not equals or name not in types:
        raise LuternError(f"--set {setting}: NAME=VALUE is wanted, with a NAME out of {', '.join(types)}.")
    if types[name] in KINDS:
        try:
            value = types[name](text)
        except ValueError:
            raise LuternError(f"--set {setting}: {name} wants {KINDS[types[name]]}.") from None
        check_number(f"--set {name}", value, -LARGEST_COUNT, LARGEST_COUNT)
        return name, value
    if text not in ("true", "false"):
        raise LuternError(f"--set {setting}: {name} wants true or false.")
    return name, text == "true"


def train(
    text: Annotated[Path | None, typer.Argument(help="The text to learn from: UTF-8, plain or .xz.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the checkpoint and for what --resume needs.")] = None,
    steps: Annotated[int, whole("--steps", least=1, most=LARGEST_COUNT, help="Optimiser steps.")] = TrainOptions.steps,
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Of everything random.")] = TrainOptions.seed,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto for a GPU where there is one.")] = TrainOptions.device,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last save in the folder.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=f"Any other option: {list_settings()}.")
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Train nothing: measure training and decoding on this computer.")
    ] = False,
    baseline: Annotated[
        str, typer.Option(metavar="DIR|fla", help="Measured beside: a clone of matmulfreellm, or the package fla-core.")
    ] = "",
) -> None:
    """Train a model on a text and write its checkpoint."""
    if benchmark:
        for line in lutern.train.benchmark(baseline):
            print(line, flush=True)
        return
    if text is None or out is None:
        raise LuternError("lutern train wants a TEXT and, for the checkpoint, --out FOLDER; or --benchmark alone.")
    values: dict[str, Any] = {"steps": steps, "seed": seed, "device": device, "resume": resume}
    values.update(parse_setting(setting) for setting in settings or [])
    options = TrainOptions(**values)
    report = lutern.train.train(text, out, options)
    bits = report["validation_bits_per_character"]
    print(f"{out}: {report['trits']:,} trits, {bits:.4f} bits per character of the validation text.")
