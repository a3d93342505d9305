"""The table of `lutern bench`: the machines that it shows, and the texts of a row."""

from __future__ import annotations

from collections.abc import Callable

from lutern.measure.bench import Row

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
"""Machine and model of each line that is printed if no option is given; "random" is ``measure.bench.LARGE``."""
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
"""Texts of a row by heading. "bytes" are the bytes of a pass. "times" is the speed divided by the first row's speed."""


def cells(model: str, row: Row, first: Row) -> list[str]:
    """Return the texts of a row; ``first`` is the machine's first row, which decodes one stream."""
    times = row.tokens_per_second / first.tokens_per_second
    texts = [f"{times:.2f}" if name == "times" else read(row) for name, read in COLUMNS.items()]
    return [row.preset, model, *texts]


__all__ = ["COLUMNS", "SHOWN", "cells"]
