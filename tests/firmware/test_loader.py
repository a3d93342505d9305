"""Loading: which words are sent or found wrong, what an interrupted load costs, and how much memory the host needs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lutern.firmware.image import convert, open_image
from lutern.firmware.link import CHECKSUM_BYTES_PER_S, TIMEOUT_S, TRIES, WINDOW, Client, LinkError, UnansweredError
from lutern.firmware.loader import (
    BLOCK_BYTES,
    COMPARING,
    COPYING,
    END_BYTES,
    SENDING,
    SPAN_BYTES,
    VERIFYING,
    load_sections,
)
from lutern.firmware.program import lay_out
from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.protocol import CHECKSUM, CHUNK_BYTES, INFO, RESPONSE, WRITE, Opcode, capability, crc32c
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import random_checkpoint, synthetic_tokenizer

CONFIG = preset("stream-x32").with_(name="loader", memory_words=1 << 18)
SEED = 17
BLOCKS = 12
WINDOW_BYTES = WINDOW * CHUNK_BYTES


class Cut(LinkError):
    """The error of a cable that is unplugged."""


class MemoryBoard:
    """A board that has only a memory. It answers INFO, WRITE and CHECKSUM as hw/link does.

    ``written``, ``summed``, ``poked``: numbers of bytes that WRITE stored, CHECKSUM read, and the back door stored.
    ``cut_after``: the number of written bytes after which the line fails.
    ``fault``: a function that changes words when they are written.
    """

    def __init__(self, config: HwConfig = CONFIG, fill: int = 0) -> None:
        self.config = config
        self.memory = np.full((config.memory_words, config.word_bytes), fill, np.uint8)
        self.written = self.summed = 0
        self.cut_after: int | None = None
        self.fault: Callable[[int, NDArray[np.uint8]], None] = lambda address, words: None
        self.poked = 0
        self._decoder, self._answers = FrameDecoder(), b""

    def write(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            if self.cut_after is not None and self.written >= self.cut_after:
                raise Cut("The port is gone.")
            answer = self._answer(frame)
            if answer is not None:
                self._answers += encode_frame(frame.opcode | RESPONSE, frame.sequence, answer)

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self._answers = self._answers[:limit], self._answers[limit:]
        return data

    def _answer(self, frame: Frame) -> bytes | None:
        opcode, payload = frame.opcode, frame.payload
        if opcode == Opcode.INFO:
            return capability(self.config)
        if opcode == Opcode.CHECKSUM:
            asked = CHECKSUM.unpack(payload)
            words = self.memory[asked["address"] :][: asked["count"]]
            self.summed += words.size
            return crc32c(words.reshape(-1)).to_bytes(4, "little")
        assert opcode == Opcode.WRITE
        address = WRITE.unpack(payload)["address"]
        words = np.frombuffer(payload, np.uint8, offset=WRITE.byte_count).reshape(-1, self.config.word_bytes).copy()
        self.written += words.size
        self.fault(address, words)
        self.memory[address : address + len(words)] = words
        return (address + len(words)).to_bytes(4, "little")

    def poke(self, address: int, words: NDArray[np.uint8]) -> None:
        self.poked += words.size
        self.fault(address, words := words.copy())
        self.memory[address : address + len(words)] = words

    def peek(self, address: int, count: int) -> NDArray[np.uint8]:
        return self.memory[address : address + count].copy()


def image(byte_count: int = BLOCKS * BLOCK_BYTES - 100, seed: int = SEED) -> NDArray[np.uint8]:
    word_bytes = CONFIG.word_bytes
    return np.random.default_rng(seed).integers(0, 256, (byte_count // word_bytes, word_bytes), dtype=np.uint8)


def load(board: MemoryBoard, words: NDArray[np.uint8], address: int = 5) -> dict[str, list[tuple[int, int]]]:
    """Load the words, and return the progress reports of each stage."""
    stages: dict[str, list[tuple[int, int]]] = {}
    board.written = board.summed = 0
    load_sections(
        Client(board), [(address, words)], progress=lambda what, *bytes: stages.setdefault(what, []).append(bytes)
    )
    np.testing.assert_array_equal(board.memory[address : address + len(words)], words, err_msg=f"seed {SEED}")
    return stages


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_an_empty_memory_is_found_at_once(fill: int) -> None:
    """The host sends all words after it has summed only one chunk of each block for comparison."""
    board, words = MemoryBoard(fill=fill), image()
    stages = load(board, words)
    assert board.written == words.size
    assert board.summed == BLOCKS * CHUNK_BYTES + words.size
    assert list(stages) == [COMPARING, SENDING, VERIFYING]
    for what, told in stages.items():
        done = [one for one, _ in told]
        assert done == sorted(set(done)) and told[-1] == (words.size, words.size), what
    stages = load(board, words)
    assert board.written == 0 and board.summed == CHUNK_BYTES + words.size
    assert list(stages) == [COMPARING]


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5, 0.77, 0.999])
def test_a_load_continues_after_a_cut(share: float) -> None:
    """The second load sends the missing words, and at most one span of the words before the cut again."""
    board, words = MemoryBoard(), image()
    board.cut_after = round(share * words.size)
    with pytest.raises(Cut):
        load_sections(Client(board), [(5, words)])
    there, board.cut_after = board.written, None
    assert there < words.size
    stages = load(board, words)
    left = words.size - there
    print(f"cut after {there:,} of {words.size:,} bytes: {board.written:,} sent then, {board.written - left:,} again")
    assert left <= board.written <= left + SPAN_BYTES
    assert {total for _, total in stages[SENDING]} == {board.written}  # rate and remaining time refer to the words sent


def test_a_load_continues_after_ctrl_c() -> None:
    """Ctrl-C interrupts several loads while frames are in flight. Each interruption costs at most one span."""
    board, words = MemoryBoard(), image()
    sent, loads = 0, 0
    for stop in range(1, 9):

        def interrupt(what: str, done: int, total: int, stop: int = stop) -> None:
            if what == SENDING and done > stop * WINDOW_BYTES:
                raise KeyboardInterrupt

        board.written = 0
        try:
            load_sections(Client(board), [(5, words)], progress=interrupt)
        except KeyboardInterrupt:
            loads += 1
        sent += board.written
    load(board, words)
    sent += board.written
    assert loads > 3
    assert words.size <= sent <= words.size + loads * SPAN_BYTES


@pytest.mark.parametrize("seed", range(8))
def test_only_wrong_spans_are_written(seed: int) -> None:
    """A block, or a half or a quarter of a block, is written whole if its beginning is wrong. Otherwise only the wrong
    span is written."""
    draw = np.random.default_rng(seed)
    board, words = MemoryBoard(), image()
    load(board, words)
    wrong = draw.choice(BLOCKS - 1, 1 + seed % 4, replace=False)  # not the last block, which has another length
    expected = 0
    for block in wrong:
        place = int(draw.integers(0, 100 if seed < 4 else BLOCK_BYTES))
        board.memory[5 + (block * BLOCK_BYTES + place) // CONFIG.word_bytes, place % 4] ^= 1 << draw.integers(8)
        chunk = place // CHUNK_BYTES
        expected += max(SPAN_BYTES, (chunk & -chunk) * CHUNK_BYTES) if chunk else BLOCK_BYTES
    load(board, words)
    assert board.written == expected, f"seed {seed}"
    assert board.summed <= 2 * words.size + 4 * len(wrong) * BLOCK_BYTES, f"seed {seed}"


def test_another_image_is_replaced() -> None:
    board = MemoryBoard()
    load(board, image(seed=1))
    load(board, image(seed=2))
    assert board.written == image().size


def test_several_sections() -> None:
    board, first, second = MemoryBoard(), image(3 * BLOCK_BYTES), image(1000, 3)
    sections = [(0, first), (100_000, second)]
    load_sections(Client(board), sections)
    second[0] ^= 1
    board.written = 0
    load_sections(Client(board), sections)
    assert board.written == second.size <= SPAN_BYTES
    np.testing.assert_array_equal(board.memory[100_000:][: len(second)], second)


def test_a_memory_that_does_not_keep_a_word() -> None:
    def stuck(address: int, words: NDArray[np.uint8]) -> None:
        if address <= 70_000 < address + len(words):
            words[70_000 - address, 1] |= 4
            words[70_000 - address, 2] &= 0xDF

    words, board = image(), MemoryBoard()
    words[69_995] = (0, 0, 0xFF, 0)
    board.fault = stuck
    with pytest.raises(LuternError, match=f"else than was sent: checksum .* over {BLOCK_BYTES // 4} words from"):
        load_sections(Client(board), [(5, words)])
    with pytest.raises(LuternError, match="memory does not keep the 196,583 words that the host puts at word 5;"):
        load_sections(Client(board), [(5, words)], door=board)


def test_the_back_door() -> None:
    """Through the back door, the host copies only parts of COPIED_BYTES that contain a wrong word. The chip sums only
    the beginning and the end of the words."""
    board, words = MemoryBoard(), image()
    told: list[tuple[str, int, int]] = []

    def by_back_door() -> None:
        board.poked = board.summed = 0
        load_sections(Client(board), [(5, words)], door=board, progress=lambda *step: told.append(step))
        np.testing.assert_array_equal(board.memory[5 : 5 + len(words)], words)
        assert board.written == 0 and board.summed == 2 * END_BYTES

    by_back_door()
    assert board.poked == words.size and told[-1] == (COPYING, words.size, words.size)
    by_back_door()
    assert board.poked == 0
    words[1] ^= 1
    by_back_door()
    assert board.poked == words.size  # all words, because they have fewer bytes than COPIED_BYTES


class OtherMemory(MemoryBoard):
    """A board whose back door writes to another memory than the chip reads. One word of the two memories differs."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place, self.other = place, self.memory.copy()

    def poke(self, address: int, words: NDArray[np.uint8]) -> None:
        super().poke(address, words)
        self.other[address : address + len(words)] = words
        self.memory[self.place] ^= 1

    def peek(self, address: int, count: int) -> NDArray[np.uint8]:
        return self.other[address : address + count]


@pytest.mark.parametrize("place", [0, -1])
def test_a_chip_that_reads_other_words_is_found(place: int) -> None:
    words = image(3000)
    board = OtherMemory((5 + place) if place == 0 else 5 + len(words) + place)
    with pytest.raises(LinkError, match="The board's memory holds something else than was sent"):
        load_sections(Client(board), [(5, words)], door=board)


class Mute(MemoryBoard):
    """A board that answers no command except INFO."""

    def __init__(self, config: HwConfig) -> None:
        super().__init__(config)
        self.waited: list[float] = []

    def read(self, limit: int, timeout_s: float) -> bytes:
        self.waited.append(timeout_s)
        return super().read(limit, timeout_s)

    def _answer(self, frame: Frame) -> bytes | None:
        return super()._answer(frame) if frame.opcode == Opcode.INFO else None


def test_waiting_time_of_checksums() -> None:
    """The host waits for the checksum of a block as long as a slow simulation needs, for any word size."""
    for word_bytes in (2, 4):
        board = Mute(CONFIG.with_(word_bytes=word_bytes))
        block = CHECKSUM.pack(address=0, count=BLOCK_BYTES // word_bytes)
        with pytest.raises(
            UnansweredError, match=r"^The board did not answer CHECKSUM: 4 frames were sent, 5\.31 s passed"
        ):
            Client(board).transact(Opcode.CHECKSUM, block)
        rounds = [seconds for seconds in board.waited if seconds > TIMEOUT_S]
        assert rounds == [pytest.approx(TIMEOUT_S + BLOCK_BYTES / CHECKSUM_BYTES_PER_S)] * TRIES


def test_words_of_another_length() -> None:
    board = MemoryBoard()
    assert INFO.unpack(capability(CONFIG))["word_bytes"] == 4
    for door in (None, board):
        with pytest.raises(LuternError, match="Words of 5 bytes were laid out, but this board's words have 4;"):
            load_sections(Client(board), [(0, np.zeros((2, 5), np.uint8))], door=door)


MODEL = ModelConfig(vocab_size=2000, hidden_size=512, num_hidden_layers=4, intermediate_size=1408)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "link"])
def test_the_memory_that_a_host_needs(direct: bool, tmp_path: Path) -> None:
    """From opening the image to the last checksum, the host needs two bits for each trit, and the program once.

    The documented bound is 3.5 times the size of the image: 1.4 GB for the 392 MB of a 1.3B model.
    """
    path = tmp_path / "model.lutern"
    tokenizer = synthetic_tokenizer(MODEL.vocab_size).to_json().encode()
    convert(path, random_checkpoint(MODEL, SEED), tokenizer, "random")
    config = CONFIG.with_(max_width=8192, max_vocab=32768, memory_words=1 << 22)
    board = MemoryBoard(config)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        program = lay_out(open_image(path).weights(), config)
        load_sections(Client(board), program.sections, door=board if direct else None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(board.memory[: len(program.words)], program.words)
    print(f"{size:,} bytes of image, {program.words.nbytes:,} of program: {peak:,} at most, {peak / size:.2f} times")
    assert program.words.nbytes > 0.9 * size
    assert peak < 3.5 * size
