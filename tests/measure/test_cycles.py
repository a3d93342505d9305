"""The cycle model equals the RTL, token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Run, Session
from lutern.hw.config import HwConfig
from lutern.hw.layouts import takes_narrow_rows
from lutern.hw.presets import preset
from lutern.hw.protocol import COUNTER_NAMES, LANE_COUNTERS
from lutern.hw.top import Top
from lutern.measure.cycles import token_cycles, token_phases
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.sim.board import SimulatedBoard

SEED = 11
MODELS = (
    ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48),
    ModelConfig(vocab_size=5, hidden_size=64, num_hidden_layers=1, intermediate_size=64),
    ModelConfig(vocab_size=64, hidden_size=24, num_hidden_layers=4, intermediate_size=40, use_lower_bound=False),
)
DEEP = ModelConfig(vocab_size=5, hidden_size=8, num_hidden_layers=32, intermediate_size=4)
"""A model with as many layers as the largest released model. The counters of a streamed machine have a row for each of
its phases."""
NARROW_MODELS = (MODELS[0], ModelConfig(vocab_size=5, hidden_size=54, num_hidden_layers=1, intermediate_size=64))
"""Models with embeddings of 12 bits. In the second model, the number of words of a row is not a multiple of three."""
STREAMED = preset("tiny").with_(
    name="streamed",
    source="streamed",
    word_bytes=2,
    memory_words=1 << 14,
    trit_fifo_words=64,
    gain_fifo_words=128,
    max_state=512,
    counters=True,
)
FOUR = {"streams": 4, "max_state": 512}
TWO_RESULTS = {"rows": 10, "results_per_cycle": 2, "codes_per_cycle": 4, "word_bytes": 4}
WIDE_512 = {"rows": 10, "columns": 32, "results_per_cycle": 2, "codes_per_cycle": 16, "word_bytes": 64}
QUICK = (
    preset("tiny"),
    preset("tiny").with_(name="tiny-four", counters=True, **FOUR),
    STREAMED.with_(name="two-results-four", **TWO_RESULTS, **FOUR),
)
SLOW = (
    STREAMED,
    preset("tiny").with_(name="two-results", rows=8, columns=8, results_per_cycle=2),
    preset("tiny").with_(name="slow-codes", columns=16, codes_per_cycle=1),
    preset("tiny").with_(name="wide", rows=16, columns=16, results_per_cycle=4, codes_per_cycle=16),
    preset("tiny").with_(name="wide-four", rows=16, columns=16, results_per_cycle=4, codes_per_cycle=16, **FOUR),
    preset("tiny").with_(name="one-result-a-row", rows=1, columns=8, streams=2, word_bytes=2, trit_beats=1 << 13),
    STREAMED.with_(name="five-rows-four", rows=5, **FOUR),
    STREAMED.with_(name="short-fifos", rows=5, trit_fifo_words=8, gain_fifo_words=40, gain_fifo_groups=3, **FOUR),
    STREAMED.with_(name="64-bits-one", rows=5, columns=8, codes_per_cycle=4, word_bytes=8),
    STREAMED.with_(name="64-bits-two", rows=5, columns=16, codes_per_cycle=4, word_bytes=8),
    STREAMED.with_(name="128-bits-one", rows=5, columns=16, codes_per_cycle=8, word_bytes=16),
    STREAMED.with_(name="128-bits-two", **TWO_RESULTS | {"columns": 16, "word_bytes": 16}),
    STREAMED.with_(name="256-bits-one", **WIDE_512 | {"columns": 16, "word_bytes": 32}),
    STREAMED.with_(name="256-bits-two", **WIDE_512 | {"word_bytes": 32}),
    STREAMED.with_(name="512-bits-one", **WIDE_512),
    STREAMED.with_(name="512-bits-two", **WIDE_512 | {"rows": 20, "results_per_cycle": 4}),
    STREAMED.with_(name="512-bits-four", **WIDE_512, **FOUR),
    STREAMED.with_(name="two-results-eight", **TWO_RESULTS, streams=8, max_state=1024),
)


def measured(config: HwConfig) -> None:
    """Run several models on one board. Compare cycles and beats of later passes on the chip with the cycle model, and
    the tokens with the integer model."""
    cases = [(model, 16) for model in MODELS]
    # The matrices of DEEP have a few words. While FIFOs of some machines are full, the cycle model cannot compute them.
    cases += [(DEEP, 16)] if config.source == "streamed" and config in QUICK else []
    if takes_narrow_rows(config):
        cases += [(model, 12) for model in NARROW_MODELS if model.hidden_size % config.results_per_cycle == 0]
    with SimulatedBoard(Top(config)) as board:
        for model, bits in cases:
            weights = integer_weights(random_checkpoint(model, SEED), embedding_bits=bits)
            program = lay_out(weights, config)
            session = Session(Client(board), program)
            for streams in range(1, min(session.streams, session.slots) + 1):
                where = f"{config.name}, {streams} streams, {model}, {bits} bits, seed {SEED}"
                feeds = [Feed(3, slot, fresh=True) for slot in range(streams)]
                run = session.run(feeds, 3)
                expected = token_cycles(program.model_config, config, streams, embedding_bits=bits)
                assert (run.cycles, run.beats) == (expected.cycles, expected.beats), where
                assert run.tokens == GoldenSession(weights, streams, streams).run(feeds, 3).tokens, where
                counted(session, run, streams, where)
                # a row that was requested before the pass began was counted in the pass before
                assert 0 <= expected.words - run.words <= (streams - 1) * program.sizes.row_words, where
                if streams > 1:
                    session.run([Feed(3)] * streams, chained=True)
                    run = session.run([Feed(3)] * streams, chained=True)
                    expected = token_cycles(program.model_config, config, streams, chained=True, embedding_bits=bits)
                    assert (run.cycles, run.beats) == (expected.cycles, expected.beats), f"chained, {where}"
                    counted(session, run, streams, f"chained, {where}", chained=True)


def counted(session: Session, run: Run, streams: int, where: str, *, chained: bool = False) -> None:
    """Check the chip's counters: each phase is as long as in the model, and all phases together are as long as the
    token."""
    if not session.config.counters:
        return
    counts = session.counters()
    lanes, stream = counts[:, : len(LANE_COUNTERS)].sum(axis=1), counts[:, len(LANE_COUNTERS) :].sum(axis=1)
    program = session.program
    expected = token_phases(
        program.model_config, session.config, streams, chained=chained, embedding_bits=program.embedding_bits
    )
    assert lanes.tolist() == stream.tolist() == [phase.cycles for phase in expected], where
    assert counts[:, 0].tolist() == [phase.beats for phase in expected], where
    total = dict(zip(COUNTER_NAMES, counts.sum(axis=0), strict=True))
    assert (lanes.sum(), total["beats"]) == (run.cycles, run.beats), where
    assert 0 <= run.words - total["words"] <= streams * session.program.sizes.row_words, where


@pytest.mark.parametrize("config", QUICK, ids=lambda config: config.name)
def test_cycles_are_exact(config: HwConfig) -> None:
    measured(config)


@pytest.mark.slow
@pytest.mark.parametrize("config", SLOW, ids=lambda config: config.name)
def test_other_machines_are_exact(config: HwConfig) -> None:
    measured(config)


def test_lane_use_of_the_demo_shape() -> None:
    """At 64 lanes the demo's shape keeps the lanes busy in at least 93 % of the cycles. This follows from the cycle
    model, which the tests above compare with the RTL."""
    model = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)
    config = preset("sim-64")
    cycles = token_cycles(model, config).cycles
    assert model.trits / config.lanes / cycles >= 0.93


def test_more_lanes_take_fewer_cycles() -> None:
    model = MODELS[0]
    few, many = preset("tiny"), preset("tiny").with_(name="many", rows=16, columns=16, gain_fifo_words=64)
    assert token_cycles(model, many).cycles < token_cycles(model, few).cycles


@pytest.mark.parametrize(
    ("bits", "model"),
    [("64", "370m"), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("128", "1.3b"), ("512", "2.7b")))],
)
def test_lanes_that_one_word_fills_are_enough(bits: str, model: str) -> None:
    """The presets with a memory at a port need no more lanes, because twice as many save 0.05 % of two layers'
    cycles."""
    config, shape = preset(f"stream-x{bits}"), replace(PUBLISHED[model], num_hidden_layers=2, vocab_size=256)
    once, twice = (token_cycles(shape, config.with_(columns=factor * config.columns)) for factor in (1, 2))
    assert config.beat_bytes == config.word_bytes
    assert once.cycles <= 1.0005 * twice.cycles and once.cycles <= 1.0015 * once.words, f"{once}, {twice}"


@pytest.mark.slow
def test_370m_on_64_bits_with_lanes_that_one_word_fills() -> None:
    """The figures equal those in the comment of the preset."""
    config = preset("stream-x64")
    once, twice = (token_cycles(PUBLISHED["370m"], config.with_(columns=columns)) for columns in (8, 16))
    assert (once.cycles, once.words, twice.cycles) == (8_610_433, 8_610_433, 8_607_409)
