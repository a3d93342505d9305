"""`lutern bench`: counts cycles, lane use and memory traffic of machines and models on the simulated board."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any

import typer

from lutern.boards.catalog import find_board
from lutern.cli.cluster import SchedulerOption
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, board_option, machines_of, preset_option
from lutern.cli.models import MODEL_HELP, default_model, machine_and_weights, open_model
from lutern.cli.numbers import whole
from lutern.cli.progress import named_progress_bar
from lutern.cli.table import Cell, Column, FormatOption, Printer, printing
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.bench import Row, built_clock, golden_tokens_per_second, measure, measure_by
from lutern.measure.bench_table import COLUMNS, SHOWN, cells
from lutern.measure.cluster import workers
from lutern.measure.fits import check_model
from lutern.model_ref.extras import install_command
from lutern.model_ref.quantise import IntegerWeights

GOLDEN_TOKENS = 20


def at_built_clock(row: Row, config: HwConfig, board: str) -> Row:
    """Return the row at the clock that the newest build of the machine reached, if the machine was built.

    A machine with a DRAM keeps the target clock, because the DRAM's own clock does not change with the machine's clock.
    """
    built = built_clock(config, board) if config.memory not in ("sdram", "ddr3") else None
    return dataclasses.replace(row, clock_hz=built.hz, clock=f"routed, {built.board}") if built else row


KEYS = {
    "what": "what",
    "streams": "streams",
    "tokens": "tokens",
    "cycles": "cycles",
    "by the model": "model_cycles",
    "bytes": "bytes_read",
    "lane use": "lane_use",
    "stream idle": "stream_idle",
    "trit share": "trit_share",
    "MHz": "clock_hz",
    "clock": "clock",
    "tokens/s": "tokens_per_second",
    "of bound": "share",
    "times": "times",
}
"""For each heading of the table, the key that programs read."""
MORE_KEYS = ("lanes", "trits", "words", "deviation", "bound")
"""The columns that only programs read."""


def columns(for_programs: bool) -> list[Column]:
    """Return the columns of the table. A table for programs contains the columns ``MORE_KEYS`` in addition."""
    texts = ("what", "clock")
    found = [Column(KEYS[name], name, left=name in texts) for name in COLUMNS]
    found = [Column("preset", left=True), Column("model", left=True), *found]
    return found + ([Column(key) for key in MORE_KEYS] if for_programs else [])


def row_cells(model: str, row: Row, first: Row, for_programs: bool) -> list[Any]:
    """Return a row. Each cell has a value for programs and a text for readers."""
    values = {**dataclasses.asdict(row), "times": row.tokens_per_second / first.tokens_per_second}
    texts = cells(model, row, first)
    found = [
        Cell(values[key] if key in values else getattr(row, key), text)
        for key, text in zip(("preset", *(KEYS[name] for name in COLUMNS)), (texts[0], *texts[2:]), strict=True)
    ]
    more = [values[key] if key in values else getattr(row, key) for key in MORE_KEYS] if for_programs else []
    return [found[0], model, *found[1:], *more]


def print_baselines(printer: Printer, model: str, weights: IntegerWeights) -> None:
    """Print the tokens/s at which this computer runs the model."""
    golden = golden_tokens_per_second(weights, GOLDEN_TOKENS)
    printer.say(f"baseline, this computer: {golden:,.1f} tokens/s of {model} by the integer model, one stream")
    if importlib.util.find_spec("torch") is None:
        printer.say(f"baseline, PyTorch: not installed ({install_command('train')})")
        return
    from lutern.train.speed import torch_tokens_per_second

    rate = torch_tokens_per_second(weights.config, GOLDEN_TOKENS)
    printer.say(f"baseline, this computer: {rate:,.1f} tokens/s of {model} by PyTorch on the CPU, one stream")


def bench(
    presets: Annotated[list[str] | None, preset_option("a table of several machines", several=True)] = None,
    settings: SetOption = None,
    machine_file: MachineOption = None,
    board: Annotated[str, board_option("Count the machine of this board, at the clock of its newest build")] = "",
    model: Annotated[str, typer.Option(help=f"{MODEL_HELP} Or random: random weights with d = 1024.")] = "",
    prompts: Annotated[
        int, whole("--prompts", least=1, most=1000, help="Number of prompts over which decoding is averaged.")
    ] = 1,
    scheduler: SchedulerOption = "",
    form: FormatOption = "text",
) -> None:
    """Count cycles of machines and models. Without options, print the table of the presets."""
    machines = machines_of(presets, settings, machine_file, find_board(board).preset if board else DEFAULT)
    if board:
        known = find_board(board)
        machines = machines or [preset(known.preset)]
        for config in machines:
            known.config(config)
            if model not in ("", "random"):
                network = open_model(model)
                check_model(network.config, model, known, config, network.embedding_bits)
    shown = [(preset(name), of_line) for name, of_line in SHOWN]
    lines = [(config, model or default_model(config)) for config in machines] if machines else shown
    clocks: list[str] = []
    with workers(scheduler=scheduler) as crew, printing(form) as printer:
        measured = partial(measure_by, crew) if scheduler else measure
        printer.table_as_it_comes(
            "bench", columns(printer.for_programs), _rows(lines, prompts, board, printer.for_programs, clocks, measured)
        )
        if machines and not printer.for_programs:
            if board and set(clocks) == {"target"}:
                printer.say(
                    f"{board} has no build of {', '.join(config.name for config in machines)}, so the rates are "
                    f"at the target clock; run: lutern build --board {board}"
                )
            print_baselines(printer, lines[-1][1], machine_and_weights(*lines[-1])[1])


def _rows(
    lines: list[tuple[HwConfig, str]],
    prompts: int,
    board: str,
    for_programs: bool,
    clocks: list[str],
    measured: Callable[[HwConfig, IntegerWeights, int], Iterable[Row]],
) -> Iterator[list[Any]]:
    """Yield the rows of each machine and model. The source of each row's clock is appended to ``clocks``."""
    with named_progress_bar("bench") as advance:
        for index, (machine, model_name) in enumerate(lines):
            advance(index, len(lines), f"{machine.name}, {model_name}")
            first: Row | None = None
            config, weights = machine_and_weights(machine, model_name)
            for counted in measured(config, weights, prompts):
                row = at_built_clock(counted, config, board)
                first = first or row
                clocks.append(row.clock)
                yield row_cells(model_name, row, first, for_programs)
