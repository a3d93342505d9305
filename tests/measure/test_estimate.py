"""Estimates are compared with the RTL, the program and the synthesis."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lutern.boards.catalog import BOARDS
from lutern.firmware.program import lay_out
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS, preset
from lutern.measure import samples
from lutern.measure.estimate import DEVICES, device_tokens_per_second, estimate, limit_sentence
from lutern.measure.resources import errors, fit, predict, resources
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
BAUD = 3_000_000
DEMO = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)


@pytest.mark.parametrize("name", PRESETS)
def test_bytes_and_bound(name: str) -> None:
    """The bytes are those of a program after its layout. No machine is faster than its bound, except for the words that
    its FIFOs contain at the start."""
    config = preset(name)
    found = estimate(MODEL, config, baud=BAUD)
    program = lay_out(integer_weights(random_checkpoint(MODEL, 4)), config)
    assert (found.bytes_read, found.trits) == (program.bytes_per_token, program.trits)
    ahead = 0 if config.source == "resident" else config.trit_fifo_words + config.gain_fifo_words
    assert 0 < found.share <= 1 + ahead * config.word_bytes / found.bytes_read
    if config.memory == "host":
        assert found.cycles is None and found.bound == pytest.approx(BAUD / 10 / program.bytes_per_token)


def test_resources_of_machines_that_were_not_fitted_to() -> None:
    """LUT and FF are close on 12 machines that are not in the fit. Multipliers and block RAM are exact on all
    machines."""
    others = errors("check")
    assert others.machines >= 12 and others.luts <= 0.07 and others.ff <= 0.06, others
    for row in samples.read():
        found = resources(row.config)
        assert (found.multipliers, found.block_rams) == (row.multipliers, row.block_rams), row.config.name


def test_rows_belong_to_existing_machines() -> None:
    """The clock of a machine changes its size by some 50 LUT at most, and may be another one than in its row."""

    def without_clock(machines: list[tuple[str, HwConfig]]) -> list[tuple[str, HwConfig]]:
        return sorted(
            ((use, one.with_(clock_hz=1, any_clock=False)) for use, one in machines), key=lambda row: row[1].name
        )

    rows = [(row.use, row.config) for row in samples.read()]
    assert without_clock(rows) == without_clock(samples.machines())


@pytest.mark.parametrize("name", sorted({name for board in BOARDS.values() for name in board.presets}))
def test_placed_luts_of_a_preset_that_is_left_out(name: str) -> None:
    """The estimated LUT of a board's preset are within 13 % of those that nextpnr packs. Coefficients and factor are
    computed without this preset."""
    [row] = [row for row in samples.read() if row.use == "preset" and row.config.name == name]
    rest = [other for other in samples.read() if other.config.name != name]
    fitted = fit([other for other in rest if other.use != "check"])["luts"]
    factor = float(np.median([other.placed / other.comb for other in rest if other.placed]))
    assert row.placed > row.comb
    assert predict(fitted, row.config) * factor == pytest.approx(row.placed, rel=0.13)


def test_documented_builds() -> None:
    """LUT are within 10 % of those of the bitstreams, and multipliers are equal. Builds of an earlier gateware have up
    to two more block RAMs, because z, the gates and the tables of noise used separate block RAMs."""
    page = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text()
    rows = re.findall(
        r"\| ULX3S \w+ \| ([\w-]+) \| \d+ \| ([\d,]+) \(\d+ %\) \| [\d,]+ \| (\d+) of \d+ \| (\d+) \|", page
    )
    assert len(rows) >= 3
    for name, luts, block_rams, multipliers in rows:
        found = resources(preset(name))
        assert found.placed_luts == pytest.approx(int(luts.replace(",", "")), rel=0.10), name
        assert found.multipliers == int(multipliers) and 0 <= int(block_rams) - found.block_rams <= 2, name


ROOT = Path(__file__).parents[2]
SMALL = ModelConfig(vocab_size=38, hidden_size=128, num_hidden_layers=3, intermediate_size=192)
"""The shape of demo-small."""


@pytest.mark.parametrize(
    ("name", "model", "pages"),
    [
        ("resident-85f", DEMO, ("README.md", "docs/measuring.md")),
        ("resident-1024", DEMO, ("docs/measuring.md", "docs/decisions/012-lanes.md")),
        ("resident-25f", SMALL, ("docs/measuring.md",)),
        ("stream-x16", DEMO, ("docs/measuring.md", "docs/decisions/007-one-record-stream.md")),
    ],
)
def test_documented_cycles(name: str, model: ModelConfig, pages: tuple[str, ...]) -> None:
    """The pages state the cycles of machines with memory on the chip, where the cycle model is exact. README also
    states the tokens/s."""
    found = estimate(model, preset(name), baud=BAUD)
    for page in pages:
        text = (ROOT / page).read_text()
        assert f"{found.cycles:,}" in text, f"{page} does not give the {found.cycles:,} cycles of {name}"
        if page == "README.md":
            assert f"{found.tokens_per_second:,.0f} tokens/s" in text


def test_documented_tokens_from_ddr3() -> None:
    """README states the figures of 370M, and of the machine's logic."""
    board = BOARDS["ecpix5-85f"]
    config = board.config("ddr3-x16")
    found, used = estimate(PUBLISHED["370m"], config, baud=BAUD), resources(config)
    text = (ROOT / "README.md").read_text()
    assert f"{found.tokens_per_second:.2f} tokens/s, {100 * found.share:.1f} % of what the memory" in text
    assert f"{used.placed_luts:,.0f} of {board.fpga.luts:,} LUT" in text


def test_a_device_is_no_faster_than_memory_and_lanes() -> None:
    """The bound is computed by hand: the memory of a U250 limits 2.7B to 77 GB/s with 5 trits per byte, over 2.62e9
    trits. The rate is within 10 % of this bound."""
    u250 = next(device for device in DEVICES if "U250" in device.name)
    rate = device_tokens_per_second(PUBLISHED["2.7b"], u250)
    assert 0.9 * 77e9 * 5 / 2.62e9 < rate < 77e9 * 5 / 2.62e9
    assert device_tokens_per_second(PUBLISHED["370m"], u250) > 5 * rate


@pytest.mark.parametrize(
    ("name", "streams", "said"),
    [
        ("sim-64", 1, "The lanes are the limit: they work in {use} of the cycles; in the others they wait for codes."),
        ("stream-x16", 1, "the lanes work in {use}; twice as many lanes would give at most 0.5%."),
        ("host", 1, "The line is the limit: the lanes work in 0.2% of the cycles, and more lanes would give nothing."),
    ],
)
def test_sentence_of_the_limit(name: str, streams: int, said: str) -> None:
    hw_config = preset(name)
    found = estimate(DEMO, hw_config, streams=streams, baud=BAUD)
    use = "" if found.cycles is None else f"{found.trits / (hw_config.lanes * found.cycles):.1%}"
    assert said.format(use=use) in limit_sentence(DEMO, hw_config, found)


def test_a_memory_that_delivers_fewer_words() -> None:
    """At an AXI4 port, a fraction of the words gives the same fraction of the bound, and the memory is the limit."""
    machine = preset("axi-x128").with_(max_vocab=2000)
    found = estimate(DEMO, machine, baud=BAUD, share=0.8)
    assert found.share == pytest.approx(0.8, abs=1e-4)
    assert limit_sentence(DEMO, machine, found).startswith(
        "The memory is the limit: words come in 80.0% of the cycles, "
    )


def test_limit_of_sums_that_leave_slowly() -> None:
    """The sums of 8 streams of 10 rows leave at 2 per cycle, in 40 cycles. A row group of 256 columns has only 8
    beats."""
    machine = preset("axi-x512").with_(streams=8, state="memory")
    found = estimate(DEMO, machine, streams=8, baud=BAUD)
    text = limit_sentence(DEMO, machine, found)
    assert text.startswith(
        "The sums are the limit: the sums of a row group leave in 40 cycles at results_per_cycle 2, but "
    )
    words = f"words are taken in {found.share:.1%} of the cycles; the lanes work in "
    assert f"the trits of the shortest row group take 8 beats, so {words}" in text


@pytest.mark.parametrize("vocab", [45, 2000])
def test_more_lanes_give_at_most_the_stated_gain(vocab: int) -> None:
    """If the memory is the limit, the stated gain of twice as many lanes is at least the gain by the cycle model. 60 is
    a multiple of 5 rows, 64 is not."""
    for width in (60, 64):
        model = ModelConfig(vocab_size=vocab, hidden_size=width, num_hidden_layers=2, intermediate_size=width)
        machines = [preset("stream-x16").with_(columns=columns, max_vocab=2000) for columns in (4, 8)]
        before, after = (estimate(model, machine, baud=BAUD) for machine in machines)
        text = limit_sentence(model, machines[0], before)
        assert text.startswith("The memory is the limit: "), text
        most = 0.0 if text.endswith(" nothing.") else float(text.rpartition("at most ")[2].rstrip("%.")) / 100
        gain = after.tokens_per_second / before.tokens_per_second - 1
        assert gain <= most + 0.0005, (vocab, width, gain, text)


def test_a_model_that_does_not_fit() -> None:
    tiny = preset("tiny")
    has = f"tiny has {tiny.trit_beats * tiny.beat_bytes:,}"
    with pytest.raises(
        LuternError, match=rf"bytes of block RAM for trits and embeddings, {has} .* hidden size 1024 .at most 64"
    ):
        estimate(PUBLISHED["370m"], tiny, baud=BAUD)
