"""`lutern estimate`: computes cycles, bytes, tokens/s and resources of a model on a machine, without a build."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lutern.boards.board import Board
from lutern.boards.catalog import find_board
from lutern.cli.estimate_tables import print_axi, print_memories, print_released
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, board_option, given_machine, preset_option
from lutern.cli.models import MODEL_HELP, default_model, find_shape, open_model
from lutern.cli.numbers import one_of, real, whole
from lutern.cli.table import Cell, Column, FormatOption, Printer, fixed, percent, printing
from lutern.firmware.limits import state_slots
from lutern.firmware.schedule import program_sizes
from lutern.firmware.serial_port import BAUD
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.dram import CHOOSES
from lutern.measure.estimate import Estimate, estimate, limit_sentence
from lutern.measure.fits import check_model, chip_lacks
from lutern.measure.memories import chip_memories
from lutern.measure.resources import errors
from lutern.measure.samples import MOST_LANES
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS, WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

RESOURCES = (
    ("LUT, placed", "placed_luts", "luts"),
    ("LUT, synthesised", "luts", "luts"),
    ("FF", "ff", "luts"),
    ("block RAM", "block_rams", "block_rams"),
    ("multipliers", "multipliers", "multipliers"),
)
"""For each resource: its name in the table, its field in ``Resources``, and its field in the board's ``Fpga``. FF use
the field ``luts``, because an ECP5 has as many FF as LUT."""
CYCLES = {
    "block": "Cycles and bytes are exact: tests hold the RTL to them.",
    "sdram": "Bytes are exact; cycles are within 0.1 % of those that the simulated board counts for the demo.",
    "ddr3": "Bytes are exact; cycles are within 1 % of those that the simulated board counts for the demo, 0.1 % for "
    "two layers of 370M.",
    "port": "Bytes are exact; cycles assume a memory that gives a word in every cycle.",
    "axi": "Bytes are exact; cycles assume a memory that gives a word in every cycle, or in --share of them. The "
    "rates of DDR4 and HBM2 were not measured. LUT, FF and block RAM are those of an ECP5.",
    "host": "Bytes are exact; the rate is the most that the line allows; the simulated board reaches 97 % of it.",
}
"""For each kind of memory, the sentences that say how exact cycles and bytes are."""
CYCLES_OF_STATE = (
    "Bytes are exact; cycles assume a memory that gives a word in every cycle, and include the words of the state."
)
"""The sentence for machines whose state S is in the memory of words."""


def where_state_is(model_config: ModelConfig, config: HwConfig, streams: int, embedding_bits: int) -> str:
    """Return a sentence that says which memory stores the state, for how many conversations, and how much of the memory
    or of its traffic the state needs."""
    slots = state_slots(model_config, config, embedding_bits)
    conversations = f"{slots} conversation{'s' if slots > 1 else ''}"
    if config.state == "block":
        blocks = sum(memory.blocks for memory in chip_memories(config) if memory.name == "state S")
        return f"state S: in {blocks} block RAMs of the chip, for {conversations} of this model"
    sizes = program_sizes(model_config, config, embedding_bits)
    moved = sizes.pass_words(streams) - sizes.record_words - streams * sizes.row_words
    return (
        f"state S: in the memory of words, for up to {conversations} of this model; a pass reads and writes "
        f"{moved:,} words of it, {moved / sizes.pass_words(streams):.2%} of all words"
    )


RESOURCE_COLUMNS = (
    Column("resource", left=True),
    Column("estimated", show=fixed(0)),
    Column("available", "of"),
    Column("share", "%", percent(0)),
    Column("largest_error", "largest error"),
)
_ESTIMATE_NAMES = "model machine streams cycles bytes tokens_per_second clock_hz bound share trit_share"
ESTIMATE_COLUMNS = tuple(map(Column, _ESTIMATE_NAMES.split()))
"""The columns that programs get in place of the sentences."""


def print_estimate(
    printer: Printer,
    name: str,
    model_config: ModelConfig,
    config: HwConfig,
    found: Estimate,
    board: Board | None,
    embedding_bits: int,
) -> None:
    """Print the estimate of one machine with one model."""
    of_streams = f" of {found.streams} streams" if found.streams > 1 else ""
    at_most = "at most " if config.memory == "host" else ""
    rate = f"{at_most}{_number(found.tokens_per_second)} tokens/s{of_streams}"
    what = (
        "the line"
        if config.memory == "host"
        else ("lanes" if config.source == "resident" else f"{config.word_bits}-bit memory")
    )
    cycles = f"{found.cycles:,} cycles a pass, " if found.cycles is not None else ""
    printer.say(
        f"{name} on {config.name}: {cycles}{found.bytes_read:,} bytes ({found.trit_share:.1%} trits); "
        f"{rate} at {config.clock_hz / 1e6:.4g} MHz, {found.share:.1%} of the bound of {what}, {_number(found.bound)}"
    )
    printer.say(limit_sentence(model_config, config, found))
    numbers = (found.streams, found.cycles, found.bytes_read, found.tokens_per_second, config.clock_hz, found.bound)
    printer.facts("estimate", ESTIMATE_COLUMNS, (name, config.name, *numbers, found.share, found.trit_share))
    printer.table("resources", RESOURCE_COLUMNS, resource_rows(found, board))
    for lack in chip_lacks(config, board) if board else ():
        printer.say(f"{lack.text}: it does not fit.")
    how_good = CYCLES_OF_STATE if config.state == "memory" and config.memory != "axi" else CYCLES[config.memory]
    presets, others = errors("preset"), errors("check")
    inside = config.lanes <= MOST_LANES and config.memory == "block"
    printer.say(
        f"{how_good} LUT and FF come from a formula. The error of placed LUT is the largest over the {presets.packed} "
        f"presets to which it was fitted. Other errors are the largest over {others.machines} machines to which it was "
        f"not fitted, of up to {MOST_LANES} lanes with memory on the chip"
        + ("" if inside else "; this machine is larger or has another memory")
    )
    printer.say(where_state_is(model_config, config, found.streams, embedding_bits))


def resource_rows(found: Estimate, board: Board | None) -> list[list[Any]]:
    """Return one row for each resource: the number that the machine needs, the number on the board's chip, the first
    number divided by the second, and the error of the estimate."""
    presets, others = errors("preset"), errors("check")
    known = {"placed_luts": presets.placed_luts, "luts": others.luts, "ff": others.ff}
    rows: list[list[Any]] = []
    for title, field, of_part in RESOURCES:
        value = round(getattr(found.resources, field))
        total = getattr(board.fpga, of_part) if board else None
        error = Cell(known[field], f"{known[field]:.0%}") if field in known else Cell(0, "exact")
        rows.append([title, value, total, value / total if total else None, error])
    return rows


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.4g}"


def estimate_machine(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "",
    size: Annotated[str, typer.Option(help=f"A published shape in place of a model: {', '.join(PUBLISHED)}.")] = "",
    preset_name: Annotated[str, preset_option(f"the board's, else {DEFAULT}")] = "",
    board_name: Annotated[str, board_option("Take the machine and the chip of this board")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    streams: Annotated[int, whole("--streams", least=1, most=16, help="Number of tokens that a pass decodes.")] = 1,
    table: Annotated[
        bool, typer.Option("--table", help="Print the rates of the released models on boards and larger devices.")
    ] = False,
    axi: Annotated[
        bool,
        typer.Option("--axi", help="Print these rates on machines with AXI4, by clock and share of the memory's peak."),
    ] = False,
    share: Annotated[
        float, real("--share", least=0.01, most=1, help="Average words per cycle from a memory at a port.")
    ] = 1.0,
    embedding_bits: Annotated[
        int | None,
        one_of(
            "--embedding-bits",
            choices=EMBEDDING_BITS,
            help="Bits of an element of the embedding table. Only with --size, since a model defines these bits.",
        ),
    ] = None,
    of_memories: Annotated[
        bool, typer.Option("--memories", help="Print the bytes of the released models, and which boards can hold them.")
    ] = False,
    form: FormatOption = "text",
) -> None:
    """Compute cycles, bytes, tokens/s and resources, without simulation or synthesis."""
    if table or axi or of_memories:
        with printing(form) as printer:
            (print_released if table else print_axi if axi else print_memories)(printer)
        return
    board = find_board(board_name) if board_name else None
    chosen = given_machine(preset_name, settings, machine_file, board.preset if board else DEFAULT)
    if board:
        hw_config = board.config(chosen.config, **chosen.clocks) if chosen else board.config()
    else:
        hw_config = chosen.config if chosen else preset(DEFAULT)
    if streams > hw_config.streams:
        raise LuternError(
            f"{streams} streams were asked for, but {hw_config.name} decodes {hw_config.streams} at a time; give "
            f"--streams {hw_config.streams}, or --set streams={1 << (streams - 1).bit_length()}."
        )
    model = model or default_model(hw_config)
    name, model_config = find_shape(model, size)
    if embedding_bits and not size:
        raise LuternError(
            f"--embedding-bits is only for --size, since {model} defines its own; leave out --embedding-bits."
        )
    bits = (embedding_bits or WIDE_BITS) if size else open_model(model).embedding_bits
    if board:
        check_model(model_config, name, board, chosen.config if chosen else "", bits)
    if share != 1 and (hw_config.memory not in CHOOSES or hw_config.source != "streamed"):
        raise LuternError(
            f"--share is for a machine with a port for memory, {hw_config.name} has none; leave out --share."
        )
    baud = board.baud(hw_config) if board else BAUD
    found = estimate(model_config, hw_config, streams=streams, baud=baud, embedding_bits=bits, share=share)
    with printing(form) as printer:
        print_estimate(printer, name, model_config, hw_config, found, board, bits)
        if chosen and chosen.given:
            printer.say(f"machine: {chosen.title}")
