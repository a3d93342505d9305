"""`lutern power`: toggles of a token, counted; joules, estimated as intervals; or measured by a meter. Never mixed."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lutern.cli.estimate import find_shape
from lutern.cli.models import open_network
from lutern.cli.numbers import LARGEST_COUNT, real, whole
from lutern.cli.output import given_texts, plain_console
from lutern.cli.power_table import print_table
from lutern.cli.progress import progress_bar
from lutern.firmware.program import Program, lay_out
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.hw.top import Top
from lutern.measure import calibration, energy, meter
from lutern.measure.cost import measure_cost
from lutern.measure.dram import DRAMS, dram_of, joules
from lutern.measure.estimate import estimate
from lutern.measure.known_designs import DESIGNS, write_designs
from lutern.measure.netlist import verilate_netlist
from lutern.measure.toggles import Token, count_toggles, zero_share
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole
from lutern.model_ref.quantise import IntegerWeights
from lutern.model_ref.synthetic import PUBLISHED

PIPE_COLUMNS = 200
"""Of a table that no terminal cuts."""
PROMPTS = ("once upon a time", "the dog", "a")


def _interval(item: calibration.Coefficient | meter.Interval, unit: float, text: str) -> str:
    return f"{item.low / unit:.3g} to {item.high / unit:.3g} {text}"


def _table(headings: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=True, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    plain_console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def show_counted(tokens: list[Token], cells: list[Token], weights: IntegerWeights, program: Program) -> None:
    """Toggles a token: by block, by layer and part, by prompt."""
    matrices = [
        matrix.trits
        for layer in weights.layers
        for matrix in (layer.f_proj, layer.i_proj, layer.g_proj, layer.o_proj, layer.gate_proj, layer.down_proj)
    ]
    share = zero_share([*matrices, weights.lm_head.trits])
    print(
        f"counted: a token of {tokens[0].cycles:,} cycles, {share:.1%} of its trits are zero; "
        f"{program.bytes_per_token:,} bytes read; glitches within a cycle are not seen"
    )
    named = [("gateware", token) for token in tokens] + [("ECP5 cells", token) for token in cells]
    first = tokens[0].by_block
    blocks = sorted(set().union(*(token.by_block for _, token in named)), key=lambda name: -first.get(name, 0))
    headings = ["toggles a cycle", *(f"{what}: {token.prompt}" for what, token in named)]
    rows = [[block, *(f"{token.by_block.get(block, 0) / token.cycles:,.1f}" for _, token in named)] for block in blocks]
    rows.append(["all", *(f"{token.total / token.cycles:,.1f}" for _, token in named)])
    _table(headings, rows)
    print()
    _table(
        ["toggles", *headings[1:]],
        [
            [window.name, *(f"{token.windows[index].total:,}" for _, token in named)]
            for index, window in enumerate(tokens[0].windows)
        ],
    )


def count(model: str, preset_name: str, prompts: list[str], netlist: bool, part: str, file: Path) -> None:
    """Counted, and estimated where the cells were counted."""
    network, config = open_network(model), preset(preset_name)
    known = calibration.load(file)
    known.require(part)
    weights = network.weights()
    program = lay_out(weights, config)
    tokenizer = network.tokenizer()
    coded = {text: list(tokenizer.encode(text)) for text in prompts}
    with progress_bar("counting toggles") as advance:
        advance(0, 1 + netlist)
        tokens = count_toggles(program, coded)
        advance(1, 1 + netlist)
        cells = []
        if netlist:
            library = verilate_netlist(Top(config.with_(debug_tap=False, cells="ecp5")), toggles=True)
            cells = count_toggles(program, dict([next(iter(coded.items()))]), netlist=library)
    show_counted(tokens, cells, weights, program)
    if not cells:
        print("\nestimated: nothing; joules are estimated from the toggles of a chip's nets: add --netlist")
        return
    cost, cycles = measure_cost("top", config), cells[0].cycles
    events = {
        "net_toggle": cells[0].total,
        "register_clock": cost.ff * cycles,
        "block_ram_access": cost.block_rams * cycles,
    }
    found = energy.estimate(part, known, events, cycles / config.clock_hz)
    show_terms(found, config, known)
    windows = {window.name: (window.total, window.cycles) for window in cells[0].windows}
    by_layer = energy.of_windows(part, known, windows, cost.ff, cost.block_rams, config.clock_hz)
    _table(
        ["by layer, without the memory's bytes", "uJ"],
        [[name, f"{item.low * 1e6:.3g} to {item.high * 1e6:.3g}"] for name, item in by_layer.items()],
    )
    show_sums(found)


def _unit(found: energy.Estimate) -> tuple[float, str]:
    """Of its joules."""
    return (1e-3, "mJ") if found.joules.low > 1e-3 else (1e-6, "uJ")


def show_terms(found: energy.Estimate, config: HwConfig, known: calibration.Calibration) -> None:
    """Events and joules of each kind."""
    print(
        f"\nestimated for {found.part} at {config.clock_hz / 1e6:.0f} MHz; coefficients: {found.source} ({known.date})"
    )
    unit, text = _unit(found)
    rows = [
        [term.name, f"{term.events:,.0f}", f"{term.low / unit:.3g} to {term.high / unit:.3g}"] for term in found.terms
    ]
    _table(["a token", "events", text], rows)


def show_sums(found: energy.Estimate) -> None:
    """Of a token, static power apart."""
    unit = _unit(found)
    beside = f" and of the memory's standby {_interval(found.standby, 1, 'W')}" if found.standby.high else ""
    print(
        f"dynamic {_interval(found.dynamic, *unit)} a token; static {_interval(found.static, 1, 'W')}{beside}; "
        f"together {_interval(found.joules, *unit)} a token, {_interval(found.watts, 1, 'W')}"
    )


def compute(model: str, size: str, preset_name: str, part: str, file: Path, dram: str) -> None:
    """Of a published size, or of a machine with memory beside the chip: too large for toggles to be counted."""
    name, model_config = find_shape(model, size)
    config, known = preset(preset_name), calibration.load(file)
    memory = dram_of(config, dram)
    computed = estimate(model_config, config, baud=BAUD)
    print(
        f"computed: {name} on {config.name}, {computed.tokens_per_second:,.4g} tokens/s, "
        f"{computed.bytes_read:,} bytes a token; nothing was counted"
    )
    if memory is not None and config.memory == "axi":
        token = joules(model_config, config, memory, computed.tokens_per_second)
        print(
            f"estimated: {_interval(token.transport, 1e-3, 'mJ')} a token to read from {memory.title}, and standby of "
            f"{memory.parts(config)} {memory.part}{'s' if memory.parts(config) > 1 else ''}, "
            f"{_interval(memory.standby_watts(config), 1, 'W')}: {_interval(token.standby, 1e-3, 'mJ')} a token\n"
            f"{memory.title}: {memory.source}\n"
            f"Of the chip nothing is estimated: the coefficients are those of an ECP5, which has no clock of "
            f"{config.clock_hz / 1e6:.0f} MHz. lutern power --table has what boards take when idle."
        )
        return
    found = energy.without_nets(part, known, config, computed, dram)
    show_terms(found, config, known)
    show_sums(found)
    if config.memory == "host":
        print("without the link that the weights come over, whose joules a byte are not known")
    print("without toggles of the logic's nets, which are counted for a machine with memory on the chip")


def show_measured(idle: Path, loaded: Path, tokens: int) -> None:
    """Joules a token of two logs."""
    found = meter.joules_per_token(meter.read_csv(idle), meter.read_csv(loaded), tokens)
    print(
        f"measured: idle {found.idle.value:.4g} W ({_interval(found.idle, 1, 'W')}), "
        f"loaded {found.loaded.value:.4g} W ({_interval(found.loaded, 1, 'W')})"
    )
    print(
        f"{found.joules.value * 1e3:.4g} mJ a token above idle ({_interval(found.joules, 1e-3, 'mJ')}); "
        f"{found.joules_total.value * 1e3:.4g} mJ of all that the meter sees "
        f"({_interval(found.joules_total, 1e-3, 'mJ')})"
    )


def write_log(source: str, path: Path, seconds: float, rate_hz: float) -> None:
    """Read a meter for some time into a CSV."""
    output_file(path)  # refused before anything is measured
    read = meter.open_meter(source)
    rows: list[tuple[float, float]] = []
    with progress_bar("reading the meter") as advance:
        for row in meter.sample(read, rate_hz, lambda: not rows or rows[-1][0] < seconds):
            rows.append(row)
            advance(min(int(row[0]), int(seconds)), int(seconds))
    write_whole(path, "time,watts\n" + "".join(f"{when:.4f},{watts:.6f}\n" for when, watts in rows))
    print(f"{len(rows)} readings in {path}")


def power(
    model: Annotated[str, typer.Option(help="demo, demo-small, a checkpoint folder or an image.")] = "demo-small",
    size: Annotated[str, typer.Option(help=f"A published shape instead, computed: {', '.join(PUBLISHED)}.")] = "",
    preset_name: Annotated[str, typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}.")] = "sim-64",
    prompts: Annotated[list[str] | None, typer.Option("--prompt", callback=given_texts, help="Again for more.")] = None,
    netlist: Annotated[bool, typer.Option("--netlist", help="Also of ECP5's cells, for one token.")] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Joules a token of the published shapes by memory, beside others'.")
    ] = False,
    part: Annotated[str, typer.Option(help="Chip, for the estimate.")] = "LFE5U-85F",
    dram: Annotated[str, typer.Option(help=f"Memory at a machine's ports: {', '.join(DRAMS)}.")] = "",
    file: Annotated[Path, typer.Option("--calibration", help="Coefficients.")] = calibration.SHIPPED,
    idle: Annotated[Path | None, typer.Option(help="CSV log of the idle board.")] = None,
    loaded: Annotated[Path | None, typer.Option(help="CSV log of the decoding board.")] = None,
    tokens: Annotated[int, whole("--tokens", least=0, most=LARGEST_COUNT, help="Made during --loaded.")] = 0,
    source: Annotated[
        str | None, typer.Option("--meter", help="hwmon, or i2c:BUS:ADDRESS:CHIP:OHM; read into --log.")
    ] = None,
    log: Annotated[Path, typer.Option(help="CSV that --meter writes.")] = Path("power.csv"),
    seconds: Annotated[float, real("--seconds", least=1, most=10_000_000, help="How long --meter is read.")] = 30.0,
    rate: Annotated[float, real("--rate", least=0.1, most=1000, help="Readings a second.")] = 20.0,
    calibrate: Annotated[Path | None, typer.Option(help="CSV of readings: fit coefficients from it.")] = None,
    designs: Annotated[
        Path | None, typer.Option(help="Write the test designs for --calibrate into this folder.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", help="File of the coefficients.")] = Path("calibration.json"),
) -> None:
    """Toggles a token, counted; joules, estimated; with --idle and --loaded measured."""
    if table:
        print_table()
    elif designs is not None:
        write_designs(designs)
        print(f"{len(DESIGNS)} designs and activity.csv in {designs}; docs/measuring.md says how to go on")
    elif calibrate is not None:
        output_file(output)
        today = datetime.date.today().isoformat()
        found = calibration.fit(part, calibration.read_readings(calibrate), f"readings in {calibrate.name}", today)
        found.save(output)
        for name, item in found.coefficients.items():
            print(f"{name}\t{item.value:.4g}\t{item.low:.4g} to {item.high:.4g}")
    elif source is not None:
        write_log(source, log, seconds, rate)
    elif idle is not None or loaded is not None:
        if idle is None or loaded is None:
            raise LuternError("one log is no measurement; give both --idle and --loaded, and --tokens.")
        show_measured(idle, loaded, tokens)
    elif size or preset(preset_name).memory != "block":
        if netlist:
            raise LuternError(
                f"toggles of {size or preset_name} cannot be counted, for they are those of a model that is simulated "
                "with memory on the chip; leave --netlist out."
            )
        compute(model, size, preset_name, part, file, dram)
    else:
        count(model, preset_name, prompts or list(PROMPTS), netlist, part, file)
