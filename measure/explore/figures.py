"""Writes the result of a search: the front as CSV and JSON, a picture with its data, and the chosen machine."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lutern.hw.machines import Machine, machine_text
from lutern.measure import pictures
from lutern.measure.explore.judge import Judged
from lutern.measure.explore.route import Routed
from lutern.measure.explore.search import Found
from lutern.measure.figures import Drawing, write_all
from lutern.measure.pictures import Searched
from lutern.measure.provenance import Facts
from lutern.model_ref.output_files import write_whole

MACHINE = "machine.toml"
PICTURE = "pareto"
_ROUTED = ("achieved_hz", "met", "luts", "ff", "block_rams", "multipliers", "tokens_per_second", "seconds", "failed")


def records(found: Found) -> list[dict[str, Any]]:
    """Return the machines of the front, with the measured figures of routed machines."""
    routed = {one.digest: one for one in found.routed}
    rows = []
    for one in found.front:
        built = routed.get(one.digest)
        measured = {f"routed_{name}": getattr(built, name) if built else None for name in _ROUTED}
        rows.append({**asdict(one), **measured})
    return rows


def drawing(found: Found) -> Drawing:
    """Return the picture of all machines that were judged, and its data."""
    front = {one.digest for one in found.front}
    routed = {one.digest: one for one in found.routed if not one.failed}
    machines = [_searched(one, one.digest in front, routed.get(one.digest)) for one in found.judged.values()]
    names = [field.name for field in fields(Searched) if field.name != "routed"]
    rows = tuple((*(getattr(one, name) for name in names), *(one.routed or (None, None))) for one in machines)
    target = found.question.target
    return Drawing(
        PICTURE,
        lambda: pictures.pareto(machines, (target.luts, target.block_rams)),
        (*names, "routed_luts", "routed_tokens_per_second"),
        rows,
    )


def _searched(one: Judged, on_front: bool, built: Routed | None) -> Searched:
    measured = (float(built.luts), built.tokens_per_second) if built else None
    rate = one.tokens_per_second
    return Searched(
        one.name, one.memory, rate, one.luts, one.block_rams, one.joules_low, one.joules_high, on_front, measured
    )


def write_files(found: Found, machine: Machine, folder: Path, facts: Facts) -> list[Path]:
    """Write all files and return their paths."""
    rows, text = records(found), io.StringIO()
    lines = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)
    write_whole(folder / "front.csv", text.getvalue())
    write_whole(folder / "front.json", json.dumps({"about": dict(facts), "front": rows}, indent=1) + "\n")
    says = "".join(f"# {name}: {value}\n" for name, value in facts)
    write_whole(folder / MACHINE, says + machine_text(machine))
    write_all([drawing(found)], folder, facts)
    names = ("front.csv", "front.json", MACHINE, *(f"{PICTURE}.{kind}" for kind in ("svg", "pdf", "png", "csv")))
    return [folder / name for name in names]


__all__ = ["MACHINE", "PICTURE", "drawing", "records", "write_files"]
