"""The simulated board equals the integer model: shipped weights, whole tokens, every h, S, code and logit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lutern.api.machines import SIM_PRESETS
from lutern.api.models import Model, load
from lutern.firmware.conversations import Sampling, converse, generate, prefill
from lutern.firmware.limits import excess
from lutern.firmware.link import Client
from lutern.firmware.loader import load_sections
from lutern.firmware.program import lay_out
from lutern.firmware.schedule import program_sizes
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.firmware.slip import encode_frame
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.presets import preset
from lutern.hw.protocol import FEED, RUN, WRITE, Opcode
from lutern.hw.top import Top
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.lockstep import Difference, LockStep

PROMPTS = ("once upon a time", 'the dog said, "', "one day, a girl named lily")
SAMPLINGS = {
    "greedy": Sampling(0.0),
    "on the chip": Sampling(0.8, seed=5),
    "on the host": Sampling(0.8, top_k=8, seed=5),
}
SEED = 7
NAMED = (
    r"^stage \w+, run from step \d+, stream \d+, layer \d+, index \d+, cycle \d+: got -?\d+, expected -?\d+ "
    r"\(tap \w+\)\.$"
)


@pytest.fixture(scope="module")
def demo() -> tuple[Model, IntegerWeights]:
    model = load("demo")
    return model, integer_weights(model.checkpoint)


@pytest.fixture(scope="module")
def machine(demo: tuple[Model, IntegerWeights]) -> Iterator[LockStep]:
    """Yield the demo on the simulated board of `lutern generate`."""
    config = preset(SIM_PRESETS[0])
    with SimulatedBoard(Top(config)) as board:
        yield LockStep(Session(Client(board), lay_out(demo[1], config), door=board), board, demo[1])


def test_the_chip_reads_what_the_back_door_wrote(machine: LockStep) -> None:
    """The chip's checksums are right for all words, also for the last part of a beat, which is shorter. So the host
    sends no word again."""
    board = machine.board
    before = board.cycles
    load_sections(machine.session.client, machine.session.program.sections)
    machine.session.set_up()
    assert board.cycles - before < 1.1 * sum(words.size for _, words in machine.session.program.sections)


def texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling, count: int) -> None:
    """Check that chip and integer model write the same text. ``LockStep`` raises an error if any value differs."""
    model, weights = demo
    ids = model.tokenizer.encode(prompt)
    checked = machine.checked
    got = [token for token, _ in generate(machine, ids, count, sampling)]
    golden = [token for token, _ in generate(GoldenSession(weights), ids, count, sampling)]
    assert got == golden
    values = model.checkpoint.config.hidden_size * (len(ids) - 1 + count)
    assert machine.checked - checked > values, "the taps must show values"


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize("prompt", PROMPTS)
def test_short_texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling) -> None:
    texts(machine, demo, prompt, sampling, 16)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize("prompt", PROMPTS)
def test_long_texts(machine: LockStep, demo: tuple[Model, IntegerWeights], prompt: str, sampling: Sampling) -> None:
    texts(machine, demo, prompt, sampling, 200)


def test_chip_feeds_back_its_own_tokens(machine: LockStep) -> None:
    """In one run of eight tokens the chip feeds its own tokens back, and LockStep compares all values."""
    run = machine.run([Feed(3, fresh=True)], count=8)
    assert len(run.tokens) == 8


def test_cycles_of_the_demo_are_those_of_the_model(machine: LockStep, demo: tuple[Model, IntegerWeights]) -> None:
    run = machine.run([Feed(3, fresh=True)], count=2)
    config = machine.session.config
    assert run.cycles == token_cycles(machine.session.program.model_config, config).cycles
    assert demo[0].checkpoint.config.trits / config.lanes / run.cycles >= 0.75
    assert run.saturations == 0


def test_backpressure_on_the_link_changes_nothing(demo: tuple[Model, IntegerWeights], machine: LockStep) -> None:
    machine.board.pause(0.5, SEED)
    try:
        machine.run([Feed(5, fresh=True)])
    finally:
        machine.board.pause(0.0, SEED)


class TestTiny:
    """A small machine with a random model, on which the lock step finds faults and reports their place."""

    @pytest.fixture
    def tiny(self) -> Iterator[LockStep]:
        config = preset("tiny")
        model = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
        weights = integer_weights(random_checkpoint(model, SEED))
        with SimulatedBoard(Top(config)) as board:
            yield LockStep(Session(Client(board), lay_out(weights, config)), board, weights)

    def test_the_front_door_and_the_back_door(self, tiny: LockStep) -> None:
        """The back door finds the words that came over the link, and refuses words beyond the memories."""
        for address, words in tiny.session.program.sections:
            assert np.array_equal(tiny.board.peek(address, len(words)), words)
        config = tiny.session.config
        for address in (config.memory_words, TRIT_MEMORY + config.trit_beats):
            with pytest.raises(LuternError, match="do not fit the simulated memory"):
                tiny.board.poke(address, np.zeros((1, config.word_bytes), np.uint8))

    def test_a_flipped_trit_is_named(self, tiny: LockStep) -> None:
        """If one word of weights changes after the load, the message names the first wrong value and its place."""
        program = tiny.session.program
        address, beats = program.sections[1]
        at = program.setup["trit_beats"] // 2
        word = beats[at].copy()
        word[0] ^= 0x55
        tiny.session.client.transact(Opcode.WRITE, WRITE.pack(address=address + at) + word.tobytes())
        tiny.session.set_up()
        with pytest.raises(Difference, match=NAMED):
            tiny.run([Feed(3, fresh=True)], count=20)

    def test_reset_in_mid_token(self, tiny: LockStep) -> None:
        """After a reset in any cycle of a token, the next token equals the first token after a cold start."""
        random = np.random.default_rng(SEED)
        session = tiny.session
        first = tiny.run([Feed(4, fresh=True)])
        tiny.board.taps("codes", clear=True)
        for cycles in random.integers(300, first.cycles, 5):
            command = RUN.pack(count=1, temperature=0, streams=1, chained=0)
            command += FEED.pack(token=4, state_base=0, fresh=1, seed=1)
            tiny.board.write(encode_frame(Opcode.RUN, 0, command))
            answered = tiny.board.run(int(cycles))
            assert len(tiny.board.taps("codes")) and not answered, (
                f"a run must be in flight after {cycles} cycles, seed {SEED}"
            )
            tiny.board.reset()
            for name in tiny.board.tap_names:
                tiny.board.taps(name, clear=True)
            session.set_up()
            assert tiny.run([Feed(4, fresh=True)]).tokens == first.tokens, f"reset after {cycles} cycles, seed {SEED}"


@pytest.fixture(scope="module")
def several() -> Iterator[LockStep]:
    config = preset("tiny").with_(
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
    model = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    weights = integer_weights(random_checkpoint(model, SEED))
    with SimulatedBoard(Top(config)) as board:
        yield LockStep(Session(Client(board), lay_out(weights, config)), board, weights)


@pytest.mark.slow
class TestSeveral:
    """Four streams on streamed weights: several conversations in the same run, and prompts in blocks."""

    @pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
    def test_conversations_have_the_texts_that_they_have_alone(self, several: LockStep, sampling: Sampling) -> None:
        """Six prompts of different lengths share four slots. Each conversation equals the same conversation on one
        stream."""
        random = np.random.default_rng(SEED)
        prompts = [random.integers(37, size=length).tolist() for length in (1, 9, 3, 4, 2, 11)]
        written: list[list[int]] = [[] for _ in prompts]
        for piece in converse(several, prompts, 7, sampling, burst=3):
            written[piece.which] += piece.tokens
        for which, prompt in enumerate(prompts):
            own = Sampling(sampling.temperature, sampling.top_k, sampling.seed + which)
            golden = GoldenSession(several.golden.weights)
            assert written[which] == [token for token, _ in generate(golden, prompt, 7, own)], f"prompt {which}"

    def test_a_prompt_in_blocks(self, several: LockStep) -> None:
        """Blocks of four tokens leave the same state as single tokens one after the other."""
        prompt = np.random.default_rng(SEED + 1).integers(37, size=14).tolist()
        blocks = prefill(several, prompt, slot=2)
        for position, token in enumerate(prompt):
            single = several.run([Feed(token, 1, fresh=position == 0)])
        assert blocks.tokens[0][-1] == single.tokens[0][0]
        following = several.run([Feed(5, 2), Feed(5, 1)], count=4)
        assert all(one == other for one, other in following.tokens)


def test_message_for_a_model_that_is_too_large() -> None:
    config = preset("tiny")
    large = ModelConfig(vocab_size=64, hidden_size=128, num_hidden_layers=1, intermediate_size=48)
    with pytest.raises(LuternError) as caught:
        lay_out(integer_weights(random_checkpoint(large, SEED)), config)
    needed, held = (beats * config.beat_bytes for beats in (program_sizes(large, config).beats, config.trit_beats))
    assert str(caught.value) == (
        f"the model needs {needed:,} bytes of block RAM for trits and embeddings, tiny has {held:,} (trit_beats): "
        f"{excess(needed, held)}; other limits are also exceeded: hidden size 128 (at most 64); choose a preset that "
        "holds it, such as sim-64, or a smaller model."
    )
