"""Prints counted toggles, and estimated or measured joules, for `lutern power`."""

from __future__ import annotations

from lutern.cli.table import Cell, Column, Printer
from lutern.firmware.program import Program
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.measure import calibration, energy, meter
from lutern.measure.cost import measure_cost
from lutern.measure.dram import dram_of, joules
from lutern.measure.estimate import estimate
from lutern.measure.toggles import Token, zero_share
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import IntegerWeights


def interval(item: calibration.Coefficient | meter.Interval, unit: float, text: str) -> str:
    """Return both ends of an interval as a text, with the name of the unit."""
    return f"{item.low / unit:.3g} to {item.high / unit:.3g} {text}"


def show_counted(
    printer: Printer, tokens: list[Token], cells: list[Token], weights: IntegerWeights, program: Program
) -> None:
    """Print the toggles of a token by block, and by layer and part of a layer, with one column for each prompt."""
    matrices = [
        matrix.trits
        for layer in weights.layers
        for matrix in (layer.f_proj, layer.i_proj, layer.g_proj, layer.o_proj, layer.gate_proj, layer.down_proj)
    ]
    share = zero_share([*matrices, weights.lm_head.trits])
    printer.say(
        f"counted: a token of {tokens[0].cycles:,} cycles, {share:.1%} of its trits are zero; "
        f"{program.bytes_per_token:,} bytes read; glitches within a cycle are not seen"
    )
    named = [("gateware", token) for token in tokens] + [("ECP5 cells", token) for token in cells]
    first = tokens[0].by_block
    blocks = sorted(set().union(*(token.by_block for _, token in named)), key=lambda name: -first.get(name, 0))
    counts = [
        Column(f"{what.replace(' ', '_').lower()}_{number}", f"{what}: {token.prompt}", _one_digit)
        for number, (what, token) in enumerate(named, start=1)
    ]
    rows = [[block, *(token.by_block.get(block, 0) / token.cycles for _, token in named)] for block in blocks]
    rows.append(["all", *(token.total / token.cycles for _, token in named)])
    printer.table("blocks", (Column("block", "toggles a cycle", left=True), *counts), rows, total=True)
    printer.say()
    windows = [
        [window.name, *(token.windows[index].total for _, token in named)]
        for index, window in enumerate(tokens[0].windows)
    ]
    whole = [Column(column.key, column.heading) for column in counts]
    printer.table("windows", (Column("window", "toggles", left=True), *whole), windows)


def _one_digit(value: float) -> str:
    return f"{value:,.1f}"


def _ends(heading: str) -> tuple[Column, Column]:
    """Return a column for each end of an interval in joules. Readers see both ends in the first column."""
    return Column("joules_low", heading), Column("joules_high", f"{heading}, high")


def _both(low: float, high: float, unit: float) -> tuple[Cell, Cell]:
    return Cell(low, f"{low / unit:.3g} to {high / unit:.3g}"), Cell(high, "")


def show_estimated(printer: Printer, token: Token, config: HwConfig, part: str, known: calibration.Calibration) -> None:
    """Print the joules of a token whose toggles were counted: by kind of event, by layer, and the sum."""
    cost, cycles = measure_cost("top", config), token.cycles
    printer.say(f"counted: {token.total:,} toggles of ECP5's cells in a token of {cycles:,} cycles")
    events = {
        "net_toggle": token.total,
        "register_clock": cost.ff * cycles,
        "block_ram_access": cost.block_rams * cycles,
    }
    found = energy.estimate(part, known, events, cycles / config.clock_hz)
    show_terms(printer, found, config, known)
    windows = {window.name: (window.total, window.cycles) for window in token.windows}
    by_layer = energy.of_windows(part, known, windows, cost.ff, cost.block_rams, config.clock_hz)
    printer.table(
        "layers",
        (Column("window", "by layer, without the memory's bytes", left=True), *_ends("uJ")),
        [[name, *_both(item.low, item.high, 1e-6)] for name, item in by_layer.items()],
    )
    show_sums(printer, found)


def show_computed(
    printer: Printer,
    name: str,
    model_config: ModelConfig,
    config: HwConfig,
    part: str,
    known: calibration.Calibration,
    dram: str,
) -> None:
    """Print joules that are computed without counted toggles: for a published size, or for a machine whose memory is
    outside the chip."""
    memory = dram_of(config, dram)
    computed = estimate(model_config, config, baud=BAUD)
    printer.say(
        f"computed: {name} on {config.name}, {computed.tokens_per_second:,.4g} tokens/s, "
        f"{computed.bytes_read:,} bytes a token; nothing was counted"
    )
    if memory is not None and config.memory == "axi":
        token = joules(model_config, config, memory, computed.tokens_per_second)
        parts = {"read": token.transport, "standby": token.standby}
        columns = [Column(f"{part}_joules_{end}") for part in parts for end in ("low", "high")]
        printer.facts("together", columns, [end for item in parts.values() for end in (item.low, item.high)])
        printer.say(
            f"estimated: {interval(token.transport, 1e-3, 'mJ')} a token to read from {memory.title}, and standby of "
            f"{memory.parts(config)} {memory.part}{'s' if memory.parts(config) > 1 else ''}, "
            f"{interval(memory.standby_watts(config), 1, 'W')}: {interval(token.standby, 1e-3, 'mJ')} a token\n"
            f"{memory.title}: {memory.source}\n"
            f"The joules of the chip are not estimated: the coefficients are for an ECP5, which does not reach "
            f"{config.clock_hz / 1e6:.4g} MHz. lutern power table has the watts of idle boards."
        )
        return
    found = energy.without_nets(part, known, config, computed, dram)
    show_terms(printer, found, config, known)
    show_sums(printer, found)
    if config.memory == "host":
        printer.say("without the link that the weights come over, whose joules a byte are not known")
    printer.say("without toggles of the logic's nets, which are counted for a machine with memory on the chip")


def show_terms(printer: Printer, found: energy.Estimate, config: HwConfig, known: calibration.Calibration) -> None:
    """Print the number of events of each kind, and their joules."""
    printer.say(
        f"\nestimated for {found.part} at {config.clock_hz / 1e6:.4g} MHz; coefficients: {found.source} ({known.date})"
    )
    unit, text = _unit(found)
    rows = [[term.name, round(term.events), *_both(term.low, term.high, unit)] for term in found.terms]
    printer.table("terms", (Column("term", "a token", left=True), Column("events"), *_ends(text)), rows)


def show_sums(printer: Printer, found: energy.Estimate) -> None:
    """Print the dynamic joules and all joules of a token, and the static power."""
    unit = _unit(found)
    standby = f" and of the memory's standby {interval(found.standby, 1, 'W')}" if found.standby.high else ""
    sums = {"dynamic_joules": found.dynamic, "static_watts": found.static, "joules": found.joules, "watts": found.watts}
    columns = [Column(f"{name}_{end}") for name in sums for end in ("low", "high")]
    printer.facts("together", columns, [end for item in sums.values() for end in (item.low, item.high)])
    printer.say(
        f"dynamic {interval(found.dynamic, *unit)} a token; static {interval(found.static, 1, 'W')}{standby}; "
        f"together {interval(found.joules, *unit)} a token, {interval(found.watts, 1, 'W')}"
    )


def show_measured(printer: Printer, found: meter.Measured) -> None:
    """Print the watts of the idle and of the loaded board, and the joules of a token."""
    items = {
        "idle_watts": found.idle,
        "loaded_watts": found.loaded,
        "joules_above_idle": found.joules,
        "joules": found.joules_total,
    }
    columns = [Column(f"{name}{end}") for name in items for end in ("", "_low", "_high")]
    values = [number for item in items.values() for number in (item.value, item.low, item.high)]
    printer.facts("measured", columns, values)
    printer.say(
        f"measured: idle {found.idle.value:.4g} W ({interval(found.idle, 1, 'W')}), "
        f"loaded {found.loaded.value:.4g} W ({interval(found.loaded, 1, 'W')})"
    )
    printer.say(
        f"{found.joules.value * 1e3:.4g} mJ a token above idle ({interval(found.joules, 1e-3, 'mJ')}); "
        f"{found.joules_total.value * 1e3:.4g} mJ of all that the meter sees "
        f"({interval(found.joules_total, 1e-3, 'mJ')})"
    )


def _unit(found: energy.Estimate) -> tuple[float, str]:
    """Return the unit that suits the size of these joules."""
    return (1e-3, "mJ") if found.joules.low > 1e-3 else (1e-6, "uJ")


__all__ = ["show_computed", "show_counted", "show_estimated", "show_measured"]
