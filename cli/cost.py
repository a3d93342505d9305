"""`lutern cost`: prints the cost of each block on ECP5, and of a lane. The figures come from ``lutern.measure``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Annotated, Any

import typer

from lutern.boards.report import signal_of
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import SHIPPED, open_model
from lutern.cli.numbers import whole
from lutern.cli.table import Column, FormatOption, Printer, fixed, percent, printing
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure.check_cost import measure_check
from lutern.measure.cost import BLOCKS, Cost, Placement, measure_cost, measure_placement
from lutern.measure.lanes import SHAPES, LaneRow, measure_row
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

LANES = "lanes"
CHECK = "check"
MHZ = fixed(1, 1e6)
Row = tuple[Cost, Placement | None]
COLUMNS = (
    Column("block", left=True),
    *(Column(key, title) for key, title in (("lut4", "LUT4"), ("ccu2c", "CCU2C"), ("comb", "comb"), ("ff", "FF"))),
    Column("dp16kd", "DP16KD"),
    Column("dpr16x4", "DPR16X4"),
    Column("mult18", "MULT18"),
)
ROUTED_COLUMNS = (
    Column("placed_comb"),
    Column("placed_ff", "placed FF"),
    Column("fmax_hz", "MHz", MHZ),
    Column("seed"),
)


def row_values(row: Row) -> list[Any]:
    """Return the row of a block: its cells after synthesis, and its placed cells if the block was placed."""
    cost, placement = row
    cells = (cost.lut4, cost.ccu2c, cost.comb, cost.ff, cost.block_rams, cost.distributed_rams, cost.multipliers)
    placed = () if placement is None else (placement.comb, placement.ff, placement.fmax_hz, placement.seed)
    return [cost.block, *cells, *placed]


PATH_COLUMNS = (
    Column("block", "slowest path of", left=True),
    Column("signal", folds=True),
    Column("ns", show=fixed(2)),
)


def path_rows(placement: Placement) -> list[list[Any]]:
    """Return the slowest path of a block from flip-flop to flip-flop. Consecutive steps on nets of one signal are one
    row.
    """
    return [
        [placement.block, signal, sum(hop.delay_ns for hop in hops)]
        for signal, hops in groupby(placement.path, key=lambda hop: signal_of(hop.name))
    ]


LANE_COLUMNS = (
    Column("lanes"),
    Column("shape", "rows x columns"),
    Column("lut4_per_lane", "LUT4/lane", fixed(1)),
    Column("ff_per_lane", "FF/lane", fixed(1)),
    Column("fmax_hz", "MHz", fixed(0, 1e6)),
    Column("stream_lut4_per_lane", "for a second stream", fixed(1)),
    Column("decoder_lut4_per_trit", "decoder", fixed(1)),
    Column("tree_lut4_per_lane", "tree LUT4/lane", fixed(1)),
    Column("tree_ff_per_lane", "tree FF/lane", fixed(1)),
    Column("tree_fmax_hz", "tree MHz", fixed(0, 1e6)),
    Column("seed"),
)
"""``for a second stream``: the LUT4 that a second stream adds to each lane. ``decoder``: the LUT4 per trit of the logic
that unpacks trits. No other column includes these LUT4."""


def lane_values(row: LaneRow) -> list[Any]:
    """Return the row of a lane's cost: the cost of a folded lane, and the cost of an adder tree if the tree was
    measured."""
    folded, tree = row.folded, row.tree
    of_tree = (tree.lut4, tree.ff, tree.fmax_hz) if tree else (None, None, None)
    shape = "{} x {}".format(*SHAPES[folded.lanes])
    own = (folded.lanes, shape, folded.lut4, folded.ff, folded.fmax_hz, row.stream_lut4, folded.decoder_lut4)
    return [*own, *of_tree, folded.seed]


CHECK_COLUMNS = (
    Column("preset", left=True),
    *COLUMNS[1:6],
    Column("model", left=True),
    Column("words"),
    Column("check_words", "of checks"),
    Column("share", "share of bytes", percent(3)),
)
"""``words``: the words that a token reads. ``of checks``: how many of these words belong to checks. ``share``: the
bytes of checks, relative to all other bytes.
"""


def check_rows(machines: list[HwConfig]) -> Iterator[list[Any]]:
    """Yield the cost of the weight check in each of these machines."""
    models = {"370m": PUBLISHED["370m"], **{name: open_model(name).config for name in SHIPPED}}
    for config in machines:
        row = measure_check(config, models)
        if row is None:
            raise LuternError(f"{config.name} holds none of {', '.join(models)}; choose a machine that does.")
        cost = row.cost
        cells = (cost.lut4, cost.ccu2c, cost.comb, cost.ff, cost.block_rams)
        yield [config.name, *cells, row.model, row.words, row.added, row.share]


def cost(
    blocks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BLOCK]...",
            help=f"Blocks to measure, default: all of {', '.join(BLOCKS)}. Give {LANES} alone to place and route "
            f"folded lanes and an adder tree, and to see the cost of a lane for each number of lanes. "
            f"Give {CHECK} alone to see the cost of the weight check, in cells and in words of a token.",
        ),
    ] = None,
    preset_name: Annotated[str, preset_option(f"{DEFAULT}; for {CHECK} all presets that hold a model")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    routed: Annotated[bool, typer.Option("--routed", help="Also place and route on an LFE5U-85F-6.")] = False,
    seed: Annotated[int, whole("--seed", least=1, most=(1 << 31) - 1, help="Seed of the placer.")] = 1,
    most_lanes: Annotated[
        int,
        whole(
            "--most-lanes",
            least=min(SHAPES),
            most=max(SHAPES),
            help=f"With {LANES}: largest number of lanes to measure.",
        ),
    ] = max(SHAPES),
    form: FormatOption = "text",
) -> None:
    """Print the cells of blocks on ECP5. Each block is synthesised alone. comb is LUT4 + 2 CCU2C + 6 DPR16X4."""
    given = given_machine(preset_name, settings, machine_file)
    names = blocks or list(BLOCKS)
    for name in names if blocks not in ([LANES], [CHECK]) else []:
        if name not in BLOCKS:
            raise LuternError(
                f"there is no block {name}; choose among {', '.join(BLOCKS)}, or {LANES} or {CHECK} alone."
            )
    with printing(form) as printer:
        if blocks == [LANES]:
            counts = [lanes for lanes in SHAPES if lanes <= most_lanes]
            found = (lane_values(measure_row(count, seed)) for count in counts)
            printer.table_as_it_comes("lanes", LANE_COLUMNS, found, len(counts), "place and route")
        elif blocks == [CHECK]:
            machines = [given.config] if given else [config for config in PRESETS.values() if config.name != "tiny"]
            printer.table_as_it_comes("check", CHECK_COLUMNS, check_rows(machines), len(machines), "synthesis")
        else:
            print_blocks(printer, names, given.config if given else preset(DEFAULT), routed, seed)


def print_blocks(printer: Printer, names: list[str], config: HwConfig, routed: bool, seed: int) -> None:
    """Print the cost of blocks. If ``routed`` is set, also print the slowest path of each block."""
    placements: list[Placement] = []

    def measured(name: str) -> list[Any]:
        found = measure_cost(name, config)
        if not routed:
            return row_values((found, None))
        placements.append(measure_placement(name, config, seed))
        return row_values((found, placements[-1]))

    stage = "place and route" if routed else "synthesis"
    columns = (*COLUMNS, *(ROUTED_COLUMNS if routed else ()))
    printer.table_as_it_comes("blocks", columns, map(measured, names), len(names), stage)
    if placements:
        printer.say()
        printer.table("paths", PATH_COLUMNS, [row for placement in placements for row in path_rows(placement)])
