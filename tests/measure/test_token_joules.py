"""Joules per token by kind of memory: the rows are complete, in order, and equal to values computed by hand."""

from __future__ import annotations

import pytest

from lutern.hw.presets import preset
from lutern.measure.dram import DRAMS
from lutern.measure.estimate import estimate
from lutern.measure.token_joules import ECP5, SHARE, STREAMS, rows
from lutern.model_ref.synthetic import PUBLISHED

ROWS = rows()


def test_every_model_memory_and_number_of_streams() -> None:
    found = [(row.model, row.streams, row.memory.name) for row in ROWS]
    assert found == [(model, streams, kind) for model in PUBLISHED for streams in STREAMS for kind in DRAMS]


def test_together() -> None:
    """Standby and the idle chip use power during the time of a token. Several streams share bytes and time."""
    for row in ROWS:
        parts = (row.token.transport, row.token.standby, row.idle)
        assert row.together.low == pytest.approx(sum(part.low for part in parts)) and row.together.low > 0
        assert row.together.low <= row.together.value <= row.together.high
        assert row.idle.low == pytest.approx(row.chip.watts.low / row.token.tokens_per_second)
    for one in ROWS:
        for eight in ROWS:
            if (one.model, one.memory, one.streams, eight.streams) == (eight.model, eight.memory, 1, 8):
                assert 2 < one.together.value / eight.together.value < 8.01, (one, eight)


def test_the_rates_are_the_estimate_s() -> None:
    """For one stream of 370M, the rate with DDR3 is that of `lutern estimate`. HBM2 delivers a fixed fraction of its
    peak rate."""
    by_kind = {row.memory.name: row for row in ROWS if (row.model, row.streams) == ("370m", 1)}
    ddr3 = by_kind["ddr3"]
    assert ddr3.chip is ECP5 and ddr3.token.tokens_per_second == pytest.approx(8.4, rel=0.01)
    of_hbm2 = estimate(PUBLISHED["370m"], preset("hbm-x4096"), baud=1, share=SHARE)
    assert by_kind["hbm2"].token.tokens_per_second == pytest.approx(of_hbm2.tokens_per_second)
    assert by_kind["hbm2"].token.byte_count == of_hbm2.bytes_read
