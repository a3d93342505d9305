"""`lutern cost`: what each block costs on ECP5, and a lane. The work is done by lutern.measure, this prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Annotated

import typer

from lutern.boards.report import signal_of
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import SHIPPED, open_model
from lutern.cli.numbers import whole
from lutern.cli.table import print_as_they_come
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure.check_cost import CheckCost, measure_check
from lutern.measure.cost import BLOCKS, Cost, Placement, measure_cost, measure_placement
from lutern.measure.lanes import SHAPES, LaneRow, measure_row
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

LANES = "lanes"
CHECK = "check"
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


PATH_COLUMNS = ("slowest path of", "signal", "ns")


def path_rows(placement: Placement) -> list[list[str]]:
    """The slowest path of a block, from one flip-flop to another; steps that one signal is named after are a row."""
    return [
        [placement.block, signal, f"{sum(hop.delay_ns for hop in hops):.2f}"]
        for signal, hops in groupby(placement.path, key=lambda hop: signal_of(hop.name))
    ]


LANE_COLUMNS: dict[str, Callable[[LaneRow], object]] = {
    "lanes": lambda row: row.folded.lanes,
    "rows x columns": lambda row: "{} x {}".format(*SHAPES[row.folded.lanes]),
    "LUT4/lane": lambda row: f"{row.folded.lut4:.1f}",
    "FF/lane": lambda row: f"{row.folded.ff:.1f}",
    "MHz": lambda row: f"{row.folded.fmax_hz / 1e6:.0f}",
    "a stream more": lambda row: "-" if row.stream_lut4 is None else f"{row.stream_lut4:.1f}",
    "decoder": lambda row: f"{row.folded.decoder_lut4:.1f}",
    "tree LUT4/lane": lambda row: f"{row.tree.lut4:.1f}" if row.tree else "-",
    "tree FF/lane": lambda row: f"{row.tree.ff:.1f}" if row.tree else "-",
    "tree MHz": lambda row: f"{row.tree.fmax_hz / 1e6:.0f}" if row.tree else "-",
    "seed": lambda row: row.folded.seed,
}
"""``a stream more``: LUT4 a lane of the second of two streams; ``decoder``: LUT4 a trit, in no other column."""


CHECK_COLUMNS: dict[str, Callable[[CheckCost], object]] = {
    "LUT4": lambda row: row.cost.lut4,
    "CCU2C": lambda row: row.cost.ccu2c,
    "comb": lambda row: row.cost.comb,
    "FF": lambda row: row.cost.ff,
    "DP16KD": lambda row: row.cost.block_rams,
    "model": lambda row: row.model,
    "words": lambda row: f"{row.words:,}",
    "of checks": lambda row: f"{row.added:,}",
    "share of bytes": lambda row: f"{row.share:.3%}",
}
"""``words`` of a token of the model, those ``of checks``, and their share of the bytes that it would read without."""


def check_rows(machines: list[HwConfig]) -> Iterator[list[str]]:
    """What the check of weights costs each of these machines."""
    models = {"370m": PUBLISHED["370m"], **{name: open_model(name).config for name in SHIPPED}}
    for config in machines:
        row = measure_check(config, models)
        if row is None:
            raise LuternError(f"{config.name} holds none of {', '.join(models)}; choose a machine that does.")
        yield [config.name, *(str(read(row)) for read in CHECK_COLUMNS.values())]


def cost(
    blocks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BLOCK]...",
            help=f"All if none: {', '.join(BLOCKS)}. Or {LANES}: what a lane costs, "
            f"by their number, folded and as a tree, placed and routed. Or {CHECK}: what the check of weights costs, "
            "in cells and in words of a token.",
        ),
    ] = None,
    preset_name: Annotated[str, preset_option(f"{DEFAULT}, for {CHECK} all that hold a model")] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    routed: Annotated[bool, typer.Option("--routed", help="Place and route too, on an LFE5U-85F-6.")] = False,
    seed: Annotated[int, whole("--seed", least=1, most=(1 << 31) - 1, help="Of the placer.")] = 1,
    most_lanes: Annotated[
        int, whole("--most-lanes", least=min(SHAPES), most=max(SHAPES), help=f"{LANES}: up to so many.")
    ] = max(SHAPES),
) -> None:
    """Print what blocks cost on ECP5, each synthesised alone; comb is LUT4 + 2 CCU2C + 6 DPR16X4."""
    given = given_machine(preset_name, settings, machine_file)
    if blocks == [LANES]:
        counts = [lanes for lanes in SHAPES if lanes <= most_lanes]
        texts = ([str(read(row)) for read in LANE_COLUMNS.values()] for row in (measure_row(n, seed) for n in counts))
        print_as_they_come(list(LANE_COLUMNS), texts, len(counts), "place and route", left=())
        return
    if blocks == [CHECK]:
        machines = [given.config] if given else [config for config in PRESETS.values() if config.name != "tiny"]
        print_as_they_come(["preset", *CHECK_COLUMNS], check_rows(machines), len(machines), "synthesis")
        return
    config = given.config if given else preset(DEFAULT)
    names = blocks or list(BLOCKS)
    for name in names:
        if name not in BLOCKS:
            raise LuternError(
                f"there is no block {name}; choose among {', '.join(BLOCKS)}, or {LANES} or {CHECK} alone."
            )
    placements: list[Placement] = []

    def measured(name: str) -> list[str]:
        found = measure_cost(name, config)
        if not routed:
            return cells((found, None))
        placements.append(measure_placement(name, config, seed))
        return cells((found, placements[-1]))

    stage = "place and route" if routed else "synthesis"
    print_as_they_come(headings(routed), map(measured, names), len(names), stage)
    if placements:
        print()
        rows = [row for placement in placements for row in path_rows(placement)]
        print_as_they_come(list(PATH_COLUMNS), rows, len(rows), stage, left=("signal",))
