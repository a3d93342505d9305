"""On the simulated board, a bus that refuses or does not answer causes an error that names this fault, and no hang."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lutern.firmware.link import Client, RefusedError
from lutern.firmware.loader import Section, checksum, write_words
from lutern.hw.config import HwConfig
from lutern.hw.memory import source_watch
from lutern.hw.memory.axi import MOST_WRITES
from lutern.hw.presets import preset
from lutern.hw.protocol import crc32c
from lutern.hw.top import AxiTop
from lutern.sim import axi_board
from lutern.sim.axi_board import AxiBoard
from lutern.sim.port_memory import WordTiming

TWO_PORTS = preset("axi-x128").with_(memory_ports=2, memory_words=1 << 23, top_k=0)
"""The same machine as in test_axi_board.py, so that the simulator is compiled only once for both."""
REFUSED = (
    r"^The board refused \w+: the bus refused a read or a write of its memory \(SLVERR or DECERR\); check the addre"
)
SILENT = (
    r"^The board refused \w+: its memory does not answer; reset the board, and check the memory's clock and power\.$"
)
HEALTHY = WordTiming(10, 10)
WORDS = np.random.default_rng(22).integers(0, 256, (40, TWO_PORTS.word_bytes), np.uint8)


class Board(AxiBoard):
    """A board with methods that write and read words."""

    def __init__(self, config: HwConfig) -> None:
        super().__init__(config)
        self.client = Client(self)

    def begin(self, timing: WordTiming) -> None:
        """Reset the board, and write the words into the memory. Then the memory answers as ``timing`` says."""
        self.reset()
        self.client = Client(self)
        self.set_word_timing(HEALTHY)
        self.poke(0, WORDS)
        self.set_word_timing(timing)

    def read_words(self) -> None:
        assert checksum(self.client, 0, len(WORDS)) == crc32c(WORDS.tobytes())

    def write_words(self, count: int) -> None:
        write_words(self.client, [Section(100, WORDS[:count])], lambda _: None)


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with Board(TWO_PORTS) as board:
        yield board


def test_a_refused_read(board: Board) -> None:
    board.begin(WordTiming(10, 10, error_from=4))
    with pytest.raises(RefusedError, match=REFUSED):
        board.read_words()
    assert 0 < board.bus_errors <= 2 * len(WORDS)
    board.set_word_timing(HEALTHY)
    with pytest.raises(RefusedError, match=REFUSED):  # the error stays until a reset
        board.read_words()
    board.begin(HEALTHY)
    board.read_words()
    assert board.bus_errors == 0


def test_a_refused_write(board: Board) -> None:
    board.begin(WordTiming(10, 10, error_from=0))
    board.write_words(1)  # the machine accepts the write before the bus answers
    board.pass_cycles(1000)
    with pytest.raises(RefusedError, match=REFUSED):
        board.write_words(1)
    assert board.bus_errors == 2  # one error at each port


def test_a_read_without_answer(board: Board) -> None:
    board.begin(WordTiming(10, 10, silent_from=4))
    before = board.cycles
    with pytest.raises(RefusedError, match=SILENT):
        board.read_words()
    assert board.cycles - before < 2 * source_watch.WATCH_CYCLES
    board.begin(HEALTHY)
    board.read_words()


class HastyTop(AxiTop):
    """A machine whose watch waits ``accept_cycles``. The parameter gives the machine its own entry in the cache."""

    def __init__(self, config: HwConfig, accept_cycles: int = source_watch.WATCH_CYCLES) -> None:
        super().__init__(config)


@pytest.fixture(scope="module")
def hasty_board() -> Iterator[Board]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_watch, "ACCEPT_CYCLES", source_watch.WATCH_CYCLES)
        patch.setattr(axi_board, "AxiTop", HastyTop)
        with Board(TWO_PORTS) as board:
            yield board


def write_and_read(board: Board, count: int) -> None:
    """Write, then read. Without the read, the last written words might still be in the FIFOs before the bus."""
    board.write_words(count)
    board.read_words()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, MOST_WRITES, MOST_WRITES + 1, len(WORDS)])
def test_a_write_without_answer(hasty_board: Board, count: int) -> None:
    """The machine reports the fault and does not hang, with as many writes as may be unanswered and with more
    writes."""
    board = hasty_board
    board.begin(WordTiming(10, 10, silent_from=0))
    if count <= MOST_WRITES:
        board.write_words(count)
        board.pass_cycles(source_watch.WATCH_CYCLES + 100)
    before = board.cycles
    with pytest.raises(RefusedError, match=SILENT):
        write_and_read(board, count)
    assert board.cycles - before < source_watch.WATCH_CYCLES * (1.5 if count > MOST_WRITES else 0.5)
    board.begin(HEALTHY)
    board.read_words()
    board.write_words(len(WORDS))
    assert np.array_equal(board.peek(100, len(WORDS)), WORDS)
