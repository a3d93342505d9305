"""Machines whose state is in the memory of words, on the simulated board: values, conversations, cycles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lutern.firmware.conversations import Sampling, converse
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Run, Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.lockstep import LockStep
from lutern.sim.port_memory import WordTiming

SEED = 11
BURST = 8
"""The maximum number of words that are read ahead at the end of a step but not at its start, and the maximum number of
cycles that a row waits."""
MODELS = (
    ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48),
    ModelConfig(vocab_size=37, hidden_size=64, num_hidden_layers=2, intermediate_size=80),
    ModelConfig(vocab_size=64, hidden_size=24, num_hidden_layers=3, intermediate_size=40),
)
EIGHT = preset("tiny").with_(
    name="eight-in-memory",
    source="streamed",
    state="memory",
    rows=10,
    results_per_cycle=2,
    codes_per_cycle=4,
    streams=8,
    word_bytes=4,
    memory_words=1 << 14,
    max_width=80,
    trit_fifo_words=64,
    gain_fifo_words=128,
)
"""A machine in which a place of S has two words, and a vector has 40 beats, which is no power of two."""
ONE = EIGHT.with_(name="one-in-memory", streams=1, rows=5, results_per_cycle=1, word_bytes=2)
WIDE = EIGHT.with_(name="wide-in-memory", streams=2, rows=20, columns=16, results_per_cycle=4, word_bytes=64)


@pytest.fixture(scope="module")
def eight() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(Top(EIGHT)) as board:
        yield board


def locked(board: SimulatedBoard, config: HwConfig, model: ModelConfig) -> LockStep:
    """Return a session in which every value is checked."""
    weights = integer_weights(random_checkpoint(model, SEED))
    return LockStep(Session(Client(board), lay_out(weights, config)), board, weights)


def check_figures(machine: LockStep, run: Run, streams: int, where: str, *, chained: bool = False) -> None:
    """Check the cycles and words of the last step of a run. This step loads no layer for a next step."""
    program = machine.session.program
    sizes, config = program.sizes, program.hw_config
    expected = token_cycles(program.model_config, config, streams, chained=chained)
    at_rest = 0 if chained else streams * sizes.state_words
    state = sizes.pass_words(streams, chained=chained) - sizes.record_words - streams * sizes.row_words
    assert expected.cycles - state - 1 <= run.cycles <= expected.cycles + BURST * streams, where
    fewer = expected.words - at_rest - run.words
    ahead = config.trit_fifo_words + config.gain_fifo_words if chained else BURST
    assert -BURST * streams <= fewer <= (streams - 1) * sizes.row_words + ahead, where
    if expected.cycles == expected.words:  # the memory idles for at most the time of one burst per stream
        assert expected.cycles - at_rest <= run.cycles <= run.words + BURST * streams, where


def check_machine(board: SimulatedBoard, config: HwConfig, model: ModelConfig) -> None:
    """Check runs of one stream, of some streams and of all streams, and chained runs, with states in different
    slots."""
    machine = locked(board, config, model)
    for streams in sorted({1, min(2, config.streams), config.streams}):
        where = f"{config.name}, {streams} streams, {model}, seed {SEED}"
        slots = [(3 * stream + streams) % machine.slots for stream in range(streams)]
        machine.run([Feed(3 + stream, slot, fresh=True) for stream, slot in enumerate(slots)], 2)
        run = machine.run([Feed(5 + stream, slot) for stream, slot in enumerate(reversed(slots))], 3)
        check_figures(machine, run, streams, where)
        if streams > 1:
            machine.run([Feed(3 + place, slots[0]) for place in range(streams)], chained=True)
            run = machine.run([Feed(2 + place, slots[0]) for place in range(streams)], chained=True)
            check_figures(machine, run, streams, f"chained, {where}", chained=True)
    assert machine.checked > 1000


@pytest.mark.parametrize("model", MODELS, ids=lambda model: f"d{model.hidden_size}")
def test_values_and_cycles(eight: SimulatedBoard, model: ModelConfig) -> None:
    check_machine(eight, EIGHT, model)


@pytest.mark.slow
@pytest.mark.parametrize("config", [ONE, WIDE], ids=lambda config: config.name)
def test_other_machines(config: HwConfig) -> None:
    with SimulatedBoard(Top(config)) as board:
        for model in MODELS:
            check_machine(board, config, model)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["port", "sdram"])
def test_state_in_a_dram(memory: str) -> None:
    """Every value is right if words and S come late because of latency, refreshes and, at a port, random pauses."""
    config = EIGHT.with_(name=f"eight-in-{memory}", memory=memory)
    timing = WordTiming.dram(75e6, latency_least=60, latency_most=200, busy_share=0.3, pause_share=0.2, seed=SEED)
    with SimulatedBoard(simulated(config), word_timing=timing) as board:
        for model in MODELS:
            machine = locked(board, config, model)
            for streams in (1, 2, 8):
                slots = [(3 * stream + streams) % machine.slots for stream in range(streams)]
                machine.run([Feed(3 + stream, slot, fresh=True) for stream, slot in enumerate(slots)], 2)
                machine.run([Feed(5 + stream, slot) for stream, slot in enumerate(reversed(slots))], 3)
                if streams > 1:
                    machine.run([Feed(3 + place, slots[0]) for place in range(streams)], chained=True)
            assert machine.checked > 1000


def test_conversations_in_more_slots_than_streams(eight: SimulatedBoard) -> None:
    """Twelve conversations start and continue in turns, and their tokens equal those of the integer model."""
    machine = locked(eight, EIGHT, MODELS[0])
    assert machine.slots > 12 > machine.streams
    for slot in range(12):
        machine.run([Feed(slot + 1, slot, fresh=True)], 2)
    for first in (4, 0, 2):
        slots = range(first, first + 8)
        machine.run([Feed(slot, slot) for slot in slots], 2)
    prompts = [[3], [1, 2, 3, 4, 5, 6, 7, 8, 9], [7, 7, 7]]
    golden = GoldenSession(machine.golden.weights, 8, 8)
    written = [list(converse(one, prompts, 4, Sampling())) for one in (machine, golden)]
    assert [piece.tokens for piece in written[0]] == [piece.tokens for piece in written[1]]


def test_a_new_session_uses_no_words_of_an_earlier_run(eight: SimulatedBoard) -> None:
    """After a SETUP, or with another model, no state word in flight from an earlier run reaches the next run."""
    for model in (MODELS[0], MODELS[2]):
        machine = locked(eight, EIGHT, model)
        machine.run([Feed(1, 0, fresh=True), Feed(2, 1, fresh=True)], 3)
        machine.session.set_up()
        machine.run([Feed(1, 1), Feed(2, 0)], 2)
