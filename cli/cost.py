"""`lutern cost`: what each block costs on ECP5. The work is done by lutern.measure.cost, this prints it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lutern.cli.progress import progress_bar
from lutern.hw.config import PRESETS, preset
from lutern.measure.cost import BLOCKS, Cost, Placement, measure_cost, measure_placement
from lutern.model_ref.errors import LuternError

Row = tuple[Cost, Placement | None]
COLUMNS: dict[str, Callable[[Cost], object]] = {
    "block": lambda cost: cost.block,
    "LUT4": lambda cost: cost.lut4,
    "CCU2C": lambda cost: cost.ccu2c,
    "comb": lambda cost: cost.comb,
    "FF": lambda cost: cost.ff,
    "DP16KD": lambda cost: cost.block_rams,
    "DPR16X4": lambda cost: cost.distributed_rams,
    "MULT18": lambda cost: cost.multipliers,
}
ROUTED_COLUMNS: dict[str, Callable[[Placement], object]] = {
    "placed comb": lambda placement: placement.comb,
    "placed FF": lambda placement: placement.ff,
    "MHz": lambda placement: f"{placement.fmax_hz / 1e6:.1f}",
    "seed": lambda placement: placement.seed,
}


def cells(row: Row) -> list[str]:
    """The texts of a row."""
    cost, placement = row
    texts = [str(read(cost)) for read in COLUMNS.values()]
    if placement is not None:
        texts += [str(read(placement)) for read in ROUTED_COLUMNS.values()]
    return texts


def headings(routed: bool) -> list[str]:
    """The texts above the rows."""
    return [*COLUMNS, *(ROUTED_COLUMNS if routed else ())]


def print_plain(texts: list[str]) -> None:
    """One line for a pipe, at once: columns are separated by tabs."""
    print("\t".join(texts), flush=True)


def cost(
    blocks: Annotated[
        list[str] | None, typer.Argument(metavar="[BLOCK]...", help=f"All if none: {', '.join(BLOCKS)}.")
    ] = None,
    preset_name: Annotated[str, typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}.")] = "sim-64",
    routed: Annotated[bool, typer.Option("--routed", help="Place and route too, on an LFE5U-85F-6.")] = False,
    seed: Annotated[int, typer.Option(min=1, help="Of the placer.")] = 1,
) -> None:
    """Print what blocks cost on ECP5, each synthesised alone; comb is LUT4 + 2 CCU2C + 6 DPR16X4."""
    config = preset(preset_name)
    names = blocks or list(BLOCKS)
    for name in names:
        if name not in BLOCKS:
            raise LuternError(f"there is no block {name}; choose among {', '.join(BLOCKS)}.")
    in_terminal = sys.stdout.isatty()
    if not in_terminal:
        print_plain(headings(routed))
    rows: list[Row] = []
    with progress_bar("place and route" if routed else "synthesis") as advance:
        for index, name in enumerate(names):
            advance(index, len(names))
            rows.append((measure_cost(name, config), measure_placement(name, config, seed) if routed else None))
            if not in_terminal:
                print_plain(cells(rows[-1]))
    if in_terminal:
        table = Table(box=None, pad_edge=False)
        for heading in headings(routed):
            table.add_column(heading, no_wrap=True, justify="left" if heading == "block" else "right")
        for row in rows:
            table.add_row(*cells(row))
        Console(highlight=False).print(table)
