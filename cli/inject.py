"""`lutern inject`: injects faults into a simulated board, and counts their outcomes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lutern.boards.cache import digest
from lutern.cli.cluster import SchedulerOption
from lutern.cli.machine import MachineOption, SetOption, machine_or_default, preset_option
from lutern.cli.models import open_model
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, whole
from lutern.cli.progress import progress_bar
from lutern.cli.table import Cell, Column, FormatOption, printing
from lutern.firmware.limits import check_fit
from lutern.hw.config import HwConfig
from lutern.measure import cluster
from lutern.measure.inject.campaign import Settings
from lutern.measure.inject.campaigns import CAMPAIGNS, SMALL_MACHINE, SMALL_MODEL, campaign_of, open_campaign
from lutern.measure.inject.results import INTERVALS, KEYS, ResultsFile, percent, rows
from lutern.measure.inject.spread import spread_faults
from lutern.measure.inject.workers import map_faults
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import simulated
from lutern.sim.verilate import verilate

FAULTS = 200
MOST_WORKERS = 256
COLUMNS = (
    *(Column(key, left=key == "kind") for key in KEYS),
    *(
        column
        for name in INTERVALS
        for column in (Column(f"{name}_low", f"{name}, 95 %"), Column(f"{name}_high", f"{name}, 95 %, high"))
    ),
)


def machine_and_model(config: HwConfig, model: str | None) -> tuple[HwConfig, IntegerWeights]:
    """Return the machine and the weights of a campaign. If no model is chosen, the weights are a small random model."""
    if config.memory == "host":
        raise LuternError(f"{config.name} waits for words from the host; choose a preset with a memory of its own.")
    weights = integer_weights(random_checkpoint(SMALL_MODEL, 1)) if model is None else open_model(model).weights
    check_fit(weights.config, config, weights.embeddings.bits)
    return config, weights


def inject(
    campaign: Annotated[str, typer.Argument(help=f"{', '.join(CAMPAIGNS)}; see docs/reliability.md.")],
    preset_name: Annotated[str, preset_option("a small machine with a memory at its port")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="demo, demo-small, demo-large, a checkpoint folder, or an image; default: a small model with random "
            "weights."
        ),
    ] = None,
    faults: Annotated[
        int | None,
        whole(
            "--faults",
            least=1,
            most=LARGEST_COUNT,
            help=f"Number of faults; default: {FAULTS}, or all if there are fewer.",
        ),
    ] = None,
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the faults.")] = 1,
    workers: Annotated[int, whole("--workers", least=1, most=MOST_WORKERS, help="Number of processes.")] = 1,
    scheduler: SchedulerOption = "",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File for the outcomes. Outcomes that it contains are not computed again."),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Inject faults into a simulated board, and count masked, detected, corrected and undetected faults."""
    machine = machine_or_default(preset_name, settings, machine_file, SMALL_MACHINE)
    of_campaign = campaign_of(campaign, machine)
    config, weights = machine_and_model(machine, model)
    of_campaign.check_machine(config)
    library = verilate(simulated(config), upsets=of_campaign.needs_upsets)
    of_run = Settings(campaign, seed, config, weights, library)
    opened = open_campaign(of_run)
    count = opened.fault_count or FAULTS if faults is None else faults
    if opened.fault_count is not None and count > opened.fault_count:
        raise LuternError(f"--faults is {count:,}, but campaign {campaign} has {opened.fault_count:,}; give no more.")
    about = {
        "campaign": campaign,
        "seed": seed,
        "machine": config.digest,
        "board": library.parent.name,
        "image": opened.program.image,
    }
    with ResultsFile(out, about) as results:
        left = [index for index in range(count) if index not in results.outcomes]
        with progress_bar(campaign) as advance, contextlib.ExitStack() as stack:
            advance(count - len(left), count)
            if scheduler:
                crew = stack.enter_context(cluster.workers(scheduler=scheduler))
                struck = spread_faults(of_run, digest(json.dumps(about)), left, crew)
            else:
                struck = map_faults(of_run, left, min(workers, len(left))) if left else iter(())
            for outcome in struck:
                results.add(outcome)
                advance(sum(index < count for index in results.outcomes), count)
        outcomes = [outcome for index, outcome in sorted(results.outcomes.items()) if index < count]
    with printing(form) as printer:
        printer.table("outcomes", COLUMNS, map(row_values, rows(outcomes)), total=True)
        image = f"image {about['image']:08x}"
        printer.say(f"campaign {campaign}, seed {seed}, machine {config.name} ({config.digest[:8]}), {image}")


def row_values(row: list[Any]) -> list[Any]:
    """Return a row of the table. For programs, each end of an interval is a column."""
    values = row[: len(KEYS)]
    for low, high in row[len(KEYS) :]:
        values += [Cell(low, f"{percent(low)} to {percent(high)} %"), Cell(high, "")]
    return values


__all__ = ["inject"]
