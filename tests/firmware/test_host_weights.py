"""The words that the host sends to a chip without weights, over lines that lose frames in both directions."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest

from lutern.firmware.host_weights import HostWeights
from lutern.firmware.packing import unpack_narrow_row
from lutern.firmware.program import Program, lay_out
from lutern.firmware.slip import Frame, FrameDecoder
from lutern.hw.layouts import check_words
from lutern.hw.presets import preset
from lutern.hw.protocol import RECORDS, RESPONSE, ROW, WANT, Opcode
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

CONFIG = preset("host").with_(name="small", memory_words=1024, max_width=512, max_state=512, max_vocab=64)
MODEL = ModelConfig(vocab_size=27, hidden_size=288, num_hidden_layers=1, intermediate_size=32)
CHUNK = 256


@pytest.fixture(scope="module")
def program() -> Program:
    return lay_out(integer_weights(random_checkpoint(MODEL, 3)), CONFIG)


class Chip:
    """A model of hw/memory/host.py that accepts frames, sends WANT, and uses a few words at a time."""

    def __init__(self, program: Program, seed: int, begin: int = 0) -> None:
        self.program, self.draw = program, random.Random(seed)
        self.offset = self.taken = begin
        self.row = self.place = self.token = self.sequence = 0
        self.wanting = False
        self.stream: list[bytes] = []
        self.rows: list[tuple[int, bytes]] = []

    def want(self) -> Frame:
        fields = {
            "offset": self.offset % (1 << 32),
            "taken": self.taken % (1 << 32),
            "row": self.row % (1 << 16),
            "place": self.place,
            "token": self.token,
        }
        return Frame(Opcode.RECORDS | RESPONSE, self.sequence, WANT.pack(**fields))

    def ask(self) -> Frame:
        self.row, self.place, self.wanting = self.row + 1, 0, True
        self.token = self.draw.randrange(MODEL.vocab_size)
        self.rows.append((self.token, b""))
        return self.want()

    def take(self, frame: Frame) -> Frame | None:
        """Accept a frame. Return the WANT that the chip sends if it drops words of the frame, or None."""
        dropped = False
        words = [frame.payload[at : at + 2] for at in range(4, len(frame.payload), 2)]
        if frame.opcode == Opcode.RECORDS:
            offset = RECORDS.unpack(frame.payload)["offset"]
            for index, word in enumerate(words):
                if (offset + index) % (1 << 32) == self.offset % (1 << 32) and self.offset < self.taken + 1024:
                    self.stream.append(word)
                    self.offset += 1
                else:
                    dropped = True
        else:
            fields = ROW.unpack(frame.payload)
            for index, word in enumerate(words):
                if self.wanting and (fields["row"], fields["place"] + index) == (self.row % (1 << 16), self.place):
                    self.rows[-1] = self.rows[-1][0], self.rows[-1][1] + word
                    self.place += 1
                    self.wanting = self.place < self.program.sizes.row_words
                else:
                    dropped = True
        self.sequence = frame.sequence
        return self.want() if dropped else None

    def compute(self) -> Frame | None:
        """Use words, unless the chip waits for a row. Return the WANT that the chip sends after every chunk, or
        None."""
        if self.wanting or self.taken == self.offset:
            return None
        before = self.taken
        self.taken = min(self.offset, self.taken + self.draw.randint(1, 200))
        return self.want() if before // CHUNK != self.taken // CHUNK else None


def converse(program: Program, seed: int, share: float, begin: int = 0) -> tuple[Chip, HostWeights]:
    """Send some rows, and the words of some record streams, over a line that loses the fraction ``share`` of the
    frames."""
    chip, host, draw = Chip(program, seed, begin), HostWeights(program, 1024), random.Random(seed + 1)
    host.sent = host.offset = host.taken = begin
    line, decoder = deque[Frame](), FrameDecoder()
    silent = 0

    def sent(raw: bytes) -> None:
        line.extend(frame for frame in decoder.feed(raw) if draw.random() >= share)

    def told(want: Frame | None) -> None:
        if want is not None and draw.random() >= share:
            assert host.takes(want)
            sent(host.take(want)[0])

    sent(host.frames())
    asked = 0
    while chip.taken - begin < 1.2 * program.sizes.record_words:
        assert host.sent - chip.taken <= 1024, f"seed {seed}: the words in flight must fit into the room of the chip"
        before = chip.taken, chip.place
        if chip.taken - begin >= asked * 3000 and not chip.wanting:
            asked += 1
            told(chip.ask())
        if line:
            told(chip.take(line.popleft()))
        told(chip.compute())
        silent = 0 if (chip.taken, chip.place) != before or line else silent + 1
        if silent > 3:
            sent(host.nudge())
        assert silent < 200, f"seed {seed}: no progress at {chip.want()}"
    return chip, host


@pytest.mark.parametrize("share", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_words_in_order(seed: int, share: float, program: Program) -> None:
    chip, host = converse(program, seed, share)
    sizes = program.sizes
    places = np.arange(len(chip.stream)) % sizes.record_words
    assert b"".join(chip.stream) == program.words[places].tobytes(), f"seed {seed}"
    assert len(chip.rows) > 3
    for token, row in chip.rows[:-1]:
        first = sizes.record_words + token * sizes.stride
        assert row == program.words[first : first + sizes.row_words].tobytes(), f"seed {seed}, token {token}"
    assert (host.resent_count > 0) == (share > 0), f"seed {seed}"


def test_rows_of_12_bits() -> None:
    weights = integer_weights(random_checkpoint(MODEL, 3), embedding_bits=12)
    program = lay_out(weights, CONFIG)
    assert program.sizes.row_words == check_words(CONFIG) + MODEL.hidden_size * 12 // 16
    chip, _ = converse(program, 8, 0.05)
    assert len(chip.rows) > 3
    for token, row in chip.rows[:-1]:
        words = np.frombuffer(row, np.uint8).reshape(-1, CONFIG.word_bytes)[check_words(CONFIG) :]
        codes = unpack_narrow_row(words, MODEL.hidden_size, CONFIG)
        assert np.array_equal(codes, weights.embeddings.codes[token]), f"token {token}, seed 8"


def test_offsets_wrap(program: Program) -> None:
    begin = (1 << 32) - 5 * CHUNK
    chip, _ = converse(program, 7, 0.1, begin)
    places = (begin + np.arange(len(chip.stream))) % program.sizes.record_words
    assert chip.offset > 1 << 32
    assert b"".join(chip.stream) == program.words[places].tobytes()


@pytest.mark.parametrize(
    "changes", [{"taken": 1 << 20, "offset": 1 << 20}, {"taken": 5}, {"offset": 3000}, {"place": 9999}]
)
def test_impossible_wants_are_ignored(program: Program, changes: dict[str, int]) -> None:
    """A WANT that claims words which were never sent is ignored. Otherwise the host would send without end."""
    host = HostWeights(program, 1024)
    host.frames()
    before = vars(host).copy()
    fields = {"offset": 0, "taken": 0, "row": 1, "place": 0, "token": 2} | changes
    assert host.take(Frame(Opcode.RECORDS | RESPONSE, 1, WANT.pack(**fields))) == (b"", False)
    assert {**vars(host), "_most_sent": 0} == {**before, "_most_sent": 0}
