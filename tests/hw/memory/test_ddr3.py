"""The memory of words in DDR3."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.boards.ddr3_parts import ddr3_part
from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, ddr3_memory
from lutern.model_ref.errors import LuternError
from lutern.sim.ddr3 import SOURCE, Ddr3MemoryBench
from lutern.sim.runner import run_bench

VALUES: dict[str, Any] = {
    "rows": 10,
    "columns": 8,
    "codes_per_cycle": 8,
    "source": "streamed",
    "memory": "port",
    "word_bytes": 16,
    "memory_words": 128,
}


def timings(**changes: int) -> Ddr3Timings:
    """Return timings of a part with 8 banks of 2 rows of 8 words, in which every burst has its own page."""
    small = {"row_bits": 1, "column_bits": 6, "reset_low": 20, "wake": 20, "zq_init": 40, "dll_lock": 40}
    refresh = {"refi": 396, "refresh_interval": 197, "refresh_limit": 12 * 396}
    return ddr3_part("MT41K256M16").timings(75e6, 2).with_(**{**small, **refresh, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("pause", ["random", "bursty", "alternating"])
def test_ddr3_memory(pause: str) -> None:
    run_bench(
        Ddr3MemoryBench(HwConfig("bench", **VALUES), timings()),
        "lutern.sim.benches.ddr3_memory",
        seed=93,
        sources=[SOURCE],
        parameters={"config": VALUES, "pause": pause},
    )


def test_bad_input() -> None:
    with pytest.raises(
        LuternError, match=r"bench has words of 8 bytes, but a burst of the memory part has 16; choose a pr"
    ):
        ddr3_memory(HwConfig("bench", **{**VALUES, "word_bytes": 8, "rows": 5}), timings())
    with pytest.raises(
        LuternError, match=r"bench has 256 words of memory, but the memory part has 128; choose a smaller"
    ):
        ddr3_memory(HwConfig("bench", **{**VALUES, "memory_words": 256}), timings())
