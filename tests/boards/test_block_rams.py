"""Block RAMs of a large machine's trits: block RAMs with the same address register are adjacent, on sites of the
part."""

from __future__ import annotations

import re
from itertools import pairwise

from lutern.boards.block_rams import place_block_rams, side_by_side, trit_groups
from lutern.boards.board import FPGAS

PART = FPGAS["LFE5U-85F"]


def netlist(banks: int, parts: int, most: int) -> dict:
    """Return a netlist with block RAMs as yosys names them, in random order, with logic of a part and another
    memory."""
    cells = {
        f"top.memory.parts.part_{bank}_{part}.{item}.0": {"type": "DP16KD", "attributes": {"src": "x"}}
        for item in reversed(range(most))
        for part in range(parts)
        for bank in range(banks)
    }
    cells |= {
        "top.memory.parts.part_0_0.0.0_DOA_LUT4": {"type": "LUT4", "attributes": {}},
        "top.memory.memory.0.0": {"type": "DP16KD", "attributes": {}},
    }
    return {"modules": {"top": {"cells": cells}}}


def places(sites: dict[str, str]) -> dict[str, tuple[int, int, int]]:
    found = {name: re.fullmatch(r"X(\d+)/Y(\d+)/EBR(\d)", site) for name, site in sites.items()}
    return {name: (int(at[1]), int(at[2]), int(at[3])) for name, at in found.items() if at}


def test_sites_of_the_part() -> None:
    """The number of block RAMs of the part follows from its rows and columns of sites."""
    sites = [
        (left + 2 * number, row)
        for left in PART.block_ram_columns
        for row in PART.block_ram_rows
        for number in range(4)
    ]
    assert len(set(sites)) == PART.block_rams
    assert all(right - left in (9, 11) for left, right in pairwise(PART.block_ram_columns))


def test_block_rams_of_a_group_are_adjacent() -> None:
    """For two banks of six parts of 16 block RAMs, no site is used twice, and each group is on adjacent columns."""
    groups = trit_groups(netlist(2, 6, 16)["modules"]["top"]["cells"])
    assert len(groups) == 12
    assert groups[1] == [f"top.memory.parts.part_1_0.{item}.0" for item in range(16)]
    at = places(side_by_side(PART, groups))
    assert len(at) == len(set(at.values())) == 192
    for group in groups:
        columns, rows = {at[name][0] for name in group}, {at[name][1] for name in group}
        assert rows in ({22, 46}, {70, 82})
        assert max(columns) - min(columns) <= 20
    for x, row, number in at.values():
        assert x - 2 * number in PART.block_ram_columns
        assert row in PART.block_ram_rows


def test_smaller_group_is_left_to_the_placer() -> None:
    """If the last part of a beat is smaller, the other groups have the same sites as with a whole last part."""
    whole = trit_groups(netlist(2, 6, 16)["modules"]["top"]["cells"])
    sites = side_by_side(PART, whole)
    cut = [group if ".part_0_5." not in group[0] else group[:12] for group in whole]
    left_out = {name for name in sites if ".part_0_5." in name}
    assert len(left_out) == 16
    assert side_by_side(PART, cut) == {name: site for name, site in sites.items() if name not in left_out}


def test_places_are_in_the_netlist() -> None:
    """Only block RAMs of trits get a place, and they keep their other attributes."""
    design = netlist(1, 3, 5)
    place_block_rams(design, PART)
    cells = design["modules"]["top"]["cells"]
    placed = {name for name, cell in cells.items() if "BEL" in cell["attributes"]}
    assert placed == {name for group in trit_groups(cells) for name in group}
    assert cells["top.memory.parts.part_0_2.4.0"]["attributes"]["src"] == "x"


def test_nothing_is_placed_where_it_does_not_fit() -> None:
    """No block RAM is placed if the sites of the part are not listed, or if there are too many block RAMs."""
    groups = trit_groups(netlist(2, 6, 16)["modules"]["top"]["cells"])
    assert side_by_side(FPGAS["LFE5U-25F"], groups) == {}
    assert side_by_side(PART, trit_groups(netlist(2, 7, 16)["modules"]["top"]["cells"])) == {}
    assert side_by_side(PART, []) == {}
