"""Machines with their words in DDR3 at DFI, also with several streams and S there: tokens, logits, fraction of the
peak."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from lutern.firmware.leveling import SETTINGS, Setting, level_reads
from lutern.firmware.link import Client
from lutern.firmware.loader import load_sections
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, timings_for
from lutern.hw.presets import preset
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.lockstep import LockStep

SEED = 20
SLICE = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=2, intermediate_size=2816)
"""Two layers of the released 370M."""
MODEL = ModelConfig(vocab_size=50, hidden_size=64, num_hidden_layers=2, intermediate_size=80)
ONE = preset("ddr3-x16")
TWO = ONE.with_(streams=2, state="memory")
BUILT = {"clock_hz": 80_000_000, "memory_hz": 100_000_000}
"""The clocks of ECPIX-5 and OrangeCrab."""
EIGHT = ONE.with_(
    streams=8,
    state="memory",
    results_per_cycle=1,
    max_width=128,
    max_vocab=64,
    max_state=256,
    top_k=0,
    codes_per_cycle=4,
)


def part(config: HwConfig) -> Ddr3Timings:
    """Return the timings of the machine's part."""
    timings = timings_for(config)
    assert isinstance(timings, Ddr3Timings)
    return timings


def opened(board: SimulatedBoard, program: Program) -> Session:
    """Return a session whose model was loaded through the back door."""
    return Session(Client(board, timeout_s=60.0, token_timeout_s=60.0), program, door=board)


def check_tokens(session: Session, golden: GoldenSession, streams: int, steps: int) -> int:
    """Compare tokens and logits of ``steps`` runs of one step. Return the cycles of the second step of a last run."""
    tokens = [3 + 7 * stream for stream in range(streams)]
    for step in range(steps):
        begun = time.monotonic()
        feeds = [Feed(token, slot, fresh=step == 0) for slot, token in enumerate(tokens)]
        run, wanted = session.run(feeds), golden.run(feeds)
        assert run.tokens == wanted.tokens, f"step {step}, seed {SEED}"
        for stream in range(streams):
            ours, theirs = session.logits(stream), golden.logits(stream)
            np.testing.assert_array_equal(ours.sums, theirs.sums[ours.tokens], err_msg=f"step {step}, seed {SEED}")
            assert ours.scale == theirs.scale, f"step {step}, stream {stream}, seed {SEED}"
        tokens = run.tokens[-1]
        print(f"step {step}: {streams} tokens and their logits equal, {time.monotonic() - begun:.1f} s", flush=True)
    feeds = [Feed(token, slot) for slot, token in enumerate(tokens)]
    run, wanted = session.run(feeds, 2), golden.run(feeds, 2)
    assert run.tokens == wanted.tokens, f"seed {SEED}"
    return run.cycles


def decode(config: HwConfig, model: ModelConfig, weights: IntegerWeights, streams: int, steps: int) -> float:
    """Check the tokens, and return the tokens/s of all streams together."""
    program, begun = lay_out(weights, config), time.monotonic()
    with SimulatedBoard(simulated(config)) as board:
        session = opened(board, program)
        cycles = check_tokens(session, GoldenSession(weights, streams, streams), streams, steps)
    words = program.bytes_per_token // config.word_bytes
    tokens_per_s = streams * config.clock_hz / cycles
    print(
        f"{program.trits:,} trits, {streams} streams: {cycles:,} cycles a step, {words:,} words, "
        f"{2 * words / cycles * config.clock_hz / config.memory_hz:.3%} of the peak, {tokens_per_s:.3f} tokens/s at "
        f"{config.memory_hz / 1e6:g} MHz; {time.monotonic() - begun:.0f} s"
    )
    return tokens_per_s


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(simulated(ONE)) as board:
        yield board


def test_two_layers_of_370m(board: SimulatedBoard) -> None:
    """Tokens and logits are equal, and words are read at the fraction of the peak rate that refreshes leave."""
    weights = integer_weights(random_checkpoint(SLICE, SEED))
    program = lay_out(weights, ONE)
    cycles = check_tokens(opened(board, program), GoldenSession(weights), 1, 2)
    share = 2 * program.bytes_per_token / ONE.word_bytes / cycles
    print(f"{cycles:,} cycles a token, {share:.3%} of the peak")
    assert 0.93 < share < 1 - part(ONE).refresh_loss + 1e-3


def test_front_door_and_back_door(board: SimulatedBoard) -> None:
    """The back door finds the words that came over the link."""
    words = np.random.default_rng(SEED).integers(0, 256, (600, ONE.word_bytes), dtype=np.uint8)
    first = ONE.memory_words - 700
    board.reset()
    client = Client(board, timeout_s=60.0)
    load_sections(client, [(first, words)])
    np.testing.assert_array_equal(board.peek(first, len(words)), words, err_msg=f"seed {SEED}")


def test_leveling_at_dfi(board: SimulatedBoard) -> None:
    """At DFI every setting passes, so a session with a port can also level a simulation without a PHY."""
    board.reset()
    found = level_reads(Client(board, timeout_s=60.0), ONE)
    assert all(level.passed == frozenset(SETTINGS) and level.chosen == Setting(3, 0) for level in found.of_bytes)


@pytest.mark.slow
def test_eight_streams_with_their_state_in_ddr3() -> None:
    """Every h, S and code of eight conversations is equal."""
    weights = integer_weights(random_checkpoint(MODEL, SEED))
    with SimulatedBoard(simulated(EIGHT)) as board:
        machine = LockStep(opened(board, lay_out(weights, EIGHT)), board, weights)
        for streams in (1, 2, 8):
            slots = [(3 * stream + streams) % machine.slots for stream in range(streams)]
            machine.run([Feed(3 + stream, slot, fresh=True) for stream, slot in enumerate(slots)], 2)
            machine.run([Feed(5 + stream, slot) for stream, slot in enumerate(reversed(slots))], 3)
        assert machine.checked > 1000


@pytest.mark.slow
def test_370m() -> None:
    """One stream reaches at least 8 tokens/s, and two streams with S in the memory are 1.95 times as fast. `pytest -s`
    prints the figures."""
    model = PUBLISHED["370m"]
    weights = integer_weights(random_checkpoint(model, SEED))
    one = decode(ONE.with_(**BUILT), model, weights, 1, 8)
    two = decode(TWO.with_(**BUILT), model, weights, 2, 1)
    print(f"two streams: {two / one:.3f} times one")
    assert one >= 8 and two / one >= 1.95
