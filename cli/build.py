"""`lutern build`: builds a bitstream for a board with ``lutern.boards``, and prints the report."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lutern.api import Progress
from lutern.api.chips import build as build_bitstream
from lutern.boards.board import Board
from lutern.boards.build import FLOORPLAN, MANIFEST, REPORT, Build
from lutern.boards.catalog import find_board
from lutern.boards.placement import PLACEMENT
from lutern.boards.report import Clock, Route, signal_of
from lutern.boards.routing import was_routed
from lutern.cli.cluster import SchedulerOption
from lutern.cli.machine import MachineOption, SetOption, board_option, given_machine, preset_option
from lutern.cli.models import open_model
from lutern.cli.numbers import real, whole
from lutern.cli.progress import step_bar
from lutern.cli.table import Cell, Column, FormatOption, Printer, fixed, percent, printing
from lutern.hw.config import HwConfig
from lutern.measure.fits import check_chip
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, refused_output

MARGIN = 0.05
"""Share by which a route should be faster than the clock of its machine."""
FOLDER = "build"
"""The folder for bitstreams, below the current folder."""


def build(
    board_name: Annotated[str, board_option("Board")],
    preset_name: Annotated[str, preset_option("the board's")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    seeds: Annotated[
        int,
        whole(
            "--seeds",
            least=1,
            most=1000,
            help="Number of seeds with which the design is placed and routed, in parallel. The fastest result is kept.",
        ),
    ] = 1,
    model: Annotated[str, typer.Option(help="Check that this model fits: a name, a folder or an image.")] = "",
    counters: Annotated[
        bool, typer.Option("--counters", help="Count the waits of lanes and record stream, for lutern cycles.")
    ] = False,
    frequency_mhz: Annotated[
        float | None, real("--frequency", least=1, most=1000, help="The machine's clock in MHz; default: the preset's.")
    ] = None,
    memory_mhz: Annotated[
        float | None,
        real("--memory-frequency", least=1, most=1000, help="Clock of DDR3's controller in MHz, half the chip's."),
    ] = None,
    placement: Annotated[
        Path | None,
        typer.Option(help="placement.json of an earlier build; the cells that are listed in it keep their places."),
    ] = None,
    scheduler: SchedulerOption = "",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help=f"Bitstream to write; default: {FOLDER}/BOARD-MACHINE.bit.")
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Build a bitstream: synthesis, place and route, report. Results of an earlier build are used again."""
    board = find_board(board_name)  # a wrong name is refused before the model is opened
    chosen = given_machine(preset_name, settings, machine_file, board.preset)
    machine = board.config(chosen.config if chosen else "", **(chosen.clocks if chosen else {}))
    machine = machine.with_(counters=counters)
    check_chip(machine, board)
    place = place_of(out, board.name, machine.name)
    clocks = chosen.clocks if chosen else {}
    clock_hz = round(frequency_mhz * 1e6) if frequency_mhz else clocks.get("clock_hz", 0)
    memory_clock_hz = round(memory_mhz * 1e6) if memory_mhz else clocks.get("memory_hz", 0)
    with step_bar("build") as advance:
        built = build_bitstream(
            board_name,
            chosen.config if chosen else "",
            seeds=seeds,
            model=open_model(model) if model else None,
            counters=counters,
            clock_hz=clock_hz,
            memory_clock_hz=memory_clock_hz,
            placement=placement or "",
            progress=telling(advance, machine, board),
            scheduler=scheduler,
        )
    copy_bitstream(built, place)
    with printing(form) as printer:
        print_build(printer, built, place)
        printer.say(f"link: {built.baud:,} baud")
        if machine.has_clock_tables:
            printer.say(other_clock(built.best.worst))
    for seed, why in built.failed.items():
        print(f"seed {seed} was left out. {why}", file=sys.stderr)
    if not built.best.met:
        worst = built.best.worst
        raise LuternError(
            f"timing missed: clock {worst.domain} reaches {worst.achieved_hz / 1e6:.2f} MHz, "
            f"{worst.target_hz / 1e6:.2f} MHz are wanted ({worst.margin:+.1%}); try more --seeds or a lower "
            f"--frequency. Bitstream and report are in {built.folder}."
        )


USED_COLUMNS = (
    Column("resource", left=True),
    Column("used"),
    Column("available", "of"),
    Column("share", "%", percent(0)),
)
FILE_COLUMNS = (Column("bitstream"), Column("folder"), Column("baud"))


def telling(advance: Callable[[int, int, str], None], machine: HwConfig, board: Board) -> Progress:
    """Return the progress of a build. Before the first step of the build, the function prints a note if the machine was
    never routed on the board's FPGA."""
    said = was_routed(machine, board)

    def report(what: str, done: int, total: int) -> None:
        nonlocal said
        if what != "plan" and not said:
            said = True
            print(
                f"note: {machine.name}{' with counters' if machine.counters else ''} was never placed and routed on an "
                f"{board.fpga.name} in a {board.package}, so it is not known whether it can be routed and reaches its "
                "clock.",
                file=sys.stderr,
            )
        advance(done, total, what)

    return report


def place_of(out: Path | None, board: str, machine: str) -> Path:
    """Return the path of the bitstream. A wrong path is refused before anything is built."""
    if out is None:
        Path(FOLDER).mkdir(exist_ok=True)
        out = Path(FOLDER) / f"{board}-{machine}.bit"
    if not out.parent.is_dir():
        raise LuternError(f"{out} cannot be written, there is no folder {out.parent}; make it or choose another.")
    return output_file(out)


def copy_bitstream(built: Build, place: Path) -> None:
    """Copy the bitstream to the path that the user chose, and its manifest into the same folder."""
    try:
        shutil.copyfile(built.bitstream, place)
        shutil.copyfile(built.folder / MANIFEST, place.with_suffix(".json"))
    except OSError as error:
        raise refused_output(place, error) from error


def print_build(printer: Printer, built: Build, place: Path | None = None) -> None:
    """Print the used resources, each clock, the slowest path, the time, and where the bitstream is."""
    best = built.best
    rows = [(name, used, total, used / total) for name, (used, total) in best.used.items()]
    printer.table("resources", USED_COLUMNS, rows)
    printer.say()
    print_clocks(printer, built)
    printer.say()
    path = (
        Column("source", f"slowest path of {best.worst.domain}", folds=True),
        Column("signal", folds=True),
        Column("ns", show=fixed(2)),
    )
    printer.table("path", path, slowest_path(best))
    printer.say()
    times = ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in built.seconds.items())
    printer.say(f"built in {sum(built.seconds.values()) / 60:.1f} minutes ({times})")
    where = place or built.bitstream
    printer.facts("files", FILE_COLUMNS, (str(where), str(built.folder), built.baud))
    printer.say(f"{where}\nkept in {built.folder}: {REPORT}, {MANIFEST}, {FLOORPLAN}, {PLACEMENT}")


def print_clocks(printer: Printer, built: Build) -> None:
    """Print the frequency that each clock reaches, with the best seed and with each seed."""
    columns = (
        Column("clock", left=True),
        Column("achieved_hz", "MHz"),
        Column("target_hz", "target", fixed(2, 1e6)),
        Column("margin", show=lambda share: f"{share:+.1%}"),
        *(Column(f"seed_{route.seed}_hz", f"seed {route.seed}") for route in built.routes),
    )
    rows = [
        (
            clock.domain,
            reached(clock),
            clock.target_hz,
            clock.margin if clock.has_path else None,
            *(reached(route.clock(clock.domain)) for route in built.routes),
        )
        for clock in built.best.clocks
    ]
    printer.table("clocks", columns, rows)


def other_clock(clock: Clock) -> str:
    """Return which clocks of a machine for any clock have a margin."""
    mhz = math.floor(clock.achieved_hz / (1 + MARGIN) / 1e5) / 10
    return f"this route serves every clock: up to --frequency {mhz:g} the margin is {MARGIN:.0%} or more"


def reached(clock: Clock) -> Cell:
    """Return the frequency that a clock reaches, or "no path" if nothing limits the clock because it drives only I/O
    cells."""
    return Cell(clock.achieved_hz, f"{clock.achieved_hz / 1e6:.2f}") if clock.has_path else Cell(None, "no path")


def slowest_path(route: Route) -> list[tuple[str, str, float]]:
    """Return source line, signal and delay for each row of the critical path. Consecutive delays of one source line are
    added up in one row."""
    rows: list[tuple[str, str, float]] = []
    for hop in route.path:
        if rows and rows[-1][0] == hop.source:
            rows[-1] = (*rows[-1][:2], rows[-1][2] + hop.delay_ns)
        else:
            rows.append((hop.source, signal_of(hop.name), hop.delay_ns))
    return rows
