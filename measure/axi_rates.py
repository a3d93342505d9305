"""Tokens/s of the released models on the machines with AXI4, by clock and by the fraction of the memory's peak rate.

    PUBLISHED, preset, streams ─► machine() ─► cycle model ─► axi_cycles.json      python -m lutern.measure.axi_rates
    cycles, words of a row ─► max(cycles, words / share) ─► tokens/s at any clock

``share`` is the mean number of words that the memory returns per cycle of the machine's clock. If ``share`` is 1.0, a
pass takes the cycles of the cycle model. If it is less, a pass takes the larger of cycles and words / share, because
the FIFOs store the words that arrive during a barrier (``word_rate.py``). The ``share`` of a DDR4 or an HBM2 was not
measured, and no machine with these memories was placed and routed.

The cycle model takes 1 to 40 s per row, and minutes for all rows. So the rows are kept in a file, and a test computes
some of the rows again.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from lutern.firmware.limits import sizes_of
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.cycles import token_cycles
from lutern.model_ref.output_files import write_whole
from lutern.model_ref.synthetic import PUBLISHED

FILE = Path(__file__).with_name("axi_cycles.json")
NAMES = ("axi-x128", "axi-x256", "axi-x512", "hbm-x4096")
STREAMS = (1, 8)
CLOCKS = (100e6, 200e6, 300e6)
SHARES = (0.8, 0.9, 1.0)


@dataclass(frozen=True)
class AxiRow:
    """The ``cycles`` (by the cycle model) and ``words`` read of a pass, which computes ``streams`` tokens of
    ``model``."""

    preset: str
    model: str
    streams: int
    cycles: int
    words: int

    def rate(self, clock_hz: float, share: float = 1.0) -> float:
        """Return the tokens/s of all streams together, if the memory returns ``share`` words per cycle."""
        return self.streams * clock_hz / max(self.cycles, math.ceil(self.words / share))

    @property
    def config(self) -> HwConfig:
        """The machine of this row."""
        return machine(self.preset, self.model, self.streams)[0]


def machine(name: str, model: str, streams: int) -> tuple[HwConfig, tuple[str, ...]]:
    """Return the machine of a row, and the fields ("name=value") in which it differs from the preset, possibly none."""
    base, model_config = preset(name), PUBLISHED[model]
    width, state = max(model_config.hidden_size, model_config.intermediate_size), model_config.num_hidden_layers
    changes: dict[str, int | str] = {}
    if width > base.max_width:
        changes |= {"max_width": width, "max_state": state * model_config.hidden_size}
        changes["memory_words"] = 2 * base.memory_words
    if streams > 1:
        changes |= {"streams": streams, "state": "memory"}
    return base.with_(**changes), tuple(f"{field}={value}" for field, value in changes.items())


def make(name: str, model: str, streams: int) -> AxiRow:
    """Compute a row with the cycle model."""
    config = machine(name, model, streams)[0]
    cycles = token_cycles(PUBLISHED[model], config, streams).cycles
    return AxiRow(name, model, streams, cycles, sizes_of(PUBLISHED[model], config).pass_words(streams))


@lru_cache(maxsize=1)
def rows() -> tuple[AxiRow, ...]:
    """Return the rows that the file contains."""
    return tuple(AxiRow(**row) for row in json.loads(FILE.read_text()))


def find(name: str, model: str, streams: int) -> AxiRow:
    """Return the row of the file for a preset, a model and a number of streams; there must be one."""
    [row] = [row for row in rows() if (row.preset, row.model, row.streams) == (name, model, streams)]
    return row


def main() -> None:
    """Compute all rows and write the file."""
    made = [make(name, model, streams) for model in PUBLISHED for name in NAMES for streams in STREAMS]
    lines = ",\n".join(json.dumps(asdict(row)) for row in made)
    write_whole(FILE, f"[\n{lines}\n]\n")
    print(f"{len(made)} rows in {FILE}")


__all__ = ["CLOCKS", "NAMES", "SHARES", "STREAMS", "AxiRow", "find", "machine", "make", "rows"]

if __name__ == "__main__":
    main()
