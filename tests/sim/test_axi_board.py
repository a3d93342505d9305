"""Machines with AXI4 masters, over memories like DDR4 and HBM2, equal the integer model.

The tests also count which fraction of the words that the memories offer is taken, and `pytest -s` prints this fraction.
The tests of whole models of 1.3 and 2.7 billion parameters are slow.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutern.firmware.link import Client
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.top import AxiTop
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import PUBLISHED, large_checkpoint
from lutern.sim.axi_board import AxiBoard
from lutern.sim.board import SimulatedBoard
from lutern.sim.lockstep import LockStep
from lutern.sim.loopback import Loopback
from lutern.sim.port_memory import WordCounts, WordTiming
from lutern.sim.verilate import verilate
from watched import Watch

SEED = 22
MODEL = ModelConfig(vocab_size=50, hidden_size=96, num_hidden_layers=2, intermediate_size=160)
DDR4 = WordTiming.dram(300e6, latency_least=60, latency_most=200, seed=SEED)
"""A read takes 200 to 667 ns. Each port refreshes for 350 ns in every 7.8 us, at a time that differs between ports."""
RANDOM = replace(DDR4, busy_share=0.3, pause_share=0.2)
TWO_PORTS = preset("axi-x128").with_(memory_ports=2, memory_words=1 << 23, top_k=0)
"""A machine with beats of 128 bits over two ports of 64 bits. The preset `axi-x128` has one port."""
EIGHT = TWO_PORTS.with_(name="eight", state="memory", streams=8, max_width=256, max_state=512, max_vocab=64)
WIDE = preset("axi-x512").with_(top_k=0)
"""A machine that keeps all logits (``top_k`` is 0), so that the test compares them all, and no cycles depend on
values."""
HBM = preset("hbm-x4096").with_(top_k=0)
NOTE_EVERY = 200
"""Cycles between two readings of the counts. An event of these cycles may count for the token before or after."""
OFFERED = 0.99
"""The machine must take at least this fraction of the words that the memory of a port offers."""


class Watched(Watch, AxiBoard):
    """A board that stores the counts of its ports at regular cycles."""

    def counts(self) -> list[WordCounts]:
        return [self.port_counts(index) for index in range(self.config.memory_ports)]

    def session(self, program: Program, timing: WordTiming) -> Session:
        """Reset the board, and return a new session."""
        self.reset()
        self.forget()
        self.set_word_timing(timing)
        return Session(Client(self, timeout_s=600.0, token_timeout_s=600.0), program, door=self)


def library_of(config: HwConfig) -> Path:
    """Return the library of a simulation whose state can be saved."""
    return verilate(AxiTop(config), savable=True)


@pytest.fixture(scope="module")
def board() -> Iterator[Watched]:
    with Watched(TWO_PORTS, library=library_of(TWO_PORTS)) as board:
        yield board


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(large_checkpoint(MODEL, SEED))


def test_equal_to_the_integer_model(board: Watched, weights: IntegerWeights) -> None:
    """Every h, S and code, the tokens and the logits are equal, with refreshes and random pauses on all channels."""
    machine = LockStep(board.session(lay_out(weights, board.config), RANDOM), board, weights)
    machine.run([Feed(7, fresh=True)], 3)
    machine.run([Feed(3)], 2)
    board.record(on=False)
    assert machine.checked > 3000, f"seed {SEED}"
    for index, counts in enumerate(board.counts()):
        assert min(counts.latency, counts.refresh, counts.pause) > 0, f"port {index}: {counts}, seed {SEED}"


def decode(board: Watched, model: ModelConfig, tokens: int, saved: Path | None = None) -> None:
    """Check that every h, S, code and logit of ``tokens`` tokens is equal. Then chip, cycle model and bus count the
    cycles of one more token. The state is ``saved`` after each token, so that an interrupted test can continue."""
    begun = time.monotonic()
    weights = integer_weights(large_checkpoint(model, SEED))
    program = lay_out(weights, board.config)
    session = board.session(program, DDR4)
    made, begun = time.monotonic() - begun, time.monotonic()
    machine = LockStep(session, board, weights, FastModel)
    token = 65 % model.vocab_size
    if saved and saved.exists():
        with contextlib.suppress(LuternError):  # the file belongs to another simulation, or is damaged
            token = int(machine.restore(saved)["token"])
    first = board.cycles
    for step in range(machine.steps, tokens):
        token = machine.run([Feed(token, fresh=step == 0)]).tokens[0][0]
        if saved:
            machine.save(saved, token=np.array(token))
    board.record(on=False)
    took, simulated = time.monotonic() - begun, board.cycles - first
    run, ends = board.run_watched(session, [Feed(token)], 2, NOTE_EVERY)
    cycles, expected = int(ends[1] - ends[0]), token_cycles(model, board.config)
    of_ports = board.between(int(ends[0]), int(ends[1]))
    print(
        f"\n{board.config.name}: {program.trits:,} trits, {tokens} tokens, {machine.checked:,} values equal; made in "
        f"{made:.0f} s, {took:.0f} s for {simulated:,} cycles, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB\n"
        f"a token: {run.cycles:,} cycles by the chip, {expected.cycles:,} by the model, {cycles:,} by the bus; "
        f"{board.config.clock_hz / run.cycles:.1f} tokens/s at {board.config.clock_hz / 1e6:.0f} MHz"
    )
    print("port\tcycles\twords\tlatency\trefresh\tpause\tnot asked\tof what it offers")
    for index, counts in enumerate(of_ports):
        offered = counts.words / (cycles - counts.refresh - counts.pause)
        figures = (counts.words, counts.latency, counts.refresh, counts.pause, counts.not_asked)
        print(index, f"{cycles:,}", *(f"{figure:,}" for figure in figures), f"{offered:.2%}", sep="\t")
        where = f"port {index}: {counts}, {cycles} cycles, seed {SEED}"
        assert abs(cycles - counts.words - counts.withheld - counts.not_asked) <= NOTE_EVERY, where
        assert offered >= OFFERED, where
    assert abs(cycles - run.cycles) <= NOTE_EVERY, f"{run}, {cycles} by the writes of h"
    assert expected.cycles <= run.cycles, "the machine must not be faster than the cycle model"


def slice_of(size: str, layers: int = 2) -> ModelConfig:
    """Return the shape of the first layers of a released model, with a small vocabulary."""
    return replace(PUBLISHED[size], num_hidden_layers=layers, vocab_size=256)


def test_two_layers_of_1_3b(board: Watched) -> None:
    decode(board, slice_of("1.3b"), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "tokens"), [("1.3b", 8), ("2.7b", 2)])
def test_whole_models(size: str, tokens: int, request: pytest.FixtureRequest) -> None:
    """Models of 1.3 and 2.7 billion parameters run from four ports of 128 bits. An interrupted test continues after the
    last token that was equal."""
    saved = request.config.cache.mkdir("whole-models") / f"{size}-{SEED}.npz"
    with Watched(WIDE, library=library_of(WIDE)) as board:
        decode(board, PUBLISHED[size], tokens, saved)
    saved.unlink()


@pytest.mark.slow
def test_eight_streams_with_their_state_in_the_memory(weights: IntegerWeights) -> None:
    """Every h, S and code of eight conversations is equal, while writes of S use the same ports as the weights."""
    with Watched(EIGHT) as board:
        machine = LockStep(board.session(lay_out(weights, EIGHT), RANDOM), board, weights)
        for streams in (1, 2, 8):
            slots = [(3 * stream + streams) % machine.slots for stream in range(streams)]
            machine.run([Feed(3 + stream, slot, fresh=True) for stream, slot in enumerate(slots)], 2)
            machine.run([Feed(5 + stream, slot) for stream, slot in enumerate(reversed(slots))], 3)
        assert machine.checked > 10_000 and min(counts.writes for counts in board.counts()) > 0, f"seed {SEED}"


@pytest.mark.slow
def test_two_layers_of_2_7b_from_hbm() -> None:
    with Watched(HBM) as board:
        machine: HwConfig = board.config
        assert machine.word_bits == 4096 and machine.memory_ports == 16
        decode(board, slice_of("2.7b"), 2)


def test_saved_states(board: Watched, weights: IntegerWeights, tmp_path: Path) -> None:
    """Another board continues from a state that was saved between two runs. All checked values, all registers and all
    cycles are equal. A saved state that is damaged, or that belongs to another simulation, changes nothing."""
    program, saved, later = lay_out(weights, board.config), tmp_path / "saved.npz", tmp_path / "later.npz"
    machine = LockStep(board.session(program, RANDOM), board, weights)
    machine.run([Feed(7, fresh=True)], 2)
    machine.save(saved, note=np.arange(3))
    with Watched(board.config, library=library_of(board.config)) as other:
        same = LockStep(other.session(program, RANDOM), other, weights)
        assert same.restore(saved)["note"].tolist() == [0, 1, 2] and same.checked == machine.checked
        assert other.cycles == board.cycles
        assert same.run([Feed(4)], 2).tokens == machine.run([Feed(4)], 2).tokens, f"seed {SEED}"
        board.run(777)  # the simulation stops while the machine reads ahead
        board.save(saved)
        other.restore(saved)
        for each, path in ((board, saved), (other, later)):
            each.run(1234)
            each.save(path)
        with np.load(saved) as first, np.load(later) as second:
            assert all(np.array_equal(first[name], second[name]) for name in first), f"seed {SEED}"
        content, cycles = bytearray(saved.read_bytes()), other.cycles
        with np.load(later) as kept:
            np.savez(later, **{**kept, "key": kept["key"] ^ 1})
        content[len(content) // 2] ^= 1
        saved.write_bytes(content)
        for path, text in ((saved, "damaged"), (later, "another simulation"), (tmp_path / "none", "not there")):
            with pytest.raises(LuternError, match=text):
                other.restore(path)
        assert other.cycles == cycles
    board.record(on=False)
    with (
        SimulatedBoard(Loopback(preset("tiny"))) as plain,
        pytest.raises(LuternError, match="was not compiled so that"),
    ):
        plain.save(saved)


def test_checks_can_fail(board: Watched, weights: IntegerWeights) -> None:
    """The checks find a flipped bit in a port's memory. The host loads the words again, and the run is repeated."""
    session = board.session(lay_out(weights, board.config), DDR4)
    expected = session.run([Feed(7, fresh=True)], 2).tokens
    place = session.program.sections[0][0] + 20
    word = board.peek(place, 1)
    word[0, 12] ^= 4
    board.poke(place, word)
    assert session.run([Feed(7, fresh=True)], 2).tokens == expected
    assert len(session.repairs) == 1 and "was damaged in memory" in session.repairs[0], session.repairs
    assert np.array_equal(board.peek(place, 1)[0], session.program.words[place])
