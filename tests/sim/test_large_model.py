"""A model of more than 100 million trits, which runs from the simulated SDRAM of 32 MB, token by token."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.memory import any_part
from lutern.hw.presets import preset
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated

MODEL = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=14, intermediate_size=1024)
TOKENS = 8


@pytest.mark.slow
def test_a_hundred_million_trits() -> None:
    """The model is loaded through the back door, and the logits of every token equal the integer model's."""
    config = preset("sdram-x16")
    weights = integer_weights(random_checkpoint(MODEL, seed=14))
    program = lay_out(weights, config)
    assert program.trits >= 100_000_000
    golden = GoldenSession(weights)
    with SimulatedBoard(simulated(config)) as board:
        begun = time.monotonic()
        session = Session(Client(board, timeout_s=30.0, token_timeout_s=30.0), program, door=board)
        print(
            f"{program.trits:,} trits, {program.bytes_per_token:,} bytes a token, loaded and verified: "
            f"{board.cycles:,} cycles, {time.monotonic() - begun:.0f} s"
        )
        token, begun, before = 65, time.monotonic(), board.cycles
        for step in range(TOKENS):
            feed = Feed(token, fresh=step == 0)
            run, wanted = session.run([feed]), golden.run([feed])
            ours, theirs = session.logits(), golden.logits()
            np.testing.assert_array_equal(ours.sums, theirs.sums, err_msg=f"token {step}")
            assert ours.scale == theirs.scale and run.tokens == wanted.tokens, f"token {step}"
            token = run.tokens[0][0]
        seconds = time.monotonic() - begun
        steady = session.run([Feed(token)], 2).cycles  # the second token of a run does not wait for the link
        cycles = board.cycles - before
    hz = config.clock_hz
    bound = 1 / (program.bytes_per_token // config.word_bytes)
    share = 1 / steady / bound
    print(
        f"{TOKENS} tokens equal; {steady:,} cycles a token: {hz / steady:.2f} tokens/s at {hz / 1e6:.0f} MHz; a word "
        f"a cycle would be {hz * bound:.2f} ({share:.2%}); {cycles / seconds:,.0f} cycles/s, {seconds:.0f} s"
    )
    assert share > 0.98 and share <= 1 - any_part(16).refresh_loss + 1e-4
