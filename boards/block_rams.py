"""Where the block RAMs of a large machine's trits stand: those of one address side by side.

    groups (bank, part), each of one address register ─► columns of a pair of rows ─► attribute BEL of each cell

nextpnr's static placer shortens wire and knows no time, so an address may be 59 columns from one of its sixteen block
RAMs. What is placed here it leaves where it is, and puts the lanes of those trits around it: 335,000 in place of
395,000 of wire on an 85F (docs/decisions/006-block-rams-placed.md). Cost: nothing on the chip; some seconds, to read
and write the netlist.

Sites: Project Trellis, tilegrid of the part: tiles MIB_EBR0, 2, 4 and 6 of each nine columns hold a block RAM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lutern.boards.board import Fpga

LAYOUT = 3
"""To be counted up when `side_by_side` places otherwise: part of a route's digest."""
_TRITS = re.compile(r"top\.memory\.parts\.part_(\d+)_(\d+)\.")


def trit_groups(cells: dict[str, Any]) -> list[list[str]]:
    """Names of the block RAMs of trits, those of one part and bank together; the banks of a part follow each other."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name, cell in cells.items():
        found = _TRITS.match(name)
        if found and cell["type"] == "DP16KD":
            groups.setdefault((int(found[2]), int(found[1])), []).append(name)
    return [sorted(groups[key], key=_numbers) for key in sorted(groups)]


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def side_by_side(fpga: Fpga, groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """nextpnr's BEL for each cell: a group has columns of two neighbouring rows, half of all groups the lower two.
    Beside each block RAM of its first half stands that of the second whose bits are joined with it
    (hw/memory/trit_parts.py).

    A group smaller than the others (the last part of a beat) is left to the placer, its sites stay free, and so do the
    columns that are left between the second and the last third of a row: where few block RAMs can move, two that stand
    in each other's place stay there. Empty where the sites of the part are not known, or do not do.
    """
    columns = [(left + 2 * index, index) for left in fpga.block_ram_columns for index in range(4)]
    upper, lower = fpga.block_ram_rows[:2], fpga.block_ram_rows[2:]
    half, most = -(-len(groups) // 2), max((len(group) for group in groups), default=0)
    pairs = -(-most // 2)
    width = 2 * -(-pairs // 2)
    free = len(columns) - half * width
    if free < 0:
        return {}
    sites = {}
    for rows, chosen in ((lower, groups[:half]), (upper, groups[half:])):
        for index, group in enumerate(chosen):
            first = index * width + (free if index >= 2 * half // 3 else 0)
            for place, name in enumerate(group if len(group) == most else ()):
                second, pair = divmod(place, pairs)
                x, number = columns[first + pair // 2 * 2 + second]
                sites[name] = f"X{x}/Y{rows[pair % 2]}/EBR{number}"
    return sites


def place_block_rams(design: dict[str, Any], fpga: Fpga) -> None:
    """Say in a netlist (yosys' JSON) where its block RAMs of trits stand."""
    cells = design["modules"]["top"]["cells"]
    for name, site in side_by_side(fpga, trit_groups(cells)).items():
        cells[name]["attributes"]["BEL"] = site


__all__ = ["LAYOUT", "place_block_rams", "side_by_side", "trit_groups"]
