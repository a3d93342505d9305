"""Draws a floorplan: nextpnr's placement of each part of the machine as a picture.

    placed.json ─► cells: hierarchical name, BEL "X12/Y34/SLICEA.K0" ─► tiles ─► SVG, with a legend

A tile has the colour of the part that has the most cells in it, and a fuller tile is darker. The legend counts the
LUTs of each part. Block RAMs and multipliers have dark frames. Y grows downwards, as in nextpnr's own pictures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

SCALE = 8
"""Width and height of a tile in pixels."""
_FULL = 16
"""Number of cells of a full tile of logic: four slices of two LUTs and two flip-flops."""
_BEL = re.compile(r"X(\d+)/Y(\d+)/(.+)")
_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
    "#003f5c",
    "#ffa600",
    "#665191",
    "#488f31",
    "#a05195",
    "#00876c",
)
_GREY = "#7f7f7f"
_REST = "other"


def part_of(name: str) -> str:
    """Return the part of the machine to which a cell belongs, from the hierarchical name of the cell."""
    path = [re.sub(r"\$\d+$", "", item) for item in name.split(".")]
    if path[0].startswith("$"):
        return _REST
    if path[0] != "top" or len(path) < 3:
        return "board"
    return path[2] if path[1] == "decoder" and len(path) > 3 else path[1]


def _placed(design: dict[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Yield part, type, column and row of every cell in nextpnr's ``--write``."""
    for name, cell in design["modules"]["top"]["cells"].items():
        found = _BEL.fullmatch(cell["attributes"].get("NEXTPNR_BEL", ""))
        if found:
            yield part_of(name), cell["type"], int(found[1]), int(found[2])


def draw_floorplan(design: dict[str, Any], title: str) -> str:
    """Return the picture, as SVG."""
    cells = list(_placed(design))
    sizes = Counter(part for part, kind, _, _ in cells if kind == "TRELLIS_COMB")
    colours = dict(zip((part for part, _ in sizes.most_common() if part != _REST), _COLOURS, strict=False))
    cells = [(part if part in colours else _REST, kind, column, row) for part, kind, column, row in cells]
    counts = Counter(part for part, kind, _, _ in cells if kind == "TRELLIS_COMB")
    colours[_REST] = _GREY
    parts = [*colours]
    tiles: dict[tuple[int, int], Counter[str]] = {}
    blocks = []
    for part, kind, column, row in cells:
        if kind in ("DP16KD", "MULT18X18D"):
            blocks.append((part, column, row))
        elif kind in ("TRELLIS_COMB", "TRELLIS_FF"):
            tiles.setdefault((column, row), Counter())[part] += 1
    columns = 2 + max(column for _, _, column, _ in cells)
    rows = 2 + max(row for _, _, _, row in cells)
    width, height = columns * SCALE + 260, max(rows * SCALE, 20 * (len(parts) + 2)) + 30
    shapes = [f'<rect x="0" y="30" width="{columns * SCALE}" height="{rows * SCALE}" fill="#f4f4f4"/>']
    for (column, row), inside in sorted(tiles.items()):
        part = inside.most_common(1)[0][0]
        shapes.append(
            _rect(column, row, colours[part], f'fill-opacity="{min(1.0, 0.25 + 0.75 * inside.total() / _FULL):.2f}"')
        )
    shapes += [_rect(column, row, colours[part], 'stroke="black" stroke-width="1.5"') for part, column, row in blocks]
    for index, part in enumerate(parts):
        x, y = columns * SCALE + 16, 40 + 20 * index
        shapes.append(
            f'<rect x="{x}" y="{y}" width="14" height="14" fill="{colours[part]}"/>'
            f'<text x="{x + 22}" y="{y + 12}">{escape(part)}: {counts[part]:,} LUT</text>'
        )
    text = "\n".join(shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="8" y="20" font-size="15">{escape(title)}</text>\n{text}\n</svg>\n'
    )


def _rect(column: int, row: int, colour: str, style: str) -> str:
    return (
        f'<rect x="{column * SCALE}" y="{30 + row * SCALE}" width="{SCALE - 1}" height="{SCALE - 1}" '
        f'fill="{colour}" {style}/>'
    )
