"""Machines with a memory at their port, 16 to 512 bits wide, equal the integer model, with any timing of the memory.
Their cycles are those of the cycle model plus those in which the memory withheld a word."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lutern.firmware.link import Client, RefusedError
from lutern.firmware.loader import load_sections, put_sections
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import HwConfig
from lutern.hw.memory import SourceShape, fifo_depth
from lutern.hw.presets import preset
from lutern.hw.protocol import LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.lockstep import LockStep
from lutern.sim.port_memory import WordTiming
from watched import Watch

SEED = 6
MODEL = ModelConfig(vocab_size=50, hidden_size=48, num_hidden_layers=2, intermediate_size=64)
SLICE = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=2, intermediate_size=2816)
"""Two layers of the released 370M."""
SMALL = {"max_width": 64, "max_state": 128, "max_vocab": 64, "memory_words": 1 << 17, "top_k": 0, "counters": True}
MACHINES = {
    config.name: config
    for config in (
        preset("stream-x16").with_(columns=2, codes_per_cycle=2, streams=1, memory="port", **SMALL),
        preset("stream-x32").with_(columns=4, codes_per_cycle=4, streams=1, memory="port", **SMALL),
        preset("stream-x64").with_(counters=True, top_k=0),  # with top_k > 0, cycles would depend on values
        *(preset(f"stream-x{bits}").with_(**SMALL) for bits in (128, 256, 512)),
    )
}
QUICK = ("stream-x64",)
TIMINGS = {
    "word a cycle": WordTiming(1, 1),
    "latency 60": WordTiming(60, 60),
    "latency 200": WordTiming(200, 200),
    "dram, 75 MHz": WordTiming.dram(75e6, latency_least=60, latency_most=200, seed=SEED),
    "dram, 300 MHz": WordTiming.dram(300e6, latency_least=200, latency_most=200),
    "random": WordTiming.dram(75e6, latency_least=60, latency_most=200, busy_share=0.3, pause_share=0.2, seed=SEED),
}
TOKENS, WARM = 8, 3
"""The number of tokens of a counted run, and the number of first tokens that are not counted, because the readers still
run ahead."""
NOTE_EVERY = 200
"""Cycles between two readings of the counts of a large model. So a count may be this many cycles old."""
ROW_WAY = 20
"""The maximum of cycles by which an embedding row takes longer from a port than from memory on the chip."""


class Watched(Watch):
    """A board that stores the counts of its memory at regular cycles."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        machine: Any = simulated(config)
        self.shape: SourceShape = machine.source_shape
        super().__init__(machine, word_timing=TIMINGS["word a cycle"])

    def session(self, program: Program, timing: WordTiming) -> Session:
        """Reset the board, and return a new session."""
        self.reset()
        self.forget()
        self.set_word_timing(timing)
        return Session(Client(self, timeout_s=20.0, token_timeout_s=20.0), program, door=self)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MACHINES]
)
def board(request: pytest.FixtureRequest) -> Iterator[Watched]:
    with Watched(MACHINES[request.param]) as board:
        yield board


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(MODEL, seed=SEED))


def test_equal_to_the_integer_model(board: Watched, weights: IntegerWeights) -> None:
    """Every h, S and code, the tokens and the logits are equal, with random latency, refreshes and random pauses."""
    timing = TIMINGS["random"]
    machine = LockStep(board.session(lay_out(weights, board.config), timing), board, weights)
    machine.run([Feed(7, fresh=True)], 3)
    machine.run([Feed(3)], 2)
    counts = board.word_counts()
    board.record(on=False)
    assert machine.checked > 1000 and min(counts.latency, counts.refresh, counts.pause) > 0, f"{counts}, seed {SEED}"


def test_cycles_are_those_of_the_model_and_of_the_memory(board: Watched, weights: IntegerWeights) -> None:
    """Always, cycles = words + withheld + not asked, and cycles <= model + withheld + ROW_WAY for each token. If the
    memory limits the speed, cycles = model + withheld. Otherwise only the latency of a row adds cycles."""
    program = lay_out(weights, board.config)
    model, sizes = token_cycles(MODEL, board.config), program.sizes
    print(f"\n{board.config.name}: {model.cycles:,} cycles by the model, {model.words:,} words")
    print("timing\tcycles\twords\tlatency\trefresh\tpause\tnot asked\tchip: memory\toperations\tgains\ttrit FIFO")
    for name, timing in TIMINGS.items():
        session = board.session(program, timing)
        run, ends = board.run_watched(session, [Feed(7, fresh=True)], TOKENS)
        begin, end, tokens = int(ends[WARM]), int(ends[-1]), TOKENS - 1 - WARM
        counts = board.between(begin, end)[0]
        chip = dict(zip(RECORD_COUNTERS, session.counters().sum(axis=0)[len(LANE_COUNTERS) :], strict=True))
        figures = (counts.words, counts.latency, counts.refresh, counts.pause, counts.not_asked)
        print(
            name,
            f"{(end - begin) / tokens:,.0f}",
            *(f"{figure / tokens:,.0f}" for figure in figures),
            sep="\t",
            end="\t",
        )
        print(*(f"{chip[cause]:,}" for cause in RECORD_COUNTERS[1:]), sep="\t")

        where = f"{name}, {counts}, seed {SEED}"
        assert end - begin == counts.words + counts.withheld + counts.not_asked, where
        bound = model.cycles == model.words  # the memory limits the speed
        # Words are read ahead at the end of a token, so the count may differ by the words of a row or of a FIFO.
        slack = 2 * sizes.row_words if bound else fifo_depth(board.shape)
        assert abs(counts.words - tokens * model.words) <= slack, where
        assert end - begin - counts.withheld <= tokens * (model.cycles + ROW_WAY) + 2 * sizes.row_words, where
        assert sum(chip.values()) == run.cycles and abs(chip["words"] - sizes.record_words) <= sizes.row_words, where
        if bound:
            assert counts.not_asked == 0, where
            if timing.refresh_interval == 0:
                assert (run.cycles, counts.withheld) == (model.cycles, 0), where
        elif timing.refresh_interval == 0:  # only the latency of the row adds cycles
            assert 0 <= run.cycles - model.cycles - (timing.latency_most - 1) <= ROW_WAY, where


@pytest.mark.parametrize(
    "board",
    [pytest.param(name, marks=() if name == QUICK[0] else pytest.mark.slow) for name in MACHINES],
    indirect=True,
)
def test_front_door_and_back_door_are_equal(board: Watched) -> None:
    """With 1 MiB, the back door finds words that came over the link, and a load finds the words of the back door."""
    word_bytes = board.memory.word_bytes
    words = np.random.default_rng(SEED).integers(0, 256, ((1 << 20) // word_bytes, word_bytes), dtype=np.uint8)
    first = board.config.memory_words // 2 - 77 if board.config.name in QUICK else 0
    words = words[: board.memory.words - first]
    board.reset()
    board.set_word_timing(TIMINGS["dram, 75 MHz"])
    client = Client(board)
    load_sections(client, [(first, words)])
    np.testing.assert_array_equal(board.peek(first, len(words)), words)
    other = words[::-1]
    put_sections(client, board, [(first, other)])
    before = board.cycles
    load_sections(client, [(first, other)])  # the loader reads checksums, and finds nothing to send
    assert board.cycles - before < 1.1 * words.size + 50_000
    np.testing.assert_array_equal(board.peek(first, len(words)), other)


class Forgetful:
    """A back door that flips a bit in the last word. If ``seen``, reading back through the back door shows this bit."""

    def __init__(self, board: SimulatedBoard, seen: bool) -> None:
        self.board, self.seen = board, seen
        self.words = np.zeros((0, board.memory.word_bytes), np.uint8)

    def poke(self, address: int, words: np.ndarray) -> None:
        self.words = words
        wrong = words.copy()
        wrong[-1, 0] ^= 1
        self.board.poke(address, wrong)

    def peek(self, address: int, count: int) -> np.ndarray:
        return self.board.peek(address, count) if self.seen else self.words[address : address + count]  # no words yet


def test_a_back_door_that_loses_words(board: Watched) -> None:
    words = np.arange(8 * board.memory.word_bytes, dtype=np.uint8).reshape(8, -1)
    board.reset()
    for seen, message in ((True, "The memory does not keep the 8 words that the"), (False, "something else than")):
        with pytest.raises(LuternError, match=message):
            put_sections(Client(board), Forgetful(board, seen), [(0, words)])


def test_a_memory_that_answers_wrongly(board: Watched, weights: IntegerWeights) -> None:
    """A memory that stops to answer or swaps words ends a run, and the message names the fault. A reset repairs
    this."""
    program = lay_out(weights, board.config)
    timing = WordTiming(60, 60, pause_share=0.9, seed=SEED)  # the memory is so slow that jobs always wait
    for fault, message in (("silent_from", "its memory does not answer"), ("swap_from", "words that were not asked")):
        session = board.session(program, timing)
        board.set_word_timing(replace(timing, **{fault: 20}))
        with pytest.raises(RefusedError, match=message):
            session.run([Feed(7, fresh=True)], 8)
    session = board.session(program, timing)
    assert session.run([Feed(7, fresh=True)], 3).tokens == GoldenSession(weights).run([Feed(7, fresh=True)], 3).tokens


def decode_and_count(board: Watched, model: ModelConfig, singles: int) -> None:
    """Make ``singles`` runs of one token and one run of two tokens. The logits of every run equal the integer model's.
    The last token takes the cycles of the cycle model plus those in which the memory withheld a word."""
    weights = integer_weights(random_checkpoint(model, seed=SEED))
    program, golden = lay_out(weights, board.config), GoldenSession(weights)
    session = board.session(program, TIMINGS["dram, 75 MHz"])
    token, begun = 65, time.monotonic()
    for step in range(singles + 1):
        feed, count = Feed(token, fresh=step == 0), 2 if step == singles else 1
        run, ends = board.run_watched(session, [feed], count, NOTE_EVERY)
        assert run.tokens == golden.run([feed], count).tokens, f"run {step}"
        ours, theirs = session.logits(), golden.logits()
        np.testing.assert_array_equal(ours.sums, theirs.sums[ours.tokens], err_msg=f"run {step}")
        assert ours.scale == theirs.scale, f"run {step}"
        token = run.tokens[-1][0]
    cycles, expected = int(ends[1] - ends[0]), token_cycles(model, board.config)
    counts = board.between(int(ends[0]), int(ends[1]))[0]
    print(
        f"\n{program.trits:,} trits, {singles + 2} tokens equal; {cycles:,} cycles, {expected.cycles:,} by the model, "
        f"withheld {counts.withheld:,}: {counts}; {time.monotonic() - begun:.0f} s, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )
    assert abs(cycles - run.cycles) <= NOTE_EVERY, f"{run}, {cycles} by the writes of h"
    assert expected.cycles == expected.words  # the memory limits the speed
    assert abs(cycles - expected.cycles - counts.withheld) <= NOTE_EVERY, f"{counts}, seed {SEED}"


@pytest.mark.parametrize("board", ["stream-x64"], indirect=True)
def test_two_layers_of_370m(board: Watched) -> None:
    decode_and_count(board, SLICE, 0)


@pytest.mark.slow
def test_370m() -> None:
    """The whole 370M in 134 MB computes 9 tokens. `pytest -s` prints the figures."""
    with Watched(preset("stream-x64")) as board:
        decode_and_count(board, PUBLISHED["370m"], 7)
