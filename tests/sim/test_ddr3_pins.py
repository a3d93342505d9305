"""The simulated board through the cells of the PHY and the pins of a DDR3 part: leveling, faults of a board, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import typer

from lutern.cli import selftest as cli_selftest
from lutern.firmware.leveling import Setting, level_range, level_reads
from lutern.firmware.link import Client
from lutern.firmware.memory_test import check_size, march
from lutern.firmware.opening import open_session
from lutern.firmware.program import lay_out
from lutern.firmware.selftest import check_decode, check_memory
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, timings_for
from lutern.hw.presets import preset
from lutern.hw.protocol import LEVEL_DELAYS, Opcode
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.ddr3_pins import Ddr3PinsTop, wires_layout

SEED = 21
CONFIG = preset("ddr3-x16").with_(memory_words=1 << 14)
MODEL = ModelConfig(vocab_size=50, hidden_size=64, num_hidden_layers=2, intermediate_size=80)
ROW_BITS = 4
LEAD = 6
"""Ticks from the time when the gate opens with delay 0 to the first strobe, if ``flight`` is 0."""
PREAMBLE = 4


def small_part(config: HwConfig) -> Ddr3Timings:
    """Return the timings of a part with few rows and a short initialization."""
    t = timings_for(config)
    assert isinstance(t, Ddr3Timings)
    limit = (1 << ROW_BITS) * t.refi + 16 * t.refi
    return t.with_(row_bits=ROW_BITS, refresh_limit=limit, reset_low=60, wake=80, zq_init=100, dll_lock=120)


def set_wires(board: SimulatedBoard, flight: tuple[int, int] = (0, 0), cut: int = 0, absent: int = 0) -> None:
    """Set the wires and reset the board, which loses its settings but keeps its words."""
    layout = wires_layout(small_part(CONFIG))
    value = layout.const({"flight": list(flight), "cut": cut, "absent": absent})
    board.set_wires(value.as_bits())
    board.reset()


def expected(flight: int) -> frozenset[Setting]:
    """Return the settings that must pass, in which the gate opens during the preamble. With delays of 4 and more the
    words come one period later, which needs a slip of two beats."""
    delays = [delay for delay in range(LEVEL_DELAYS) if 1 <= LEAD + flight - delay <= PREAMBLE]
    return frozenset(Setting(delay, 2 if delay >= 4 else 0) for delay in delays)


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(Ddr3PinsTop(CONFIG, timings=small_part(CONFIG), words_only=True)) as board:
        yield board


@pytest.mark.parametrize("flights", [(0, 0), (2, 1), (0, 5)], ids=str)
def test_each_byte_finds_its_window(board: SimulatedBoard, flights: tuple[int, int]) -> None:
    """With the settings that leveling chooses, words over the link reach the part and are read back correctly."""
    set_wires(board, flights)
    client = Client(board)
    found = level_reads(client, CONFIG)
    assert [level.passed for level in found.of_bytes] == [expected(flight) for flight in flights]
    assert all(level.chosen in level.passed for level in found.of_bytes)
    assert check_memory(client, CONFIG, 300, SEED).startswith("300 words of 16 bytes")
    patterns = np.random.default_rng(SEED).integers(0, 256, (300, CONFIG.word_bytes), dtype=np.uint8)
    np.testing.assert_array_equal(board.peek(0, 300), patterns ^ 0xFF, err_msg=f"seed {SEED}")
    assert march(client, CONFIG, 1000, 500).errors == 0
    check_size(client, CONFIG)


def test_leveling_overwrites_the_end_of_the_memory(board: SimulatedBoard) -> None:
    """Leveling overwrites only the end of the memory. A reset clears the settings, but no words."""
    set_wires(board, (1, 0))
    words = np.random.default_rng(SEED).integers(0, 256, (CONFIG.memory_words, CONFIG.word_bytes), dtype=np.uint8)
    board.poke(0, words)
    level_reads(Client(board), CONFIG)
    first, _ = level_range(CONFIG, 1024)
    np.testing.assert_array_equal(board.peek(0, first), words[:first], err_msg=f"seed {SEED}")
    assert march(Client(board), CONFIG, first, 32).errors == 0
    board.reset()
    np.testing.assert_array_equal(board.peek(0, first), words[:first], err_msg=f"seed {SEED}")
    assert march(Client(board), CONFIG, first, 32).errors


def test_a_byte_without_a_window(board: SimulatedBoard) -> None:
    set_wires(board, (1, 1), cut=0b10)
    with pytest.raises(LuternError, match=r"^no setting reads byte 1 of the DDR3's data pins correctly: 32 settings"):
        level_reads(Client(board), CONFIG)
    set_wires(board, (6, 1))  # no delay is long enough for this strobe
    with pytest.raises(LuternError, match=r"^no setting reads byte 0 of the DDR3's data pins correctly: 32 settings"):
        level_reads(Client(board), CONFIG)


def test_a_part_that_does_not_answer(board: SimulatedBoard) -> None:
    set_wires(board, cut=0b11)
    with pytest.raises(LuternError, match=r"^the DDR3 part does not answer: 32 settings were tried"):
        level_reads(Client(board), CONFIG)


def test_a_part_of_half_the_rows(board: SimulatedBoard) -> None:
    """The march test fails at the first word, because another address overwrote it. The message states the size."""
    set_wires(board, absent=1 << ROW_BITS - 1)
    client = Client(board)
    level_reads(client, CONFIG)
    with pytest.raises(
        LuternError, match=r"^the memory part repeats after 0\.125 MiB, but the machine ddr3-x16 needs "
    ):
        check_size(client, CONFIG)
    result = march(client, CONFIG)
    assert result.errors and result.address == 0 and result.wanted ^ result.got == 0x20002000


class Counting(Client):
    """A client that counts the frames of each opcode."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board)
        self.counts, self.writes = dict.fromkeys(Opcode, 0), 0

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        self.counts[opcode] += 1
        return super().transact(opcode, payload, timeout_s=timeout_s)

    def transact_all(self, opcode: Opcode, payloads: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        for answer in super().transact_all(opcode, payloads):
            self.writes += 1
            yield answer


@pytest.fixture(scope="module")
def whole() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(Ddr3PinsTop(CONFIG, timings=small_part(CONFIG)), memory_clock=(4, 3)) as board:
        yield board


@pytest.mark.slow
def test_sessions_with_a_board(whole: SimulatedBoard) -> None:
    """Each session levels, and the chip's tokens are right. The second session finds the image and loads nothing."""
    weights = integer_weights(random_checkpoint(MODEL, SEED))
    set_wires(whole, (2, 3))
    for turn in range(2):
        client = Counting(whole)
        session = open_session(client, weights)
        assert check_decode(session, GoldenSession(weights), 4).startswith("4 tokens and their logits equal")
        assert (client.writes > 0) == (turn == 0)
        assert client.counts[Opcode.LEVEL] == 99 and client.counts[Opcode.MEMORY_TEST] == 33, f"turn {turn}"
        whole.reset()


class Port:
    """The simulated board with the interface of an open port."""

    baud = 3_000_000

    def __init__(self, board: SimulatedBoard) -> None:
        self.write, self.read = board.write, board.read


@pytest.mark.slow
def test_selftest(whole: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The selftest levels each byte, reports a part that is too small, and ends if a byte is cut off."""
    monkeypatch.setattr(cli_selftest, "open_port", lambda *given: nullcontext(Port(whole)))

    def lines() -> list[str]:
        with suppress(typer.Exit):
            cli_selftest.selftest("here", words=300)
        return capsys.readouterr().out.splitlines()

    set_wires(whole, (1, 2))
    good = lines()
    names = ("link", "level", "march", "memory", "decode")
    assert [line[:12] for line in good] == [f"pass  {name:<6}" for name in names], good
    assert good[1] == (
        "pass  level   byte 0: slip 0 00010000, slip 2 00001110, takes delay 4 of slip 2; byte 1: slip 2 00001111, "
        "takes delay 5 of slip 2; 1,024 words, no error"
    )
    set_wires(whole, absent=1 << ROW_BITS - 1)
    small = lines()
    assert small[2].startswith("fail  march   the memory part repeats after 0.125 MiB, but the machine ddr3-x16 needs")
    set_wires(whole, cut=0b10)
    bad = lines()
    assert [line[:12] for line in bad] == ["pass  link  ", "fail  level "]
    assert "no setting reads byte 1 of the DDR3's data pins correctly: 32 settings were tried" in bad[1]


@pytest.mark.slow
def test_370m() -> None:
    """The synthetic 370M computes two tokens, and 68.9 MB per token pass the pins. `pytest -s` shows the progress."""
    config = preset("ddr3-x16").with_(memory_words=1 << 24)
    weights = integer_weights(random_checkpoint(PUBLISHED["370m"], SEED))
    program, golden, begun = lay_out(weights, config), GoldenSession(weights), time.monotonic()
    with SimulatedBoard(Ddr3PinsTop(config)) as board:
        set_wires(board, (1, 2))
        client = Client(board, timeout_s=60.0, token_timeout_s=60.0)
        print(level_reads(client, config).text(), flush=True)
        session = Session(client, program, door=board)
        token = 5
        for step in range(2):
            before = board.cycles
            feed = Feed(token, fresh=step == 0)
            run, wanted = session.run([feed]), golden.run([feed])
            ours, theirs = session.logits(), golden.logits()
            np.testing.assert_array_equal(ours.sums, theirs.sums[ours.tokens], err_msg=f"step {step}, seed {SEED}")
            assert ours.scale == theirs.scale and run.tokens == wanted.tokens, f"step {step}, seed {SEED}"
            token = run.tokens[0][0]
            print(f"step {step}: {board.cycles - before:,} cycles, {time.monotonic() - begun:.0f} s", flush=True)
