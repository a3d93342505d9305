"""The cycle model against the RTL: equal, token by token."""

from __future__ import annotations

import pytest

from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig, preset
from lutern.hw.top import Top
from lutern.measure.cycles import TokenCycles, token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantize import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard

SEED = 11
MODELS = (
    ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48),
    ModelConfig(vocab_size=5, hidden_size=64, num_hidden_layers=1, intermediate_size=64),
    ModelConfig(vocab_size=64, hidden_size=24, num_hidden_layers=4, intermediate_size=40, use_lower_bound=False),
)
OTHER = {
    "two-results": {"rows": 8, "columns": 8, "results_per_cycle": 2, "codes_per_cycle": 4},
    "slow-codes": {"rows": 4, "columns": 16, "codes_per_cycle": 1},
    "wide": {"rows": 16, "columns": 16, "results_per_cycle": 4, "codes_per_cycle": 16},
}


STREAMED = preset("tiny").with_(
    name="streamed", source="stream", word_bytes=2, memory_words=1 << 14, trit_fifo_words=64, gain_fifo_words=128,
    max_state=512,
)
SEVERAL = {
    "five-rows": {"rows": 5, "tokens": 4},
    "two-results": {"rows": 10, "tokens": 4, "results_per_cycle": 2, "codes_per_cycle": 4, "word_bytes": 4},
    "resident": {"tokens": 2, "source": "resident", "word_bytes": 4},
}


def measured(config: HwConfig, models: tuple[ModelConfig, ...]) -> None:
    """One board, several models: cycles and beats of a run's later tokens, on chip and in the model."""
    with SimulatedBoard(Top(config)) as board:
        for model in models:
            weights = integer_weights(random_checkpoint(model, SEED))
            program = lay_out(weights, config)
            session = Session(Client(board), program, config)
            for streams in {1, session.slots}:
                expected = token_cycles(program, config, streams)
                feeds = [Feed(3, slot, fresh=True) for slot in range(streams)]
                for count in (3, 4):
                    run = session.run(feeds, count)
                    where = f"{config.name}, {streams} streams, {model}, seed {SEED}"
                    got = TokenCycles(run.cycles, run.beats, run.words)
                    assert got == expected, where


def test_tiny_is_exact() -> None:
    measured(preset("tiny"), MODELS)


def test_streamed_is_exact() -> None:
    measured(STREAMED, MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER)
def test_other_machines_are_exact(name: str) -> None:
    measured(preset("tiny").with_(name=name, gain_fifo_words=64, **OTHER[name]), MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEVERAL)
def test_several_streams_are_exact(name: str) -> None:
    measured(STREAMED.with_(name=name, **SEVERAL[name]), MODELS)


def test_lane_use_of_the_demo_shape() -> None:
    """At 64 lanes the demo's shape keeps the lanes at least 93 % busy, by the model that is held to the RTL above."""
    model = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)
    config = preset("sim-64")
    cycles = token_cycles(lay_out(integer_weights(random_checkpoint(model, SEED)), config), config).cycles
    assert model.trits / config.lanes / cycles >= 0.93


def test_more_lanes_take_fewer_cycles() -> None:
    model = MODELS[0]
    weights = integer_weights(random_checkpoint(model, SEED))
    few, many = preset("tiny"), preset("tiny").with_(name="many", rows=16, columns=16, gain_fifo_words=64)
    assert token_cycles(lay_out(weights, many), many).cycles < token_cycles(lay_out(weights, few), few).cycles
