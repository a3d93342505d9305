"""Estimates beside what the RTL, the program and the synthesis say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lutern.boards.catalog import BOARDS
from lutern.firmware.program import lay_out
from lutern.hw.config import PRESETS, preset
from lutern.measure import samples
from lutern.measure.estimate import DEVICES, device_tokens_per_second, estimate
from lutern.measure.resources import errors, fit, predict, resources
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
BAUD = 3_000_000


@pytest.mark.parametrize("name", PRESETS)
def test_bytes_and_bound(name: str) -> None:
    """Bytes are those of a program that is laid out; no machine is faster than its bound, and what its FIFOs held."""
    config = preset(name)
    found = estimate(MODEL, config, baud=BAUD)
    program = lay_out(integer_weights(random_checkpoint(MODEL, 4)), config)
    assert (found.bytes_read, found.trits) == (program.bytes_per_token, program.trits)
    ahead = 0 if config.source == "resident" else config.trit_fifo_words + config.gain_fifo_words
    assert 0 < found.share <= 1 + ahead * config.word_bytes / found.bytes_read
    if config.memory == "host":
        assert found.cycles is None and found.bound == pytest.approx(BAUD / 10 / program.bytes_per_token)


def test_resources_of_machines_that_were_not_fitted_to() -> None:
    """LUT and FF on 12 machines that the formula has not seen; multipliers and block RAM exact on all."""
    others = errors("check")
    assert others.machines >= 12 and others.luts <= 0.07 and others.ff <= 0.06, others
    for row in samples.read():
        found = resources(row.config)
        assert (found.multipliers, found.block_rams) == (row.multipliers, row.block_rams), row.config.name


def test_rows_are_of_the_machines_that_there_are() -> None:
    rows = [(row.use, row.config) for row in samples.read()]
    assert sorted(rows, key=lambda row: row[1].name) == sorted(samples.machines(), key=lambda row: row[1].name)


@pytest.mark.parametrize("name", sorted({name for board in BOARDS.values() for name in board.presets}))
def test_placed_luts_of_a_preset_that_is_left_out(name: str) -> None:
    """A board's. Within 10 % of what nextpnr packs, by coefficients and a factor that have not seen the machine."""
    [row] = [row for row in samples.read() if row.use == "preset" and row.config.name == name]
    rest = [other for other in samples.read() if other.config.name != name]
    fitted = fit([other for other in rest if other.use != "check"])["luts"]
    factor = float(np.median([other.placed / other.comb for other in rest if other.placed]))
    assert row.placed > row.comb
    assert predict(fitted, row.config) * factor == pytest.approx(row.placed, rel=0.10)


def test_builds_of_the_readme() -> None:
    """LUT within 10 % of what the bitstreams took, block RAM and multipliers equal."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rows = re.findall(
        r"\| ULX3S \w+ \| ([\w-]+) \| \d+ \| ([\d,]+) \(\d+ %\) \| [\d,]+ \| (\d+) of \d+ \| (\d+) \|", readme
    )
    assert len(rows) >= 3
    for name, luts, block_rams, multipliers in rows:
        found = resources(preset(name))
        assert found.placed_luts == pytest.approx(int(luts.replace(",", "")), rel=0.10), name
        assert (found.block_rams, found.multipliers) == (int(block_rams), int(multipliers)), name


def test_a_device_is_no_faster_than_memory_and_lanes() -> None:
    """Two thirds of the 2.7B model's bound by hand: 2.62e9 trits, 5 in a byte, 77 GB/s."""
    u250 = next(device for device in DEVICES if "U250" in device.name)
    rate = device_tokens_per_second(PUBLISHED["2.7b"], u250)
    assert 0.9 * 77e9 * 5 / 2.62e9 < rate < 77e9 * 5 / 2.62e9
    assert device_tokens_per_second(PUBLISHED["370m"], u250) > 5 * rate


def test_a_model_that_does_not_fit() -> None:
    with pytest.raises(LuternError, match="hidden size is 1024, but tiny holds at most 64"):
        estimate(PUBLISHED["370m"], preset("tiny"), baud=BAUD)
