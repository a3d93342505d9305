"""Rows of the bench are counted on a small simulated board and equal the cycle model; other figures follow from
them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lutern.boards.build import MANIFEST, REPORT
from lutern.boards.cache import seal
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Session
from lutern.hw.config import HwConfig
from lutern.hw.layouts import check_words
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.measure.bench import (
    BuiltClock,
    built_clock,
    golden_tokens_per_second,
    measure,
    measure_by,
    measure_decode,
    measure_prefill,
)
from lutern.measure.cluster import Workers
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard

SEED = 7
MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEVERAL = preset("tiny").with_(
    name="several",
    rows=5,
    streams=4,
    source="streamed",
    word_bytes=2,
    memory_words=1 << 14,
    gain_fifo_words=256,
    trit_fifo_words=128,
    max_state=256,
)


def opened(config: HwConfig) -> Iterator[Session]:
    with SimulatedBoard(Top(config)) as board:
        yield Session(Client(board), lay_out(integer_weights(random_checkpoint(MODEL, SEED)), config))


@pytest.fixture(scope="module")
def several() -> Iterator[Session]:
    yield from opened(SEVERAL)


def test_prompts_by_workers() -> None:
    """Workers return the rows of one board that runs all prompts, because cycles of a memory on the chip are exact."""
    weights = integer_weights(random_checkpoint(MODEL, SEED))
    assert measure_by(Workers(), SEVERAL, weights, 3) == list(measure(SEVERAL, weights, 3)), f"seed {SEED}"


def test_resident_weights() -> None:
    for session in opened(preset("tiny")):
        row = measure_decode(session, 1)
        assert row.cycles == row.model_cycles, f"seed {SEED}"
        assert row.lane_use == pytest.approx(MODEL.trits / (16 * row.cycles))
        assert row.stream_idle is None
        assert row.tokens_per_second == pytest.approx(row.clock_hz / row.cycles)


def test_prompts_take_the_same_cycles() -> None:
    """No cycle depends on values, so the prompts do not deviate, and a second bench gives the same row. The rate is
    below its bound."""
    for session in opened(preset("tiny")):
        row = measure_decode(session, 1, [0, 5, 11])
        assert row.deviation == 0 and row == measure_decode(session, 1, [0, 5, 11]), f"seed {SEED}"
        assert row.share == pytest.approx(row.lane_use) and row.bound is not None
        assert row.tokens_per_second < row.bound


def keep_build(folder: Path, config: HwConfig, board: str, hz: float) -> None:
    folder.mkdir(parents=True)
    manifest = {"board": board, "clocks_hz": {"sync": float(config.clock_hz)}, "machine_digest": config.digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / REPORT).write_text(json.dumps({"best": {"clocks": [{"domain": "sync", "achieved_hz": hz}]}}))
    seal(folder)


def test_the_clock_of_the_newest_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is that of the newest build of this machine on this board. A damaged build is ignored."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    builds, config = tmp_path / "builds", preset("tiny")
    assert built_clock(config) is None
    keep_build(builds / "one", config.with_(debug_tap=False, cells="ecp5", clock_hz=60_000_000), "ulx3s-25f", 61e6)
    keep_build(builds / "other", preset("sim-64").with_(debug_tap=False, cells="ecp5"), "ulx3s-25f", 90e6)
    (builds / "broken").mkdir()
    (builds / "broken" / MANIFEST).write_text("{")
    assert built_clock(config) == built_clock(config, "ulx3s-25f") == BuiltClock("ulx3s-25f", 61e6)
    assert built_clock(config, "ulx3s-85f") is None
    (builds / "one" / REPORT).write_text("[" * 100_000)
    assert built_clock(config) is None


def test_the_integer_model_is_timed() -> None:
    assert golden_tokens_per_second(integer_weights(random_checkpoint(MODEL, SEED)), 2) > 0


def test_streams_share_the_weights(several: Session) -> None:
    alone, together = measure_decode(several, 1), measure_decode(several, 4)
    assert together.tokens_per_second > 1.5 * alone.tokens_per_second
    assert alone.stream_idle is not None and 0 <= alone.stream_idle < 0.01
    row_bytes = 2 * MODEL.hidden_size + check_words(SEVERAL) * SEVERAL.word_bytes
    assert together.bytes_read == alone.bytes_read + 3 * row_bytes
    assert 0.5 < together.trit_share < alone.trit_share < 1


def test_a_prompt_in_blocks_is_faster(several: Session) -> None:
    one_by_one = measure_decode(several, 1).cycles * 8
    row = measure_prefill(several, 8, 4)
    assert (row.tokens, row.passes) == (8, 2)
    assert row.cycles < one_by_one / 1.5


def test_a_prompt_of_half_a_block_is_refused(several: Session) -> None:
    with pytest.raises(
        LuternError, match=r"^a prompt of 6 tokens is not a multiple of 4 streams; choose a multiple\.$"
    ):
        measure_prefill(several, 6, 4)
