"""`lutern report`: writes the measurements as one HTML file, which can be read offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.machine import DEFAULT, MachineOption, SetOption, machines_of, preset_option
from lutern.cli.models import MODEL_HELP, default_model, machine_and_weights, open_model
from lutern.cli.progress import load_bar, named_progress_bar
from lutern.firmware.limits import check_fit
from lutern.firmware.program import lay_out
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTER_NAMES
from lutern.hw.top import Top
from lutern.measure import calibration, energy, figures, pictures, report
from lutern.measure.bench import measure
from lutern.measure.bench_table import COLUMNS, SHOWN, cells
from lutern.measure.cost import measure_cost
from lutern.measure.dram import CHOOSES
from lutern.measure.estimate import estimate
from lutern.measure.figures import Drawing
from lutern.measure.netlist import verilate_netlist
from lutern.measure.phases import Token
from lutern.measure.pictures import Bar
from lutern.measure.provenance import provenance
from lutern.measure.report import Section
from lutern.measure.toggles import PROMPTS, count_toggles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole

LINES = [line for line in SHOWN if line[1] != "random"]


def shown(drawings: list[Drawing], drawing: Drawing, caption: str, kind: str = "") -> str:
    """Return a drawing for the page, and append the drawing to the list ``drawings``, which can also be written as
    files."""
    drawings.append(drawing)
    return report.figure(drawing.svg(), caption, kind)


def bench_section(lines: list[tuple[HwConfig, str]], drawings: list[Drawing]) -> Section:
    """Return the section of the bench: a table of its rows, and a roofline of the rows that decode."""
    rows, roofs = [], []
    with named_progress_bar("bench") as advance:
        for index, (machine, model) in enumerate(lines):
            advance(index, len(lines), f"{machine.name}, {model}")
            config, weights = machine_and_weights(machine, model)
            first = None
            for row in measure(config, weights):
                first = first or row
                rows.append(cells(model, row, first))
                if row.what == "decode":
                    roofs.append(report.roof(row, model, config))
    return Section(
        "Throughput",
        (
            report.text(
                "Cycles are counted on the simulated gateware, tokens a second follow from them at the preset's "
                "clock; the clock that a board reaches is below, with its build."
            ),
            report.table(["preset", "model", *COLUMNS], rows),
            shown(
                drawings,
                figures.roofline(roofs),
                "Roofline: each machine is below its own bound, which is set by its lanes or its memory.",
                "half",
            ),
        ),
    )


def count_token(config: HwConfig, model: str) -> Token:
    """Return a token that the simulated board decoded, with the counters of its phases."""
    with load_bar() as advance:
        machine = open_model(model).simulate(config, counters=True, progress=advance)
    with machine:
        return machine.count()


def cycles_section(token: Token, drawings: list[Drawing]) -> Section:
    """Return the section of the cycles: the timeline, a bar for each layer, and the values of the counters."""
    rows = [
        [part, f"{sum(counts[name] for name in COUNTER_NAMES[:5]):,}", *(f"{counts[name]:,}" for name in COUNTER_NAMES)]
        for part, counts in token.parts.items()
    ]
    rows.append(["all", f"{token.cycles:,}", *(f"{token.total(name):,}" for name in COUNTER_NAMES)])
    exact = all(phase.model_cycles == phase.cycles for phase in token.phases)
    says = "The cycle model gives the same for every phase." if exact else "The cycle model gives other figures."
    return Section(
        "Where the cycles go",
        (
            report.text(
                f"A token of {token.cycles:,} cycles on {token.config.name}, from the counters of the chip. {says}"
                if token.phases[0].model_cycles is not None
                else f"A token of {token.cycles:,} cycles on {token.config.name}, from the counters of the chip."
            ),
            shown(drawings, figures.timeline(token), "One token: the work of lanes and record stream in each phase."),
            shown(drawings, figures.layers(token), "Cycles by layer.", "half"),
            report.table(["part", "cycles", *COUNTER_NAMES], rows),
        ),
    )


def energy_section(
    config: HwConfig, model: str, netlist: bool, part: str, file: Path, drawings: list[Drawing]
) -> Section:
    """Return the counted toggles by layer. If toggles of cells were counted, also return the estimated joules."""
    network = open_model(model)
    known = calibration.load(file)
    known.require(part)
    if config.memory != "block":
        return computed_energy(network.config, config, part, known)
    program = lay_out(network.weights, config)
    prompt = PROMPTS[0]
    coded = {prompt: list(network.tokenizer.encode(prompt))}
    library = verilate_netlist(Top(config.with_(debug_tap=False, cells="ecp5")), toggles=True) if netlist else None
    token = count_toggles(program, coded, netlist=library)[0]
    windows = {window.name: (window.total, window.cycles) for window in token.windows}
    what = "nets of ECP5's cells" if netlist else "nets of the gateware, before synthesis"
    parts = [
        report.text(
            f'Counted: {token.total:,} toggles in a token of {token.cycles:,} cycles after "{prompt}", of the {what}.'
        ),
        shown(
            drawings,
            figures.energy("toggles", [Bar(name, count) for name, (count, _) in windows.items()], "toggles"),
            "Toggles by layer, counted.",
            "half",
        ),
    ]
    if netlist:
        cost = measure_cost("top", config)
        found = energy.of_windows(part, known, windows, cost.ff, cost.block_rams, config.clock_hz)
        bars = [Bar(name, 1e6 * item.value, 1e6 * item.low, 1e6 * item.high) for name, item in found.items()]
        parts += [
            report.text(
                f"Estimated: dynamic energy for {part}, without its static power; coefficients: {known.source} "
                f"({known.date})."
            ),
            shown(
                drawings,
                figures.energy("joules", bars, "uJ, estimated; the interval comes from the calibration"),
                "Energy by layer, estimated.",
                "half",
            ),
        ]
    else:
        parts.append(report.text("Joules are estimated from the toggles of a chip's nets; add --netlist."))
    return Section("Energy", tuple(parts))


def computed_energy(model_config: ModelConfig, config: HwConfig, part: str, known: calibration.Calibration) -> Section:
    """Return the energy of a machine whose memory is outside the chip. As in ``lutern power estimate``, no toggles are
    counted."""
    if config.memory in CHOOSES:
        return Section(
            "Energy",
            (
                report.text(
                    f"Not estimated, because the kind of memory at the ports of {config.name} is not known; lutern "
                    f"power "
                    f"estimate --preset {config.name} --dram KIND estimates it."
                ),
            ),
        )
    found = energy.without_nets(part, known, config, estimate(model_config, config, baud=BAUD))
    rows = [
        [term.name, f"{term.events:,.0f}", f"{1e6 * term.low:,.3g} to {1e6 * term.high:,.3g}"] for term in found.terms
    ]
    together = found.joules
    return Section(
        "Energy",
        (
            report.text(
                f"Estimated for {part}, without toggles of its logic: {1e6 * together.low:,.3g} to "
                f"{1e6 * together.high:,.3g} uJ a token with static power of {found.static.low:.3g} to "
                f"{found.static.high:.3g} W and of the memory's standby {found.standby.low:.3g} to "
                f"{found.standby.high:.3g} W; coefficients: {known.source} ({known.date})."
            ),
            report.table(["a token", "events", "uJ"], rows),
        ),
    )


def builds_section() -> Section:
    """Return the section of the newest builds."""
    found = report.newest_builds()
    if not found:
        return Section("Builds", (report.text("There is no build yet; make one: lutern build --board BOARD"),))
    return Section("Builds", tuple(part for build in found for part in report.build_parts(build)))


def write_report(
    output: Annotated[Path, typer.Option("-o", "--out", help="The file.")] = Path("report.html"),
    presets: Annotated[list[str] | None, preset_option("a table of several machines", several=True)] = None,
    settings: SetOption = None,
    machine_file: MachineOption = None,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "",
    toggles: Annotated[bool, typer.Option("--toggles", help="Also count toggles of the gateware, by layer.")] = False,
    netlist: Annotated[
        bool,
        typer.Option(
            "--netlist", help="Also count toggles of ECP5's cells and estimate their joules, by layer: takes minutes."
        ),
    ] = False,
    part: Annotated[str, typer.Option(help="Chip for which energy is estimated.")] = "LFE5U-85F",
    file: Annotated[Path, typer.Option("--calibration", help="File of the coefficients.")] = calibration.SHIPPED,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--figures", help="Also write each figure into this folder as .svg, .pdf and .png, and its data as .csv."
        ),
    ] = None,
) -> None:
    """Write one HTML file: bench, roofline, timeline, cycles and energy by layer, floorplans, resources, manifests."""
    pictures.require_matplotlib()
    if not output.parent.is_dir() or output.is_dir():
        raise LuternError(f"{output} cannot be written; give the name of a file in a folder that is there.")
    output_file(output)  # a wrong name is refused before anything is measured
    if folder is not None:
        make_folder(folder)
    given = machines_of(presets, settings, machine_file, DEFAULT)
    shown_by_default = [(preset(name), of_line) for name, of_line in LINES]
    lines = [(config, model or default_model(config)) for config in given] if given else shown_by_default
    for config, of_line in lines:
        if config.memory == "host":
            raise LuternError(
                f"{config.name} waits for words from the host, so its cycles depend on the line; leave out this "
                "machine."
            )
        network = open_model(of_line)
        check_fit(network.config, config, network.embedding_bits)  # refuses a wrong model before any measurement
    first, of_first = lines[0]
    drawings: list[Drawing] = []
    sections = [
        bench_section(lines, drawings),
        cycles_section(count_token(first, of_first), drawings),
        *(
            [energy_section(first, of_first, netlist, part, file, drawings)]
            if toggles or netlist
            else [Section("Energy", (report.text("Not counted; add --toggles or --netlist."),))]
        ),
        builds_section(),
    ]
    opened = [open_model(name) for name in dict.fromkeys(of_line for _, of_line in lines) if name != "random"]
    machines = list(dict.fromkeys(config for config, _ in lines))
    facts = provenance([(network.name, network.config, network.files) for network in opened], machines)
    page = report.render(
        "Lutern, measured",
        "Written by lutern report; lutern bench, cycles, power and build print the same figures. Timeline and energy "
        f"are those of {first.name} with {of_first}.",
        [*sections, Section("Provenance", (report.table([], facts, "facts"),))],
    )
    write_whole(output, page)
    print(f"{output}, {len(page) / 1000:,.0f} kB")
    if folder is not None:
        print(f"{folder}, {figures.write_all(drawings, folder, facts)} files")


def make_folder(folder: Path) -> None:
    """Make the folder of the figures if it does not exist."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise LuternError(f"the folder {folder} cannot be made ({error.strerror}); give another.") from None
