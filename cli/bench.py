"""`lutern bench`: cycles, lanes and stream of machines and models, counted on the simulated board."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lutern.cli.models import open_network
from lutern.cli.progress import named_progress_bar
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Session
from lutern.hw.config import PRESETS, HwConfig, preset
from lutern.measure.bench import LARGE, LARGE_MEMORY, PREFILL_TOKENS, Row, measure_decode, measure_prefill
from lutern.model_ref.quantize import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.sdram import simulated

SHOWN = (
    ("sim-64", "demo"), ("resident-25f", "demo-small"), ("resident-85f", "demo"), ("stream-x16", "demo"),
    ("stream-x32", "demo"), ("resident-85f", "random"), ("stream-x16", "random"),
)
"""Machine and model of each line without options; "random" is ``measure.bench.LARGE``."""
COLUMNS: dict[str, Callable[[Row], str]] = {
    "what": lambda row: row.what,
    "streams": lambda row: str(row.streams),
    "tokens": lambda row: str(row.tokens),
    "cycles": lambda row: f"{row.cycles:,}",
    "by the model": lambda row: "" if row.model_cycles is None else f"{row.model_cycles:,}",
    "lane use": lambda row: f"{row.lane_use:.1%}",
    "stream idle": lambda row: "" if row.stream_idle is None else f"{row.stream_idle:.2%}",
    "trit share": lambda row: f"{row.trit_share:.1%}",
    "MHz": lambda row: f"{row.clock_hz / 1e6:.0f}",
    "tokens/s": lambda row: f"{row.tokens_per_second:,.0f}",
    "times": lambda row: "",
}
"""Of a row; "times": as fast as the machine's first row, one stream token by token."""


def measure(config: HwConfig, weights: IntegerWeights) -> Iterator[Row]:
    """One stream, all streams, and a prompt in blocks."""
    program = lay_out(weights, config)
    with SimulatedBoard(simulated(config)) as board:
        session = Session(Client(board), program, config)
        yield measure_decode(session, 1)
        if session.slots > 1:
            yield measure_decode(session, session.slots)
        if config.tokens > 1:
            yield measure_prefill(session, PREFILL_TOKENS, config.tokens)


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


def bench(
    presets: Annotated[
        list[str] | None, typer.Option("--preset", help=f"Machine, again for more: {', '.join(PRESETS)}.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="demo, demo-small, a checkpoint folder, an image, or random (d = 1024).")
    ] = "demo",
) -> None:
    """Count cycles of machines and models; without options the table of the presets."""
    lines = [(name, model) for name in presets] if presets else list(SHOWN)
    in_terminal = sys.stdout.isatty()
    headings = ["preset", "model", *COLUMNS]
    if not in_terminal:
        print("\t".join(headings), flush=True)
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("preset", "model", "what") else "right")
    with named_progress_bar("bench") as advance:
        for index, (preset_name, model_name) in enumerate(lines):
            advance(index, len(lines), f"{preset_name}, {model_name}")
            first: Row | None = None
            for row in measure(*machine_and_weights(preset_name, model_name)):
                first = first or row
                texts = cells(model_name, row, first)
                table.add_row(*texts)
                if not in_terminal:
                    print("\t".join(texts), flush=True)
    if in_terminal:
        Console(highlight=False).print(table)
