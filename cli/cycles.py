"""`lutern cycles`: where a token's cycles go, read from the counters of a chip, simulated or at a port."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lutern.api.machines import Machine, open_machine
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import open_model
from lutern.cli.numbers import baud_option, whole
from lutern.cli.port import PORTS, MemoryOption, RecordOption, check_options, is_port
from lutern.cli.progress import load_bar
from lutern.cli.repairs import repairs_shown
from lutern.cli.table import Column, FormatOption, Printer, printing
from lutern.firmware.limits import check_fit
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTER_NAMES, LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure import pictures
from lutern.measure.phases import MEANINGS, Token, check_countable
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole


def counted(machine: Machine, streams: int) -> Token:
    """A token of a machine, which is closed then."""
    with machine, repairs_shown(machine.session):
        return machine.count(streams)


COLUMNS = (
    Column("part", left=True),
    Column("phase", left=True),
    Column("cycles"),
    Column("model_cycles", "by the model"),
    *(Column(name.replace(" ", "_"), name) for name in COUNTER_NAMES),
)


def print_token(printer: Printer, token: Token) -> None:
    """A line a phase, and one for all of them."""
    rows = [
        [phase.part, phase.name, phase.cycles, phase.model_cycles, *(phase.counts[name] for name in COUNTER_NAMES)]
        for phase in token.phases
    ]
    modelled = [phase.model_cycles for phase in token.phases if phase.model_cycles is not None]
    totals = (token.total(name) for name in COUNTER_NAMES)
    rows.append(["all", "", token.cycles, sum(modelled) if modelled else None, *totals])
    printer.table("cycles", COLUMNS, rows, total=True)
    if not sys.stdout.isatty():
        return
    for title, names in (("lanes", LANE_COUNTERS), ("record stream", RECORD_COUNTERS)):
        printer.say(f"{title}: " + "; ".join(f"{name}, {MEANINGS[name]}" for name in names))


def cycles(
    model: Annotated[str, typer.Option(help="demo, demo-small, a checkpoint folder, or an image.")] = "demo",
    preset_name: Annotated[str, preset_option(f"the port's, else {DEFAULT}")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    streams: Annotated[int, whole("--streams", least=1, most=16, help="Tokens of a pass.")] = 1,
    on: Annotated[str, typer.Option(help=f"sim: the simulated board; or {PORTS}.")] = "sim",
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", help="Draw it: the timeline here, a bar a layer in NAME-layers.svg beside it.")
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Where a token's cycles go, phase by phase: what lanes and record stream waited for, counted on the chip."""
    if on != "sim" and not is_port(on):
        raise LuternError(f"there is nothing called {on} to count on; give sim, {PORTS}.")
    check_options(on, baud, record, memory)
    chosen = given_machine(preset_name, settings, machine_file)
    if output is not None:
        pictures.require_matplotlib()
        if output.suffix != ".svg" or not output.parent.is_dir():
            raise LuternError(f"{output} cannot be drawn; give a name that ends in .svg, in a folder that is there.")
        output_file(output)  # refused before anything is measured
    network = open_model(model)
    if on == "sim":
        config = chosen.config if chosen else preset(DEFAULT)
        check_fit(network.config, config, network.embedding_bits)
        check_countable(config)
        with load_bar() as advance:
            machine = network.simulate(config, counters=True, progress=advance)
    else:
        with load_bar() as advance:
            machine = open_machine(
                on,
                network,
                baud=baud,
                machine=chosen.config if chosen else None,
                memory=memory,
                record=record,
                progress=advance,
            )
    token = counted(machine, streams)
    with printing(form) as printer:
        print_token(printer, token)
    if output is not None:
        write_whole(output, pictures.to_svg(pictures.timeline(token), "timeline"))
        beside = output.with_name(f"{output.stem}-layers.svg")
        write_whole(beside, pictures.to_svg(pictures.layers(token), "layers"))
        print(f"{output}, {beside}", file=sys.stderr)
