"""The simulated board against the integer model: shipped weights, whole tokens, every h, S, code and logit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lutern.cli.models import Model, open_model
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import GoldenSession, Sampling, Session, generate
from lutern.firmware.slip import encode_frame
from lutern.hw.config import preset
from lutern.hw.protocol import RUN, WRITE, Opcode
from lutern.hw.top import Top
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantize import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.lockstep import Difference, LockStep

PROMPTS = ("once upon a time", "the dog said, \"", "one day, a girl named lily")
SAMPLINGS = {"greedy": Sampling(0.0), "sampled": Sampling(0.8, top_k=8, seed=5)}
SEED = 7
NAMED = r"^stage \w+, token \d+, layer \d+, index \d+, cycle \d+: got -?\d+, expected -?\d+ \(tap \w+\)\.$"


@pytest.fixture(scope="module")
def demo() -> tuple[Model, IntegerWeights]:
    model = open_model("demo")
    return model, integer_weights(model.checkpoint)


@pytest.fixture(scope="module")
def machine(demo: tuple[Model, IntegerWeights]) -> Iterator[LockStep]:
    """The demo, loaded over the link into the default board."""
    config = preset("sim-64")
    with SimulatedBoard(Top(config)) as board:
        yield LockStep(Session(Client(board), lay_out(demo[1], config), config), board, demo[1])


def texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling, count: int) -> None:
    """The chip writes what the integer model writes, and every value on the way is equal (``LockStep`` raises)."""
    model, weights = demo
    ids = model.tokenizer.encode(prompt)
    checked = machine.checked
    got = [token for token, _ in generate(machine, ids, count, sampling)]
    golden = [token for token, _ in generate(GoldenSession(weights), ids, count, sampling)]
    assert got == golden
    values = model.checkpoint.config.hidden_size * (len(ids) - 1 + count)
    assert machine.checked - checked > values, "the taps were silent"


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize("prompt", PROMPTS)
def test_short_texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling) -> None:
    texts(machine, demo, prompt, sampling, 16)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize("prompt", PROMPTS)
def test_long_texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling) -> None:
    texts(machine, demo, prompt, sampling, 200)


def test_the_token_loop_closes_on_the_chip(machine: LockStep) -> None:
    """Eight tokens of one run: the chip feeds itself, and LockStep follows."""
    run = machine.run(3, count=8, fresh=True)
    assert len(run.tokens) == 8


def test_cycles_of_the_demo_are_those_of_the_model(machine: LockStep, demo: tuple[Model, IntegerWeights]) -> None:
    run = machine.run(3, fresh=True)
    config = machine.session.config
    assert run.cycles == token_cycles(machine.session.program, config).cycles
    assert demo[0].checkpoint.config.trits / config.lanes / run.cycles >= 0.8
    assert run.saturations == 0


def test_backpressure_on_the_link_changes_nothing(demo: tuple[Model, IntegerWeights], machine: LockStep) -> None:
    machine.board.pause(0.5, SEED)
    try:
        machine.run(5, fresh=True)
    finally:
        machine.board.pause(0.0, SEED)


class TestTiny:
    """A small machine with a random model: what goes wrong is found and named."""

    @pytest.fixture
    def tiny(self) -> Iterator[LockStep]:
        config = preset("tiny")
        model = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
        weights = integer_weights(random_checkpoint(model, SEED))
        with SimulatedBoard(Top(config)) as board:
            yield LockStep(Session(Client(board), lay_out(weights, config), config), board, weights)

    def test_a_flipped_trit_is_named(self, tiny: LockStep) -> None:
        """One wrong word of weights behind the loader's back: the first wrong value is told, with its place."""
        program = tiny.session.program
        address = program.stream_words // 2
        words = program.words[address].copy()
        words[0] ^= 0x55
        tiny.session.client.transact(Opcode.WRITE, WRITE.pack(address=address) + words.tobytes())
        with pytest.raises(Difference, match=NAMED):
            tiny.run(3, count=20, fresh=True)

    def test_reset_in_mid_token(self, tiny: LockStep) -> None:
        """The reset pin at any cycle of a token; the next token equals a cold start."""
        random = np.random.default_rng(SEED)
        session = tiny.session
        first = tiny.run(4, fresh=True)
        for cycles in random.integers(1, first.cycles, 5):
            tiny.board.write(encode_frame(Opcode.RUN, 0, RUN.pack(token=4, count=1, fresh=1)))
            tiny.board.run(int(cycles))
            tiny.board.reset()
            for name in tiny.board.tap_names:
                tiny.board.taps(name, clear=True)
            session.set_up()
            assert tiny.run(4, fresh=True).tokens == first.tokens, f"reset after {cycles} cycles, seed {SEED}"


def test_models_too_large_are_refused_by_name_and_number() -> None:
    config = preset("tiny")
    large = integer_weights(
        random_checkpoint(ModelConfig(vocab_size=37, hidden_size=128, num_hidden_layers=1, intermediate_size=48), SEED)
    )
    with pytest.raises(LuternError) as caught:
        lay_out(large, config)
    assert str(caught.value) == (
        "the model's hidden size is 128, but tiny holds at most 64 (max_width); "
        "choose a larger preset or a smaller model."
    )
