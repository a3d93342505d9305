"""`lutern bench`: cycles, lanes and memory of machines and models, counted on the simulated board."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import sys
from typing import Annotated, Any

import typer

from lutern.boards.catalog import BOARDS, find_board
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, machines_of, preset_option
from lutern.cli.models import machine_and_weights, open_model
from lutern.cli.numbers import whole
from lutern.cli.progress import named_progress_bar
from lutern.cli.table import draw_table
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.bench import Row, built_clock, golden_tokens_per_second, measure
from lutern.measure.bench_table import COLUMNS, SHOWN, cells
from lutern.measure.fits import check_model
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights

FORMATS = ("md", "csv", "json")
GOLDEN_TOKENS = 20


def at_built_clock(row: Row, config: HwConfig, board: str) -> Row:
    """The row at the clock that the newest build of the machine reached, if there is one.

    With a DRAM, whose clock does not scale with the machine's, at the target.
    """
    built = built_clock(config, board) if config.memory not in ("sdram", "ddr3") else None
    return dataclasses.replace(row, clock_hz=built.hz, clock=f"routed, {built.board}") if built else row


def numbers(model: str, row: Row, first: Row) -> dict[str, Any]:
    """A row for programs."""
    derived = ("lane_use", "stream_idle", "trit_share", "tokens_per_second", "bound", "share")
    return {
        "model": model,
        **dataclasses.asdict(row),
        **{name: getattr(row, name) for name in derived},
        "times": row.tokens_per_second / first.tokens_per_second,
    }


def print_rows(headings: list[str], rows: list[list[str]], data: list[dict[str, Any]], output: str) -> None:
    """As ``output`` says; else a table on a terminal, nothing in a pipe, where every row was printed when it came."""
    if output == "json":
        print(json.dumps(data, indent=1))
    elif output == "csv":
        writer = csv.DictWriter(sys.stdout, list(data[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(data)
    elif output == "md":
        print("\n".join("| " + " | ".join(texts) + " |" for texts in (headings, ["---"] * len(headings), *rows)))
    elif sys.stdout.isatty():
        draw_table(headings, rows, left=("preset", "model", "what", "clock"))


def print_baselines(model: str, weights: IntegerWeights) -> None:
    """What this computer does with the model."""
    golden = golden_tokens_per_second(weights, GOLDEN_TOKENS)
    print(f"baseline, this computer: {golden:,.1f} tokens/s of {model} by the integer model, one stream")
    if importlib.util.find_spec("torch") is None:
        print("baseline, PyTorch: not installed (pip install 'lutern[train]')")
        return
    from lutern.train.speed import torch_tokens_per_second

    rate = torch_tokens_per_second(weights.config, GOLDEN_TOKENS)
    print(f"baseline, this computer: {rate:,.1f} tokens/s of {model} by PyTorch on the CPU, one stream")


def bench(
    presets: Annotated[list[str] | None, preset_option("a table of several", several=True)] = None,
    settings: SetOption = None,
    machine_file: MachineOption = None,
    board: Annotated[str, typer.Option(help=f"Its machine and its newest build: {', '.join(BOARDS)}.")] = "",
    model: Annotated[
        str, typer.Option(help="demo, demo-small, a checkpoint folder, an image, or random (d = 1024).")
    ] = "demo",
    prompts: Annotated[int, whole("-r", "--prompts", least=1, most=1000, help="Decode with so many prompts.")] = 1,
    output: Annotated[str, typer.Option("-o", "--output", help="Format: md, csv or json.")] = "",
) -> None:
    """Count cycles of machines and models; without options the table of the presets."""
    if output and output not in FORMATS:
        raise LuternError(f"there is no format {output}; choose one of {', '.join(FORMATS)}.")
    machines = machines_of(presets, settings, machine_file, find_board(board).preset if board else DEFAULT)
    if board:
        known = find_board(board)
        machines = machines or [preset(known.preset)]
        for config in machines:
            known.config(config)
            if model != "random":
                network = open_model(model)
                check_model(network.config, model, known, config, network.embedding_bits)
    shown = [(preset(name), of_line) for name, of_line in SHOWN]
    lines = [(config, model) for config in machines] if machines else shown
    headings = ["preset", "model", *COLUMNS]
    streamed = not output and not sys.stdout.isatty()
    if streamed:
        print("\t".join(headings), flush=True)
    rows, data = [], []
    with named_progress_bar("bench") as advance:
        for index, (machine, model_name) in enumerate(lines):
            advance(index, len(lines), f"{machine.name}, {model_name}")
            first: Row | None = None
            config, weights = machine_and_weights(machine, model_name)
            for counted in measure(config, weights, prompts):
                row = at_built_clock(counted, config, board)
                first = first or row
                rows.append(cells(model_name, row, first))
                data.append(numbers(model_name, row, first))
                if streamed:
                    print("\t".join(rows[-1]), flush=True)
    print_rows(headings, rows, data, output)
    if machines and not output:
        if board and all(row["clock"] == "target" for row in data):
            print(
                f"no build of {', '.join(config.name for config in machines)} for {board}: rates are those of the "
                f"target clock; run: lutern build --board {board}"
            )
        print_baselines(model, weights)
