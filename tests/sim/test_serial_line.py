"""The chip at a serial line, bit by bit: a load uses 95 % of the line, and on a bad line it only takes longer."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from lutern.firmware.link import Client
from lutern.firmware.loader import load_sections
from lutern.hw.link import LOWEST_DIVISOR
from lutern.hw.presets import preset
from lutern.hw.protocol import CHECKSUM, CHUNK_BYTES, INFO, Opcode, capability, crc32c
from lutern.hw.top import SerialTop
from lutern.sim.board import SimulatedBoard
from lutern.sim.loopback import SerialLoopback

CONFIG = preset("tiny").with_(name="line", memory_words=1 << 13)
BAUD = 3_000_000
DIVISOR = CONFIG.clock_hz // BAUD


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    assert DIVISOR * BAUD == CONFIG.clock_hz
    with SimulatedBoard(SerialLoopback(CONFIG, DIVISOR)) as made:
        yield made


def random_words(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, CONFIG.word_bytes), dtype=np.uint8)


def assert_holds(client: Client, words: NDArray[np.uint8]) -> None:
    answer = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=len(words)))
    assert answer == crc32c(words.tobytes()).to_bytes(4, "little")


def test_a_load_uses_the_whole_rate_of_the_line(board: SimulatedBoard) -> None:
    """From the first command to the last checksum, 95 % of the bytes on the line are bytes of the image."""
    assert_full(board)


@pytest.mark.slow
def test_a_load_of_the_whole_chip() -> None:
    with SimulatedBoard(SerialTop(CONFIG, DIVISOR)) as board:
        assert_full(board)
        assert Client(board).transact(Opcode.INFO) == capability(CONFIG)


@pytest.mark.slow
def test_a_load_at_the_highest_rate() -> None:
    """At 8 cycles per bit the chip loses no byte, because it writes a frame to memory while it receives the next
    frame."""
    with SimulatedBoard(SerialLoopback(CONFIG, LOWEST_DIVISOR)) as board:
        assert_full(board, LOWEST_DIVISOR)


def assert_full(board: SimulatedBoard, divisor: int = DIVISOR) -> None:
    words = random_words(CONFIG.memory_words, 1)
    client = Client(board)
    before = board.cycles
    load_sections(client, [(0, words)])
    share = words.size * 10 * divisor / (board.cycles - before)
    print(f"load of {words.size:,} random bytes, {divisor} cycles a bit: {share:.2%} of the line")
    assert 0.95 <= share < CHUNK_BYTES / (CHUNK_BYTES + 12)
    assert client.resent_count == 0
    assert INFO.unpack(client.transact(Opcode.INFO))["dropped_frames"] == 0


def test_bytes_that_are_all_escaped(board: SimulatedBoard) -> None:
    """A load is right if every byte is escaped, which doubles the bytes on the line."""
    words = np.full((300, CONFIG.word_bytes), 0xC0, np.uint8)
    client = Client(board)
    load_sections(client, [(0, words)])
    assert_holds(client, words)
    assert client.resent_count == 0


class BadLine:
    """A line that flips a bit in some frames, or loses these frames. Seeded."""

    def __init__(self, board: SimulatedBoard, seed: int, share: float, loses: bool) -> None:
        self.board, self.draw, self.share, self.loses, self.count = board, random.Random(seed), share, loses, 0

    def write(self, data: bytes) -> None:
        self.board.write(self._damaged(data))

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self._damaged(self.board.read(limit, timeout_s))

    def _damaged(self, data: bytes) -> bytes:
        if not data or self.draw.random() >= self.share:
            return data
        self.count += 1
        if self.loses:
            return b""
        line = bytearray(data)
        line[self.draw.randrange(len(line))] ^= 1 << self.draw.randrange(8)
        return bytes(line)


@pytest.mark.parametrize(("seed", "loses"), [(0, False), (1, False), (2, True)])
def test_only_what_was_lost_is_sent_again(seed: int, loses: bool, board: SimulatedBoard) -> None:
    words = random_words(CONFIG.memory_words // 4, 10 + seed)
    line = BadLine(board, seed, 0.2, loses)
    client = Client(line, timeout_s=0.5, tries=20)
    load_sections(client, [(0, words)])
    line.share = 0
    assert_holds(client, words)
    print(f"seed {seed}: {line.count} faults, {client.resent_count} frames sent again")
    assert line.count > 2 and client.resent_count <= 3 * line.count, f"seed {seed}"
