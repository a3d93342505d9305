"""`lutern cycles`: prints where a token's cycles go, from the counters of a simulated chip or of a chip at a port."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lutern.api.machines import Machine, check_held, open_machine
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import MODEL_HELP, default_model, open_model
from lutern.cli.numbers import baud_option, whole
from lutern.cli.port import PORTS, MemoryOption, RecordOption, check_options, is_port
from lutern.cli.progress import load_bar
from lutern.cli.repairs import repairs_shown
from lutern.cli.table import Column, FormatOption, Printer, printing
from lutern.hw.machines import Machine as ChosenMachine
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTER_NAMES, LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure import figures, pictures
from lutern.measure.phases import MEANINGS, Token, check_countable
from lutern.measure.provenance import provenance
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file


def counted(machine: Machine, streams: int) -> Token:
    """Return the counted token of a machine, and close the machine."""
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
    """Print a line for each phase, and a line with the sums."""
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


def simulated(chosen: ChosenMachine | None, model: str) -> Machine:
    """Return the simulated board, with counters and with a model loaded."""
    config = chosen.config if chosen else preset(DEFAULT)
    network = open_model(model or default_model(config))
    check_held(network, config)
    check_countable(config)
    with load_bar() as advance:
        return network.simulate(config, counters=True, progress=advance)


def at_port(
    on: str, chosen: ChosenMachine | None, model: str, baud: int | None, memory: Path | None, record: Path | None
) -> Machine:
    """Return the chip at a port, with a model loaded."""
    network = open_model(model) if model else None
    wanted = chosen.config if chosen else None
    machine = open_machine(on, baud=baud, machine=wanted, memory=memory, record=record)
    try:
        with load_bar() as advance:
            return machine.load(network or open_model(default_model(machine.config)), progress=advance)
    except BaseException:
        machine.close()
        raise


def cycles(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "",
    preset_name: Annotated[str, preset_option(f"the port's, else {DEFAULT}")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    streams: Annotated[int, whole("--streams", least=1, most=16, help="Number of tokens that a pass decodes.")] = 1,
    on: Annotated[str, typer.Option(help=f"sim: the simulated board; or {PORTS}.")] = "sim",
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Draw the timeline into this file, as .svg, .pdf or .png. NAME-layers has a bar for each layer. The "
            "data of both drawings are written as .csv.",
        ),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Show where a token's cycles go, phase by phase. The chip counts the causes for which its lanes and its record
    stream wait.
    """
    if on != "sim" and not is_port(on):
        raise LuternError(f"there is nothing called {on} to count on; give sim, {PORTS}.")
    check_options(on, baud, record, memory)
    chosen = given_machine(preset_name, settings, machine_file)
    if output is not None:
        pictures.require_matplotlib()
        if output.suffix[1:] not in figures.FORMATS or not output.parent.is_dir():
            endings = ", ".join(f".{kind}" for kind in figures.FORMATS)
            raise LuternError(
                f"{output} cannot be drawn; give a name that ends in {endings}, in a folder that is there."
            )
        for path in (output, output.with_suffix(".csv")):
            output_file(path)  # a wrong name is refused before anything is measured
    machine = simulated(chosen, model) if on == "sim" else at_port(on, chosen, model, baud, memory, record)
    token = counted(machine, streams)
    with printing(form) as printer:
        print_token(printer, token)
    if output is not None:
        assert machine.model is not None
        facts = provenance([(machine.model.name, machine.model.config, machine.model.files)], [token.config])
        beside = output.with_name(f"{output.stem}-layers{output.suffix}")
        files = figures.write_drawing(figures.timeline(token), output, facts)
        files += figures.write_drawing(figures.layers(token), beside, facts)
        print(*files, sep="\n", file=sys.stderr)
