"""Writes figures as files: each as SVG, PDF or PNG, with its data as CSV in the same folder.

    Token, roofs, bars ─► Drawing: picture, headings, rows ─► NAME.svg │ .pdf │ .png, and NAME.csv

A CSV contains the numbers that are drawn, without units and separators. The metadata of a picture contain its origin
(provenance.py).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lutern.hw.protocol import COUNTER_NAMES
from lutern.measure import pictures
from lutern.measure.phases import Token
from lutern.measure.pictures import Bar, Roof
from lutern.measure.provenance import Facts
from lutern.model_ref.output_files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
PNG_DPI = 200
"""A figure of 8 inches is 1,600 pixels wide."""
Cell = str | int | float | None


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn, and the numbers in it."""

    name: str
    draw: Callable[[], Figure]
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def svg(self) -> str:
        """Return the picture as an element of a page."""
        return pictures.to_svg(self.draw(), self.name)

    def csv(self) -> str:
        """Return the numbers."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(self.headings)
        lines.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue()

    def picture(self, kind: str, facts: Facts) -> bytes:
        """Return the picture as a file of one of ``FORMATS``. Equal numbers and facts give equal bytes."""
        matplotlib = pictures.require_matplotlib()
        says = "; ".join(f"{name}: {value}" for name, value in facts)
        metadata: dict[str, dict[str, Any]] = {
            "svg": {"Date": None, "Creator": None, "Title": self.name, "Description": says},
            "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": self.name, "Subject": says},
            "png": {"Software": None, "Title": self.name, "Description": says},
        }
        settings = {"svg.fonttype": "none", "svg.hashsalt": self.name, "font.size": pictures.FONT_SIZE}
        file = io.BytesIO()
        with matplotlib.rc_context({**settings, "font.family": "sans-serif", "pdf.fonttype": 42}):
            self.draw().savefig(file, format=kind, metadata=metadata[kind], dpi=PNG_DPI)
        return file.getvalue()


def timeline(token: Token) -> Drawing:
    """Return the timeline: cycles of lanes and record stream in each phase, by their work."""
    rows = [
        (phase.part, phase.name, phase.cycles, phase.model_cycles, *(phase.counts[name] for name in COUNTER_NAMES))
        for phase in token.phases
    ]
    headings = ("part", "phase", "cycles", "model_cycles", *COUNTER_NAMES)
    return Drawing("timeline", lambda: pictures.timeline(token), headings, tuple(rows))


def layers(token: Token) -> Drawing:
    """Return the cycles of each layer by cause."""
    rows: list[tuple[Cell, ...]] = [
        (part, *(counts[name] for name in COUNTER_NAMES)) for part, counts in token.parts.items()
    ]
    return Drawing("layers", lambda: pictures.layers(token), ("part", *COUNTER_NAMES), tuple(rows))


def energy(name: str, bars: Sequence[Bar], label: str) -> Drawing:
    """Return a picture with one bar per layer. ``label`` contains the unit."""
    rows = [(bar.name, bar.value, bar.low, bar.high) for bar in bars]
    headings = ("part", label.partition(",")[0], "low", "high")
    return Drawing(name, lambda: pictures.energy(bars, label), headings, tuple(rows))


def roofline(roofs: Sequence[Roof]) -> Drawing:
    """Return a roofline: each machine below its bounds."""
    rows = [
        (roof.name, roof.trits_per_byte, roof.trits_per_second, roof.lanes_per_second, roof.bytes_per_second)
        for roof in roofs
    ]
    headings = ("machine", "trits_per_byte", "trits_per_second", "lanes_per_second", "bytes_per_second")
    return Drawing("roofline", lambda: pictures.roofline(roofs), headings, tuple(rows))


def write_drawing(drawing: Drawing, path: Path, facts: Facts) -> list[Path]:
    """Write a picture in the format that the ending of ``path`` names, and its data as CSV. Return both paths."""
    data = path.with_suffix(".csv")
    write_whole(path, drawing.picture(path.suffix[1:], facts))
    write_whole(data, drawing.csv())
    return [path, data]


def write_all(drawings: Sequence[Drawing], folder: Path, facts: Facts) -> int:
    """Write each drawing into a folder, in every format and as data; return the number of files."""
    for drawing in drawings:
        for kind in FORMATS:
            write_whole(folder / f"{drawing.name}.{kind}", drawing.picture(kind, facts))
        write_whole(folder / f"{drawing.name}.csv", drawing.csv())
    return len(drawings) * (len(FORMATS) + 1)


__all__ = ["FORMATS", "Drawing", "energy", "layers", "roofline", "timeline", "write_all", "write_drawing"]
