"""`lutern power`: counts toggles of a token, estimates joules as intervals, or measures joules with a meter. Counted,
estimated and measured figures are never mixed.

count       counts toggles of the gateware, and of ECP5's cells
estimate    estimates joules, from counted toggles if the memory is on the chip, else without toggles
table       prints joules of the released models by kind of memory, and the joules that other projects report
log         reads a meter into a file
measure     computes joules per token from two files of ``log``
designs     writes Verilog with known activity for a calibration
calibrate   computes the coefficients of an estimate from readings of these designs
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lutern.cli.machine import DEFAULT, MachineOption, SetOption, machine_or_default, preset_option
from lutern.cli.models import find_shape, open_model
from lutern.cli.numbers import LARGEST_COUNT, real, whole
from lutern.cli.output import given_text, given_texts
from lutern.cli.power_shown import show_computed, show_counted, show_estimated, show_measured
from lutern.cli.power_table import print_released
from lutern.cli.progress import progress_bar
from lutern.cli.table import Column, FormatOption, printing
from lutern.firmware.program import Program, lay_out
from lutern.hw.config import HwConfig
from lutern.hw.top import Top
from lutern.measure import calibration, meter
from lutern.measure.dram import DRAMS
from lutern.measure.known_designs import DESIGNS, write_designs
from lutern.measure.netlist import verilate_netlist
from lutern.measure.toggles import PROMPTS, Token, count_toggles
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole
from lutern.model_ref.synthetic import PUBLISHED

REPLACED = {
    "--table": "lutern power table",
    "--designs": "lutern power designs FOLDER",
    "--calibrate": "lutern power calibrate READINGS.csv",
    "--meter": "lutern power log METER",
    "--log": "lutern power log METER -o FILE",
    "--seconds": "lutern power log METER --seconds",
    "--rate": "lutern power log METER --rate",
    "--idle": "lutern power measure IDLE.csv LOADED.csv --tokens N",
    "--loaded": "lutern power measure IDLE.csv LOADED.csv --tokens N",
    "--tokens": "lutern power measure IDLE.csv LOADED.csv --tokens N",
    "--size": "lutern power estimate --size",
    "--dram": "lutern power estimate --dram",
    "--part": "lutern power estimate --part",
    "--calibration": "lutern power estimate --calibration",
    "--netlist": "lutern power count --netlist, or lutern power estimate for joules",
    "--prompt": "lutern power count --prompt",
    "--model": "lutern power count --model, or lutern power estimate --model",
    "--preset": "lutern power count --preset, or lutern power estimate --preset",
    "-o": "lutern power calibrate READINGS.csv -o",
}
"""Options of earlier versions of `lutern power`, and the command that replaces each option. If several of these options
are given, the first in this list is reported.
"""


class PowerGroup(TyperGroup):
    """The commands of `lutern power`. An option without a command is refused, and the message names the command of this
    option.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments as click's ``Command`` does, but refuse an option of ``REPLACED``."""
        given = {arg.partition("=")[0] for arg in args} if args and args[0].startswith("-") else set()
        option = next((option for option in REPLACED if option in given), None)
        if option is not None:
            raise LuternError(f"lutern power {option} is now {REPLACED[option]}; see lutern power --help.")
        return list(super().parse_args(ctx, args))


app = typer.Typer(cls=PowerGroup, help="Count toggles, and estimate or measure joules.", rich_markup_mode=None)

ModelOption = Annotated[
    str, typer.Option("--model", help="demo, demo-small, demo-large, a checkpoint folder or an image.")
]
PresetOption = Annotated[str, preset_option(DEFAULT)]
PartOption = Annotated[str, typer.Option("--part", help="Chip.")]


@app.callback()
def power() -> None:
    """Count toggles, and estimate or measure joules."""


@app.command("count")
def count(
    model: ModelOption = "demo-small",
    preset_name: PresetOption = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", callback=given_texts, help="A text; can be repeated.")
    ] = None,
    netlist: Annotated[
        bool, typer.Option("--netlist", help="Also count toggles of ECP5's cells, for one token.")
    ] = False,
    form: FormatOption = "text",
) -> None:
    """Count the toggles of a token by block, by layer and by prompt."""
    config = machine_or_default(preset_name, settings, machine_file)
    check_memory(config)
    program, coded = prepare(model, config, prompts or list(PROMPTS))
    with progress_bar("counting toggles") as advance:
        advance(0, 1 + netlist)
        tokens = count_toggles(program, coded)
        advance(1, 1 + netlist)
        cells = count_cells(program, config, coded) if netlist else []
    with printing(form) as printer:
        show_counted(printer, tokens, cells, open_model(model).weights, program)


@app.command("estimate")
def estimate(
    model: ModelOption = "demo-small",
    size: Annotated[
        str,
        typer.Option(
            help=f"A published shape in place of a model: {', '.join(PUBLISHED)}. Its joules are computed without "
            "toggles."
        ),
    ] = "",
    preset_name: PresetOption = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    prompt: Annotated[str, typer.Option(callback=given_text, help="Text before the counted token.")] = PROMPTS[0],
    part: PartOption = "LFE5U-85F",
    dram: Annotated[str, typer.Option(help=f"Memory at a machine's ports: {', '.join(DRAMS)}.")] = "",
    file: Annotated[Path, typer.Option("--calibration", help="File of the coefficients.")] = calibration.SHIPPED,
    form: FormatOption = "text",
) -> None:
    """Estimate the joules of a token as intervals.

    With memory on the chip, toggles of ECP5's cells are counted. Compiling the cells takes minutes the first time. For
    a published size, or with memory outside the chip, joules are computed without toggles.
    """
    config, known = machine_or_default(preset_name, settings, machine_file), calibration.load(file)
    if size or config.memory != "block":
        with printing(form) as printer:
            show_computed(printer, *find_shape(model, size), config, part, known, dram)
        return
    known.require(part)
    program, coded = prepare(model, config, [prompt])
    with progress_bar("counting toggles") as advance:
        advance(0, 1)
        (token,) = count_cells(program, config, coded)
    with printing(form) as printer:
        show_estimated(printer, token, config, part, known)


@app.command("table")
def table(form: FormatOption = "text") -> None:
    """Print the joules per token of the published shapes by kind of memory, and the joules that other projects
    report."""
    with printing(form) as printer:
        print_released(printer)


@app.command("log")
def log(
    source: Annotated[str, typer.Argument(metavar="METER", help="hwmon, or i2c:BUS:ADDRESS:CHIP:OHM.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write.")] = Path("power.csv"),
    seconds: Annotated[
        float, real("--seconds", least=1, most=10_000_000, help="Seconds for which the meter is read.")
    ] = 30.0,
    rate: Annotated[float, real("--rate", least=0.1, most=1000, help="Readings per second.")] = 20.0,
) -> None:
    """Read a meter for some time, and write the readings into a CSV file."""
    output_file(out)  # a wrong name is refused before anything is measured
    read = meter.open_meter(source)
    rows: list[tuple[float, float]] = []
    with progress_bar("reading the meter") as advance:
        for row in meter.sample(read, rate, lambda: not rows or rows[-1][0] < seconds):
            rows.append(row)
            advance(min(int(row[0]), int(seconds)), int(seconds))
    write_whole(out, "time,watts\n" + "".join(f"{when:.4f},{watts:.6f}\n" for when, watts in rows))
    print(f"{len(rows)} readings in {out}")


@app.command("measure")
def measure(
    idle: Annotated[Path, typer.Argument(help="CSV log of the idle board.")],
    loaded: Annotated[Path, typer.Argument(help="CSV log of the decoding board.")],
    tokens: Annotated[
        int,
        whole(
            "--tokens",
            least=1,
            most=LARGEST_COUNT,
            help="Number of tokens that the board decoded during the second log.",
        ),
    ],
    form: FormatOption = "text",
) -> None:
    """Compute the joules per token of a board from two logs of a meter."""
    with printing(form) as printer:
        show_measured(printer, meter.joules_per_token(meter.read_csv(idle), meter.read_csv(loaded), tokens))


@app.command("designs")
def designs(folder: Annotated[Path, typer.Argument(help="Folder to write the designs into.")]) -> None:
    """Write designs with known activity. For a calibration, build and run each design, and read the meter."""
    write_designs(folder)
    print(f"{len(DESIGNS)} designs and activity.csv in {folder}; docs/power.md describes the next steps")


@app.command("calibrate")
def calibrate(
    readings: Annotated[Path, typer.Argument(help="CSV of meter readings of the designs.")],
    part: PartOption = "LFE5U-85F",
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write the coefficients into.")] = Path(
        "calibration.json"
    ),
    form: FormatOption = "text",
) -> None:
    """Fit the coefficients of the estimate to readings of a meter."""
    output_file(out)
    today = datetime.date.today().isoformat()
    found = calibration.fit(part, calibration.read_readings(readings), f"readings in {readings.name}", today)
    found.save(out)
    columns = (Column("coefficient", left=True), *(Column(key, show=_four_digits) for key in ("value", "low", "high")))
    with printing(form) as printer:
        rows = [(name, item.value, item.low, item.high) for name, item in found.coefficients.items()]
        printer.table("coefficients", columns, rows)


def _four_digits(value: float) -> str:
    return f"{value:.4g}"


def check_memory(config: HwConfig) -> None:
    """Refuse a machine whose toggles cannot be counted."""
    if config.memory != "block":
        raise LuternError(
            f"toggles are counted only for machines with memory on the chip, and {config.name} has none; choose "
            f"another machine, or lutern power estimate --preset {config.name}."
        )


def prepare(model: str, config: HwConfig, prompts: list[str]) -> tuple[Program, dict[str, list[int]]]:
    """Return the program of a model, and the token numbers of prompts."""
    opened = open_model(model)
    program = lay_out(opened.weights, config)
    return program, {text: list(opened.tokenizer.encode(text)) for text in prompts}


def count_cells(program: Program, config: HwConfig, coded: dict[str, list[int]]) -> list[Token]:
    """Return the toggles of ECP5's cells for the token after the first prompt."""
    library = verilate_netlist(Top(config.with_(debug_tap=False, cells="ecp5")), toggles=True)
    return count_toggles(program, dict([next(iter(coded.items()))]), netlist=library)


__all__ = ["app"]
