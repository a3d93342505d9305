"""The simulated board with words in SDRAM: two clocks in any ratio, the back door, and the march test by command."""

from __future__ import annotations

import numpy as np
import pytest

from lutern.api.models import Model
from lutern.firmware.link import Client, RefusedError
from lutern.firmware.loader import load_sections
from lutern.firmware.memory_test import centre_phase, march
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.firmware.slip import encode_frame
from lutern.hw.config import HwConfig
from lutern.hw.memory import any_part
from lutern.hw.presets import preset
from lutern.hw.protocol import FEED, MEMORY_TEST, PHASE, PHASE_DONE, RUN, Opcode
from lutern.hw.top import Top
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.dram import DramTop
from lutern.sim.lockstep import LockStep

CONFIG = HwConfig(
    "sdram",
    rows=4,
    columns=4,
    streams=2,
    codes_per_cycle=2,
    source="streamed",
    memory="sdram",
    word_bytes=4,
    memory_words=1 << 21,
    max_width=64,
    max_state=256,
    max_vocab=64,
)
MODEL = ModelConfig(vocab_size=50, hidden_size=48, num_hidden_layers=2, intermediate_size=64)
RATIOS = [(1, 1), (4, 3), (3, 4), (2, 1), (1, 3)]


def new_board(**options: object) -> SimulatedBoard:
    return SimulatedBoard(DramTop(CONFIG), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", RATIOS, ids=[f"{a}_{b}" for a, b in RATIOS])
def test_tokens_with_any_clocks(ratio: tuple[int, int]) -> None:
    weights = integer_weights(random_checkpoint(MODEL, seed=4))
    program = lay_out(weights, CONFIG)
    with new_board(memory_clock=ratio) as board:
        machine = LockStep(Session(Client(board), program), board, weights)
        for slot in (0, 1):
            machine.run([Feed(7, slot, fresh=True)], 3)
        machine.run([Feed(3, 0), Feed(4, 1)], 4)
        assert machine.checked > 1000


def test_reset_in_mid_token() -> None:
    """A reset keeps the words, and the next run equals a run after a cold start."""
    weights = integer_weights(random_checkpoint(MODEL, seed=5))
    program = lay_out(weights, CONFIG)
    golden = GoldenSession(weights, 1, 1).run([Feed(9, fresh=True)], 5).tokens
    draw = np.random.default_rng(6)
    command = RUN.pack(count=5, temperature=0, streams=1, chained=0)
    command += FEED.pack(token=9, state_base=0, fresh=1, seed=1)
    with new_board(memory_clock=(4, 3)) as board:
        session = Session(Client(board), program)
        cycles = session.run([Feed(9, fresh=True)], 5).cycles
        board.record("codes")
        for at in draw.integers(500, 4 * cycles, 8).tolist():
            board.taps("codes", clear=True)
            board.write(encode_frame(Opcode.RUN, 0, command))
            answered = board.run(at)
            assert len(board.taps("codes")) and not answered, f"a run must be in flight after {at} cycles"
            board.reset()
            session.set_up()
            assert session.run([Feed(9, fresh=True)], 5).tokens == golden, f"reset after {at} cycles"


def test_front_door_and_back_door_are_equal() -> None:
    """With 1 MiB, the back door finds words that came over the link, and a load finds the words of the back door."""
    words = np.random.default_rng(3).integers(0, 256, (1 << 18, 4), dtype=np.uint8)
    first = (1 << 21) - len(words) - 77
    with new_board(memory_clock=(4, 3)) as board:
        load_sections(Client(board), [(first, words)])
        np.testing.assert_array_equal(board.peek(first, len(words)), words)
    with new_board() as board:
        load_sections(Client(board), [(first, words)], door=board)
        assert board.cycles < 100_000  # the chip summed only the beginning and the end
        before = board.cycles
        load_sections(Client(board), [(first, words)])  # the loader reads checksums, and finds nothing to send
        assert board.cycles - before < 1.1 * words.size + 50_000
        np.testing.assert_array_equal(board.peek(first, len(words)), words)
        with pytest.raises(LuternError, match="262,144 words of 4 bytes at word 2,000,000 do not fit the"):
            board.poke(2_000_000, words)


@pytest.mark.parametrize("over_link", [False, True], ids=["direct", "link"])
def test_generate_loads_by_either_door(over_link: bool) -> None:
    """`lutern generate` loads through the back door in almost no cycles, or over the link. Both ways give right
    values."""
    model = Model("random", random_checkpoint(MODEL, seed=7))
    size = lay_out(model.weights, CONFIG).words.size
    with model.simulate(CONFIG, check=True, over_link=over_link) as machine:
        checked = machine.machine
        assert isinstance(checked, LockStep)
        assert (checked.board.cycles > 2 * size) == over_link
        assert checked.run([Feed(5, fresh=True)], 3).tokens and machine.checked > 1000


def test_a_second_model_by_the_back_door() -> None:
    """A second model is loaded while the chip reads the first model ahead. The chip stops, and uses no old word."""
    with new_board(memory_clock=(4, 3)) as board:
        for seed in (8, 9):
            weights = integer_weights(random_checkpoint(MODEL, seed=seed))
            session = Session(Client(board), lay_out(weights, CONFIG), door=board)
            assert LockStep(session, board, weights).run([Feed(9, fresh=True)], 4).tokens
            board.run(2000)


def test_march_and_phase_commands() -> None:
    with new_board() as board:
        client = Client(board)
        result = march(client, CONFIG, 1000, 3000)
        assert result.errors == 0 and result.cycles < 16 * 3000 + any_part(32).power_up
        assert board.peek(999, 1).sum() == 0 and board.peek(4000, 1).sum() == 0
        places = [
            PHASE_DONE.unpack(client.transact(Opcode.PHASE, PHASE.pack(steps=steps)))["place"]
            for steps in (5, -8, 0, 3)
        ]
        assert places == [5, -3, -3, 0]
        window = centre_phase(client, CONFIG, words=64, most=2)
        assert (window.first, window.middle, window.last) == (-2, 0, 2)
        for first, count, reason in ((0, 0, "the count is 0"), (1 << 21, 1, "beyond the end"), (1, 1 << 21, "beyond")):
            with pytest.raises(RefusedError, match=reason):
                client.transact(Opcode.MEMORY_TEST, MEMORY_TEST.pack(first=first, count=count))
    with SimulatedBoard(Top(preset("tiny"))) as board:
        for opcode, payload in ((Opcode.MEMORY_TEST, bytes(8)), (Opcode.PHASE, bytes(2))):
            with pytest.raises(RefusedError, match="it has no hardware for this command"):
                Client(board).transact(opcode, payload)
