"""A chip without weights at a serial line, bit by bit: tokens are right, and as fast as the line transfers weights."""

from __future__ import annotations

import dataclasses
import random
import time

import numpy as np
import pytest

from lutern.api.models import load
from lutern.firmware.host_weights import LINE_BITS
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.link.uart import LOWEST_DIVISOR
from lutern.hw.presets import preset
from lutern.hw.top import SerialTop, Top
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.lockstep import LockStep

SMALL = preset("host").with_(memory_words=1024, max_width=64, max_state=128, max_vocab=64)
"""The same machine as in tests/cli/test_port.py, so that it is compiled only once."""
MODEL = ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
TOKENS = 3


class BadLine:
    """A line that flips a bit or loses the data in the fraction ``share`` of all transfers, in both directions.
    Seeded."""

    def __init__(self, board: SimulatedBoard, seed: int) -> None:
        self.board, self.draw, self.share, self.faults = board, random.Random(seed), 0.0, 0

    def write(self, data: bytes) -> None:
        self.board.write(self._damaged(data))

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self._damaged(self.board.read(limit, timeout_s))

    def _damaged(self, data: bytes) -> bytes:
        if not data or self.draw.random() >= self.share:
            return data
        self.faults += 1
        if self.draw.random() < 0.5:
            return b""
        line = bytearray(data)
        line[self.draw.randrange(len(line))] ^= 1 << self.draw.randrange(8)
        return bytes(line)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_bad_line_costs_only_time(seed: int) -> None:
    """Every h, S, code and logit equals the integer model's, despite all losses. This also holds for a second model."""
    with SimulatedBoard(SerialTop(SMALL, LOWEST_DIVISOR), cycles_per_second=200_000) as board:  # a frame: 42,000 cycles
        line = BadLine(board, seed)
        for of_model in (1, 2):
            line.share = 0.0
            weights = integer_weights(random_checkpoint(MODEL, of_model))
            session = Session(Client(line, tries=20), lay_out(weights, SMALL))
            machine = LockStep(session, board, weights)
            line.share = 0.1
            for step in range(2):
                machine.run([Feed(7 * step, fresh=step == 0)], 3, temperature=0.5)
            assert machine.checked > 1000
    assert session.weights is not None
    print(f"seed {seed}: {line.faults} faults, went back {session.weights.resent_count} times in the second model")
    assert line.faults > 10 and session.weights.resent_count > 0, f"seed {seed}"


@pytest.mark.slow
def test_the_demo_uses_the_whole_rate_of_the_line() -> None:
    """A token of the demo takes at most a twentieth longer than the line needs for the bytes of its words. This bound
    does not include the other bytes of the frames."""
    config = preset("host")
    weights = load("demo").weights
    program = lay_out(weights, config)
    bound = program.bytes_per_token * LINE_BITS * LOWEST_DIVISOR
    golden = GoldenSession(weights)
    with SimulatedBoard(SerialTop(config, LOWEST_DIVISOR)) as board:
        session = Session(Client(board), program)
        token, start = 3, board.cycles
        for step in range(TOKENS):
            feed = Feed(token, fresh=step == 0)
            begun = time.monotonic()
            run, wanted = session.run([feed]), golden.run([feed])
            seconds = time.monotonic() - begun
            ours, theirs = session.logits(), golden.logits()
            np.testing.assert_array_equal(ours.sums, theirs.sums[ours.tokens], err_msg=f"token {step}")
            assert ours.scale == theirs.scale and run.tokens == wanted.tokens, f"token {step}"
            token = run.tokens[0][0]
        spent = board.cycles - start
    baud, hz = config.clock_hz / LOWEST_DIVISOR, config.clock_hz
    print(
        f"demo, {program.bytes_per_token:,} bytes a token at {baud / 1e6:.3f} Mbaud: {spent / TOKENS:,.0f} cycles a "
        f"token with its commands, {TOKENS * hz / spent:.3f} tokens/s; the line's bound {hz / bound:.3f} "
        f"({TOKENS * bound / spent:.2%}); {seconds:.0f} s for the last"
    )
    assert 0.95 * spent <= TOKENS * bound < spent
    assert session.weights is not None and session.weights.resent_count == 0


@pytest.mark.slow
def test_a_layer_of_a_released_shape() -> None:
    """One layer with the widths and vocabulary of 370M runs on its machine, while one byte arrives per cycle."""
    config = preset("host-45f")
    shape = dataclasses.replace(PUBLISHED["370m"], num_hidden_layers=1)
    weights = integer_weights(random_checkpoint(shape, 5))
    program, golden = lay_out(weights, config), GoldenSession(weights)
    with SimulatedBoard(Top(config)) as board:
        session = Session(Client(board), program)
        token = shape.vocab_size - 1
        for step in range(2):
            feed = Feed(token, fresh=step == 0)
            run, wanted = session.run([feed]), golden.run([feed])
            ours, theirs = session.logits(), golden.logits()
            np.testing.assert_array_equal(ours.sums, theirs.sums[ours.tokens], err_msg=f"token {step}")
            assert ours.scale == theirs.scale and run.tokens == wanted.tokens, f"token {step}"
            token = run.tokens[0][0]
    print(
        f"{program.trits:,} trits, {program.bytes_per_token:,} bytes a token: {run.cycles:,} cycles, the "
        f"{config.top_k} best logits equal"
    )
