"""`lutern bench`: cycles, lanes and memory of machines and models, counted on the simulated board."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Annotated, Any

import typer
from rich.table import Table

from lutern.boards.catalog import BOARDS, find_board
from lutern.cli.models import open_network
from lutern.cli.numbers import whole
from lutern.cli.output import plain_console
from lutern.cli.progress import named_progress_bar
from lutern.cli.repairs import repairs_shown
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure.bench import (
    LARGE,
    LARGE_MEMORY,
    PREFILL_TOKENS,
    Row,
    built_clock,
    golden_tokens_per_second,
    measure_decode,
    measure_prefill,
)
from lutern.measure.fits import check_model
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated

SHOWN = (
    ("sim-64", "demo"),
    ("resident-25f", "demo-small"),
    ("resident-85f", "demo"),
    ("resident-1024", "demo"),
    ("stream-x16", "demo"),
    ("stream-x32", "demo"),
    ("resident-1024", "random"),
    ("stream-x16", "random"),
)
"""Machine and model of each line without options; "random" is ``measure.bench.LARGE``."""
COLUMNS: dict[str, Callable[[Row], str]] = {
    "what": lambda row: row.what,
    "streams": lambda row: str(row.streams),
    "tokens": lambda row: str(row.tokens),
    "cycles": lambda row: f"{row.cycles:,}" + (f" ± {row.deviation:,.0f}" if row.deviation else ""),
    "by the model": lambda row: "" if row.model_cycles is None else f"{row.model_cycles:,}",
    "bytes": lambda row: f"{row.bytes_read:,}",
    "lane use": lambda row: f"{row.lane_use:.1%}",
    "stream idle": lambda row: "" if row.stream_idle is None else f"{row.stream_idle:.2%}",
    "trit share": lambda row: f"{row.trit_share:.1%}",
    "MHz": lambda row: f"{row.clock_hz / 1e6:.1f}",
    "clock": lambda row: row.clock,
    "tokens/s": lambda row: f"{row.tokens_per_second:,.0f}",
    "of bound": lambda row: "" if row.share is None else f"{row.share:.1%}",
    "times": lambda row: "",
}
"""Of a row; "bytes" of a pass; "times": as fast as the machine's first row, one stream token by token."""
FORMATS = ("md", "csv", "json")
GOLDEN_TOKENS = 20


def measure(config: HwConfig, weights: IntegerWeights, prompts: int = 1) -> Iterator[Row]:
    """One stream, all streams, and a prompt in blocks; decoding with so many prompts."""
    program = lay_out(weights, config)
    first_tokens = [index * 7 % program.vocab for index in range(prompts)]
    machine: Any = simulated(config)
    part = getattr(machine, "part_timings", None)  # its own clock: so many cycles in so many of the machine's
    clocks = Fraction(round(part.clock_hz), config.clock_hz).as_integer_ratio() if part else None
    with SimulatedBoard(machine, memory_clock=clocks) as board:
        session = Session(Client(board), program, door=board if board.has_back_door else None)
        with repairs_shown(session):
            yield measure_decode(session, 1, first_tokens)
            streams = min(session.streams, session.slots)
            if streams > 1:
                yield measure_decode(session, streams, first_tokens)
            if config.streams > 1:
                yield measure_prefill(session, PREFILL_TOKENS, config.streams)


def machine_and_weights(preset_name: str, model: str) -> tuple[HwConfig, IntegerWeights]:
    """The machine of a preset with the weights of a model; larger memories for random ones."""
    config = preset(preset_name)
    if model != "random":
        return config, open_network(model).weights()
    return config.with_(**LARGE_MEMORY.get(preset_name, {})), integer_weights(random_checkpoint(LARGE, seed=1))


def cells(model: str, row: Row, first: Row) -> list[str]:
    """Texts of a row."""
    times = row.tokens_per_second / first.tokens_per_second
    texts = [f"{times:.2f}" if name == "times" else read(row) for name, read in COLUMNS.items()]
    return [row.preset, model, *texts]


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
        table = Table(box=None, pad_edge=False)
        for heading in headings:
            left = heading in ("preset", "model", "what", "clock")
            table.add_column(heading, no_wrap=True, justify="left" if left else "right")
        for texts in rows:
            table.add_row(*texts)
        plain_console().print(table)


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
    presets: Annotated[
        list[str] | None, typer.Option("--preset", help=f"Machine, again for more: {', '.join(PRESETS)}.")
    ] = None,
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
    if board:
        known = find_board(board)
        presets = presets or [known.preset]
        for name in presets:
            config = known.config(name)
            if model != "random":
                network = open_network(model)
                check_model(network.config, model, known, config.name, network.embedding_bits)
    lines = [(name, model) for name in presets] if presets else list(SHOWN)
    headings = ["preset", "model", *COLUMNS]
    streamed = not output and not sys.stdout.isatty()
    if streamed:
        print("\t".join(headings), flush=True)
    rows, data = [], []
    with named_progress_bar("bench") as advance:
        for index, (preset_name, model_name) in enumerate(lines):
            advance(index, len(lines), f"{preset_name}, {model_name}")
            first: Row | None = None
            config, weights = machine_and_weights(preset_name, model_name)
            for counted in measure(config, weights, prompts):
                row = at_built_clock(counted, config, board)
                first = first or row
                rows.append(cells(model_name, row, first))
                data.append(numbers(model_name, row, first))
                if streamed:
                    print("\t".join(rows[-1]), flush=True)
    print_rows(headings, rows, data, output)
    if presets and not output:
        if board and all(row["clock"] == "target" for row in data):
            print(
                f"no build of {', '.join(presets)} for {board}: rates are those of the target clock; "
                f"lutern build --board {board} --preset {presets[0]}"
            )
        print_baselines(model, weights)
