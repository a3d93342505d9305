"""The chip ends a run that takes longer than its limit, reports this, and works again after the next SETUP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lutern.firmware.link import Client, RefusedError
from lutern.firmware.program import Program, lay_out
from lutern.firmware.schedule import records
from lutern.firmware.session import MOST_REPAIRS, Feed, GoldenSession, Session
from lutern.hw.layouts import OPERATION_BITS, RecordKind, check_words, header_words
from lutern.hw.presets import preset
from lutern.hw.protocol import FEED, RUN, STEP_LIMIT_CYCLES, ErrorCode, Opcode
from lutern.hw.top import Top
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.signature import WordSignatures
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard

SEED = 40
CONFIG = preset("tiny")
MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
LINK_CYCLES = 2000
"""An upper bound of the cycles for the frames of a RUN and of its error."""


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(MODEL, SEED))


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(Top(CONFIG)) as board:
        yield board


def operations_at(program: Program) -> list[int]:
    """Return the place of the first word of each operation, after its header."""
    found, at = [], 0
    for record in records(program.model_config, program.hw_config):
        at += header_words(program.hw_config)
        if record.kind is RecordKind.OP:
            found.append(at)
        at += record.words
    return found


def signed(program: Program) -> Program:
    """Return the same words with the correct checks for them."""
    signatures, count, words = WordSignatures(CONFIG.word_bytes), check_words(CONFIG), program.words.copy()
    for place, (first, length) in enumerate(program.blocks):
        end = first + length - count
        words[end : end + count] = signatures.block_check(words[first:end], program.image, place)
    return replace(program, words=words)


def flipped(program: Program, word: int, bit: int) -> Program:
    words = program.words.copy()
    words[word, bit // 8] ^= 1 << bit % 8
    return signed(replace(program, words=words))


def run_once(session: Session, board: SimulatedBoard) -> tuple[ErrorCode | None, int]:
    """Make a run of one token. Return how the run ends, and after how many cycles."""
    before = board.cycles
    command = RUN.pack(count=1, temperature=0, streams=1, chained=0)
    try:
        session.client.transact(Opcode.RUN, command + FEED.pack(token=3, state_base=0, fresh=1, seed=1))
    except RefusedError as error:
        return ErrorCode(error.code), board.cycles - before
    return None, board.cycles - before


def test_signed_equals_the_layout(weights: IntegerWeights) -> None:
    program = lay_out(weights, CONFIG)
    assert (signed(program).words == program.words).all()
    assert len(operations_at(program)) == 7 * MODEL.num_hidden_layers + 2


def test_programs_that_never_end(board: SimulatedBoard, weights: IntegerWeights) -> None:
    """Bits of each operation are flipped, with correct signatures. Each run ends with a token, or the watchdog ends the
    run within its limit. After the watchdog, the original program gives the right tokens."""
    program, draw = lay_out(weights, CONFIG), np.random.default_rng(SEED)
    limit = program.step_limit * STEP_LIMIT_CYCLES
    golden = GoldenSession(weights).run([Feed(3, fresh=True)], 2).tokens
    client = Client(board)
    hung: set[int] = set()
    for at in operations_at(program):
        for _ in range(2):
            place, bit = divmod(int(draw.integers(OPERATION_BITS)), 8 * CONFIG.word_bytes)
            where = f"bit {bit} of word {at + place}, seed {SEED}"
            code, cycles = run_once(Session(client, flipped(program, at + place, bit)), board)
            assert code in (None, ErrorCode.RUN_TOO_LONG), where
            assert cycles < limit + LINK_CYCLES, f"{cycles:,} cycles of {limit:,}, {where}"
            if code:
                assert cycles > limit, f"{cycles:,} cycles of {limit:,}, {where}"
                hung.add(at)
                healed = Session(client, program)
                assert healed.run([Feed(3, fresh=True)], 2).tokens == golden and not healed.repairs, where
    print(f"{len(hung)} of {len(operations_at(program))} operations made a run hang")
    assert len(hung) > 4, f"seed {SEED}"


def test_error_of_the_host(board: SimulatedBoard, weights: IntegerWeights) -> None:
    program, draw = lay_out(weights, CONFIG), np.random.default_rng(SEED + 1)
    client = Client(board)
    for _ in range(100):
        at = int(draw.choice(operations_at(program)))
        session = Session(client, flipped(program, at, int(draw.integers(8 * CONFIG.word_bytes))))
        if run_once(session, board)[0]:
            break
        board.reset()
    session.set_up()
    with pytest.raises(RefusedError) as error:
        session.run([Feed(3, fresh=True)])
    assert str(error.value).startswith("The board refused RUN: its watchdog ended the run, because a step took")
    assert len(session.repairs) == MOST_REPAIRS
    assert all(text.startswith("A token took too long, and no weights were found damaged") for text in session.repairs)
    assert Session(client, program).run([Feed(3, fresh=True)]).tokens
