"""`lutern cycles`: where a token's cycles go, read from the counters of a chip, simulated or at a port."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lutern.api.machines import Machine, open_machine
from lutern.cli.models import open_model
from lutern.cli.numbers import baud_option, whole
from lutern.cli.port import PORTS, MemoryOption, RecordOption, check_options, is_port
from lutern.cli.progress import load_bar
from lutern.cli.repairs import repairs_shown
from lutern.cli.table import print_table
from lutern.firmware.limits import check_fit
from lutern.hw.presets import PRESETS, preset
from lutern.hw.protocol import COUNTER_NAMES, LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure import figures, pictures
from lutern.measure.phases import MEANINGS, Token, check_countable
from lutern.measure.provenance import provenance
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file


def counted(machine: Machine, streams: int) -> Token:
    """A token of a machine, which is closed then."""
    with machine, repairs_shown(machine.session):
        return machine.count(streams)


def print_token(token: Token) -> None:
    """A line a phase; separated by tabs in a pipe."""
    headings = ["part", "phase", "cycles", "by the model", *COUNTER_NAMES]
    rows = [
        [
            phase.part,
            phase.name,
            f"{phase.cycles:,}",
            "" if phase.model_cycles is None else f"{phase.model_cycles:,}",
            *(f"{phase.counts[name]:,}" for name in COUNTER_NAMES),
        ]
        for phase in token.phases
    ]
    modelled = [phase.model_cycles for phase in token.phases if phase.model_cycles is not None]
    rows.append(
        [
            "all",
            "",
            f"{token.cycles:,}",
            f"{sum(modelled):,}" if modelled else "",
            *(f"{token.total(name):,}" for name in COUNTER_NAMES),
        ]
    )
    print_table(headings, rows, left=("part", "phase"), total=True)
    if not sys.stdout.isatty():
        return
    for title, names in (("lanes", LANE_COUNTERS), ("record stream", RECORD_COUNTERS)):
        print(f"{title}: " + "; ".join(f"{name}, {MEANINGS[name]}" for name in names))


def cycles(
    model: Annotated[str, typer.Option(help="demo, demo-small, a checkpoint folder, or an image.")] = "demo",
    preset_name: Annotated[
        str | None, typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}; default: sim-64, or the port's.")
    ] = None,
    streams: Annotated[int, whole("--streams", least=1, most=16, help="Tokens of a pass.")] = 1,
    on: Annotated[str, typer.Option(help=f"sim: the simulated board; or {PORTS}.")] = "sim",
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            help="Draw it: the timeline here, as .svg, .pdf or .png; beside it a bar a layer in NAME-layers, and the "
            "data of both as .csv.",
        ),
    ] = None,
) -> None:
    """Where a token's cycles go, phase by phase: what lanes and record stream waited for, counted on the chip."""
    if on != "sim" and not is_port(on):
        raise LuternError(f"there is nothing called {on} to count on; give sim, {PORTS}.")
    check_options(on, baud, record, memory)
    if output is not None:
        pictures.require_matplotlib()
        if output.suffix[1:] not in figures.FORMATS or not output.parent.is_dir():
            endings = ", ".join(f".{kind}" for kind in figures.FORMATS)
            raise LuternError(
                f"{output} cannot be drawn; give a name that ends in {endings}, in a folder that is there."
            )
        for path in (output, output.with_suffix(".csv")):
            output_file(path)  # refused before anything is measured
    network = open_model(model)
    if on == "sim":
        config = preset(preset_name or "sim-64")
        check_fit(network.config, config, network.embedding_bits)
        check_countable(config)
        with load_bar() as advance:
            machine = network.simulate(config, counters=True, progress=advance)
    else:
        with load_bar() as advance:
            machine = open_machine(
                on, network, baud=baud, machine=preset_name, memory=memory, record=record, progress=advance
            )
    token = counted(machine, streams)
    print_token(token)
    if output is not None:
        facts = provenance([(network.name, network.config, network.files)], [token.config])
        beside = output.with_name(f"{output.stem}-layers{output.suffix}")
        files = figures.write_drawing(figures.timeline(token), output, facts)
        files += figures.write_drawing(figures.layers(token), beside, facts)
        print(", ".join(map(str, files)))
