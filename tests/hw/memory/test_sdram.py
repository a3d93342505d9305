"""The memory of words in SDRAM, and its march test. tests/sim/test_sdram_board.py tests it with two clocks."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.boards.sdram_parts import SDRAM_PARTS, sdram_part
from lutern.hw.config import HwConfig
from lutern.hw.link import LOWEST_DIVISOR
from lutern.hw.memory import any_part, sdram_memory, source_side
from lutern.hw.memory import march_test as memory_test
from lutern.hw.top import SerialTop, Top
from lutern.model_ref.errors import LuternError
from lutern.sim.runner import run_bench
from lutern.sim.sdram import SOURCE, SdramMemoryBench

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "x16": ("W9825G6KH-6", {"rows": 5, "columns": 4, "word_bytes": 2, "streams": 4}),
    "x32": ("EM638325-6", {"rows": 10, "columns": 4, "word_bytes": 4}),
}


def run_memory(name: str, pause: str, seed: int = 91, testcase: Any = None) -> None:
    part_name, values = CONFIGS[name]
    values = {"memory_words": 128, "codes_per_cycle": 4, "source": "streamed", "memory": "sdram", **values}
    # 4 banks of 4 rows of 8 words, so that every burst is in another page
    timings = (
        sdram_part(part_name)
        .timings(100e6)
        .with_(row_bits=2, column_bits=3, power_up=40, refresh_interval=150, refresh_limit=800)
    )
    run_bench(
        SdramMemoryBench(HwConfig("bench", **values), timings),
        "lutern.sim.benches.sdram_memory",
        seed=seed,
        sources=[SOURCE],
        testcase=testcase,
        parameters={"config": values, "pause": pause, "column_bits": timings.column_bits},
    )


@pytest.mark.parametrize(("name", "pause"), [("x16", "random"), ("x16", "bursty"), ("x32", "alternating")])
def test_sdram_memory(name: str, pause: str) -> None:
    run_memory(name, pause)


@pytest.mark.parametrize(
    ("module", "what", "wrong", "case"),
    [
        (source_side, "ROOM_BURSTS", -8, "writes_while_reading"),
        (
            memory_test,
            "ELEMENTS",
            memory_test.ELEMENTS[:2] + memory_test.ELEMENTS[:1] + memory_test.ELEMENTS[3:],
            "a_march_finds_faults",
        ),
    ],
    ids=["room", "march"],
)
def test_mutation_is_found(module: Any, what: str, wrong: Any, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, what, wrong)
    with pytest.raises(AssertionError, match="seed"):
        run_memory("x16", "bursty", testcase=case)


@pytest.mark.parametrize(
    ("part_name", "group", "wanted", "mib"),
    [
        pytest.param("MT48LC16M16A2-7E", 1, 0.983, 4, marks=pytest.mark.slow),
        pytest.param("MT48LC16M16A2-7E", 8, 0.988, 4, marks=pytest.mark.slow),
        pytest.param("AS4C32M16SB-7", 1, 0.983, 4, marks=pytest.mark.slow),
        ("EM638325-6", 1, 0.983, 1),
    ],
)
def test_share_of_the_peak(part_name: str, group: int, wanted: float, mib: int) -> None:
    """A sequential read loses as many word slots as the formula predicts, except for up to two refreshes."""
    timings = sdram_part(part_name).timings(100e6, group)
    lanes = {"rows": 5, "columns": 4} if timings.data_bits == 16 else {"rows": 10, "columns": 4}
    config = HwConfig(
        "bench",
        **lanes,
        codes_per_cycle=4,
        source="streamed",
        memory="sdram",
        word_bytes=timings.data_bits // 8,
        memory_words=1 << 21,
    )
    run_bench(
        SdramMemoryBench(config, timings),
        "lutern.sim.benches.sdram_stream",
        sources=[SOURCE],
        parameters={
            "setup": config.memory_words,
            "cycles": (mib << 20) // config.word_bytes,
            "refresh_loss": timings.refresh_loss,
            "wanted": wanted,
            "group_cycles": timings.rp + group * timings.rfc + timings.rcd,
        },
    )


def test_bad_input() -> None:
    config = HwConfig("wide", rows=10, columns=4, source="streamed", memory="sdram", word_bytes=4, memory_words=1 << 22)
    with pytest.raises(LuternError, match="of 4 bytes, but the memory part is 16 bits wide; choose a preset of 2-byte"):
        sdram_memory(config, any_part(16))
    with pytest.raises(LuternError, match="has 4,194,304 words of memory, but the memory part has 2,097,152; choose"):
        sdram_memory(config, any_part(32))
    wide = config.with_(word_bytes=8, columns=16)
    for make in (Top, lambda config: SerialTop(config, LOWEST_DIVISOR)):
        with pytest.raises(
            LuternError,
            match=r"^words of 64 bits are wanted of an SDR SDRAM, whose parts have 16 or 32; choose word_by",
        ):
            make(wide)
    assert Top(wide.with_(memory="block")).timings is None


@pytest.mark.parametrize("name", SDRAM_PARTS)
def test_timings_for_any_part(name: str) -> None:
    theirs = sdram_part(name).timings(100e6)
    ours = any_part(theirs.data_bits)
    assert all(
        getattr(ours, field) >= getattr(theirs, field)
        for field in ("rc", "ras", "rp", "rcd", "rrd", "rfc", "wr", "mrd", "cas_latency", "power_up")
    )
    assert ours.refresh_interval <= theirs.refresh_interval
    assert ours.row_bits == theirs.row_bits and ours.column_bits <= theirs.column_bits
