"""Places the block RAMs of a large machine's trits, such that block RAMs that share an address register are adjacent.

    groups (bank, part), each with one address register ─► columns of a pair of rows ─► attribute BEL of each cell

nextpnr's static placer minimises wire length and ignores timing, so an address register may be 59 columns away from one
of its sixteen block RAMs. The placer does not move the block RAMs that are placed here, and puts the lanes around the
block RAMs of their trits. This shortens the wires on an 85F from 395,000 to 335,000 units of nextpnr
(docs/decisions/006-block-rams-placed.md). The placement costs nothing on the chip. To read and write the netlist takes
some seconds.

The sites are from Project Trellis, tilegrid of the FPGA: in every nine columns, each of the tiles MIB_EBR0, 2, 4 and 6
contains one block RAM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lutern.boards.board import Fpga

LAYOUT = 3
"""A number in the digest of a route. Increase this number when `side_by_side` places differently."""
_TRITS = re.compile(r"top\.memory\.parts\.part_(\d+)_(\d+)\.")


def trit_groups(cells: dict[str, Any]) -> list[list[str]]:
    """Return the names of the block RAMs of trits, grouped by part and bank. The banks of a part follow each other."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name, cell in cells.items():
        found = _TRITS.match(name)
        if found and cell["type"] == "DP16KD":
            groups.setdefault((int(found[2]), int(found[1])), []).append(name)
    return [sorted(groups[key], key=_numbers) for key in sorted(groups)]


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", name)]


def side_by_side(fpga: Fpga, groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return nextpnr's BEL for each cell.

    A group takes columns of two neighbouring rows, and half of all groups take the lower two rows. Each block RAM of a
    group's first half is next to the block RAM of the second half whose bits are joined with its bits
    (hw/memory/trit_parts.py).

    A group that is smaller than the other groups (the last part of a beat) is left to the placer, and its sites stay
    free. The remaining columns, between the second and the last third of a row, also stay free. The placer needs free
    sites, because it never exchanges two block RAMs if only few block RAMs can move.

    The result is empty if the sites of the FPGA are not known, or if there are too few sites.
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
    """Write the places of the block RAMs of trits into a netlist (yosys' JSON)."""
    cells = design["modules"]["top"]["cells"]
    for name, site in side_by_side(fpga, trit_groups(cells)).items():
        cells[name]["attributes"]["BEL"] = site


__all__ = ["LAYOUT", "place_block_rams", "side_by_side", "trit_groups"]
