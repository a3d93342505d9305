"""The kept rows of AXI4 machines are complete, belong to existing machines, and equal the cycle model."""

from __future__ import annotations

import pytest

from lutern.firmware.limits import check_fit, sizes_of
from lutern.hw.presets import PRESETS, preset
from lutern.measure.axi_rates import NAMES, STREAMS, AxiRow, find, machine, make, rows
from lutern.measure.word_rate import pass_cycles
from lutern.model_ref.synthetic import PUBLISHED

QUICK = ("hbm-x4096", "370m", 1)
"""The row whose cycle model takes only a second."""


def test_every_machine_model_and_number_of_streams() -> None:
    assert {name for name, config in PRESETS.items() if config.memory == "axi"} == set(NAMES)
    found = [(row.preset, row.model, row.streams) for row in rows()]
    assert found == [(name, model, streams) for model in PUBLISHED for name in NAMES for streams in STREAMS]


def test_words_are_those_of_the_machine() -> None:
    """The words of a row are those of its machine, and each machine has room for its model and the states of all
    streams."""
    for row in rows():
        check_fit(PUBLISHED[row.model], row.config)
        assert row.words == sizes_of(PUBLISHED[row.model], row.config).pass_words(row.streams), row
        assert row.words <= row.cycles, row


def test_rates() -> None:
    """1.3B has 4.08 million words. If the memory delivers 0.9 of the words, the machine waits for it. With 8 streams of
    370M the machine does not wait."""
    row = find("axi-x512", "1.3b", 1)
    assert row.rate(300e6) == pytest.approx(300e6 / 4.0827e6, rel=1e-3)
    assert row.rate(100e6, 0.9) == pytest.approx(0.9 * 100e6 / 4.0823e6, rel=1e-3)
    narrow = find("axi-x512", "370m", 8)
    assert narrow.rate(1e8, 0.8) == narrow.rate(1e8) == pytest.approx(8e8 / narrow.cycles)
    for share in (0.8, 1.0):
        cycles = pass_cycles(row.config, row.cycles, row.words, share)
        assert row.rate(300e6, share) == pytest.approx(300e6 / cycles)


def test_the_preset_is_used_where_the_model_fits() -> None:
    assert machine("axi-x512", "2.7b", 1) == (preset("axi-x512"), ())
    changes = ("max_width=6912", "max_state=81920", f"memory_words={2 * preset('axi-x256').memory_words}")
    assert machine("axi-x256", "2.7b", 1)[1] == changes


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=() if (row.preset, row.model, row.streams) == QUICK else pytest.mark.slow)
        for row in rows()
    ],
    ids=lambda row: f"{row.preset}-{row.model}-{row.streams}",
)
def test_cycles_equal_the_model(row: AxiRow) -> None:
    assert make(row.preset, row.model, row.streams) == row, "make them again: python -m lutern.measure.axi_rates"
