"""A model in Python of the chip's end of the link, and of a line that damages bytes. A session between them takes 1 ms.

    Client ─► FaultyLine.write ─► ModelChip ─► answers ─► FaultyLine.read ─► Client

``ModelChip`` answers as ``hw/link`` does, with the tokens and logits of ``sim.loopback``. No real time passes. If there
is no byte to read, ``read`` returns immediately, and the line adds the timeout of the read to its clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import numpy as np

from lutern.firmware.slip import Frame, FrameDecoder, encode_frame
from lutern.hw.config import HwConfig
from lutern.hw.protocol import (
    CHECKSUM,
    CHECKSUM_DONE,
    FEED,
    LOGITS,
    LOGITS_DONE,
    RESPONSE,
    RUN,
    RUN_DONE,
    SETUP,
    WRITE,
    WRITE_DONE,
    ErrorCode,
    Opcode,
    capability,
    crc32c,
)
from lutern.sim.loopback import model_logits, model_tokens

DROPPED_BYTES = 4
"""Number of bytes of the last field of INFO."""


@cache
def _info_of(config: HwConfig) -> bytes:
    """Return INFO without its last field. The result is cached, because tests create thousands of chips with one
    config."""
    return capability(config)[:-DROPPED_BYTES]


class Refusal(Exception):
    """The chip refuses a command with an ErrorCode."""


class ModelChip:
    """A chip with a memory and a decoder.

    ``written`` counts the bytes of all WRITEs. ``tokens`` contains the tokens of all runs, so it shows whether a RUN
    was executed twice. If ``hangs`` is true, a RUN does not end. `write` and `read` are the members of a Link.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.memory = np.zeros((config.memory_words, config.word_bytes), np.uint8)
        self.written = 0
        self.tokens: list[int] = []
        self.hangs = False
        self._vocab = 0  # vocabulary size of the model that is set up; 0 for no model
        self._last_run: tuple[int, bytes] | None = None
        self._stored: bytes | None = None  # the answer to the last RUN, until another command arrives
        self._is_busy = False
        self._token_count = 0
        self._info = _info_of(config)
        self._decoder, self._answers = FrameDecoder(), b""

    def write(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            try:
                answer = self._answer(frame)
            except Refusal as refusal:
                self._answers += encode_frame(Opcode.ERROR, frame.sequence, bytes([refusal.args[0]]))
                continue
            if answer is not None:
                self._answers += encode_frame(frame.opcode | RESPONSE, frame.sequence, answer)

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self._answers = self._answers[:limit], self._answers[limit:]
        return data

    def _answer(self, frame: Frame) -> bytes | None:
        opcode, payload = frame.opcode, frame.payload
        if opcode == Opcode.RUN:
            return self._run(frame)
        self._stored = None
        match opcode:
            case Opcode.INFO:
                return self._info + (self._decoder.dropped_count & 0xFFFF).to_bytes(DROPPED_BYTES, "little")
            case Opcode.WRITE:
                return self._write(payload)
            case Opcode.CHECKSUM:
                self._vocab = 0
                asked = CHECKSUM.unpack(payload)
                if asked["address"] + asked["count"] > len(self.memory):
                    raise Refusal(ErrorCode.BAD_ADDRESS)
                return CHECKSUM_DONE.pack(crc=crc32c(self.memory[asked["address"] :][: asked["count"]].reshape(-1)))
            case Opcode.SETUP:
                self._vocab = SETUP.unpack(payload)["vocab"]
                return b""
            case Opcode.LOGITS:
                asked = LOGITS.unpack(payload)
                sums = model_logits(asked["stream"], asked["offset"], asked["count"], self._token_count)
                return LOGITS_DONE.pack(scale_mantissa=1, scale_exponent=0) + np.array(sums, "<i4").tobytes()
        raise Refusal(ErrorCode.UNKNOWN_OPCODE)

    def _write(self, payload: bytes) -> bytes:
        self._vocab = 0
        address = WRITE.unpack(payload)["address"]
        words = np.frombuffer(payload, np.uint8, offset=WRITE.byte_count).reshape(-1, self.config.word_bytes)
        end = address + len(words)
        if end > len(self.memory):
            raise Refusal(ErrorCode.BAD_ADDRESS)
        self.memory[address:end] = words
        self.written += words.size
        return WRITE_DONE.pack(next_address=end)

    def _run(self, frame: Frame) -> bytes | None:
        this = frame.sequence, frame.payload
        if this == self._last_run and self._stored is not None:
            return self._stored
        if self._is_busy:
            if this == self._last_run:
                return None
            raise Refusal(ErrorCode.BUSY)
        if not self._vocab:
            raise Refusal(ErrorCode.NOT_SET_UP)
        run = RUN.unpack(frame.payload)
        places = range(RUN.byte_count, len(frame.payload), FEED.byte_count)
        feeds = [FEED.unpack(frame.payload[place:]) for place in places]
        self._last_run = this
        if self.hangs:
            self._is_busy = True
            return None
        given = [(feed["token"], bool(feed["fresh"])) for feed in feeds]
        tokens = model_tokens(given, run["count"], self._vocab)
        self.tokens += tokens
        self._token_count += len(tokens)
        done = RUN_DONE.pack(count=len(tokens), cycles=1, beats=1, words=1, saturations=0)
        self._stored = done + np.array(tokens, "<u2").tobytes()
        return self._stored


class LineCut(Exception):
    """Simulates that the host is killed. The line raises this exception after ``FaultyLine.cut_after`` frames."""


class FaultyLine:
    """A line with ``rate`` faults per byte in each direction. A fault flips bits, or loses, doubles, inserts or swaps
    bytes.

    After ``dies_after`` bytes the line transmits no more bytes. ``LineCut`` is raised after ``cut_after`` frames and
    the first ``cut_bytes`` bytes of the next frame. ``seed`` seeds the faults. ``byte_count`` is the number of bytes
    sent to the chip, and ``fault_count`` the number of faults. ``frames`` and ``seconds`` are the numbers of frames
    written and of seconds waited since a byte was read.
    """

    def __init__(
        self,
        chip: ModelChip,
        seed: int,
        rate: float,
        *,
        dies_after: int | None = None,
        cut_after: int | None = None,
        cut_bytes: int = 0,
    ) -> None:
        self.chip, self.rate, self.dies_after = chip, rate, dies_after
        self.cut_after, self.cut_bytes = cut_after, cut_bytes
        self.byte_count = self.fault_count = self.frames = self.written_frames = 0
        self.silences = 0
        self.seconds = 0.0
        self._draw = random.Random(seed)
        self._left = {True: self._gap(), False: self._gap()}  # number of bytes before the next fault; key: `to_chip`

    @property
    def is_dead(self) -> bool:
        """Whether the line has died."""
        return self.dies_after is not None and self.byte_count > self.dies_after

    def write(self, data: bytes) -> None:
        if self.cut_after is not None and self.written_frames >= self.cut_after:
            self.chip.write(data[: self.cut_bytes])
            raise LineCut
        self.frames += 1
        self.written_frames += 1
        self.byte_count += len(data)
        if not self.is_dead:
            self.chip.write(self._damaged(data, to_chip=True))

    def read(self, limit: int, timeout_s: float) -> bytes:
        data = b"" if self.is_dead else self._damaged(self.chip.read(limit, timeout_s), to_chip=False)
        if data:
            self.frames, self.seconds = 0, 0.0
        else:
            self.seconds += timeout_s
            self.silences += 1
        return data

    def _gap(self) -> int:
        return int(self._draw.expovariate(self.rate)) if self.rate else 1 << 62

    def _damaged(self, data: bytes, *, to_chip: bool) -> bytes:
        left = self._left[to_chip]
        if left >= len(data):
            self._left[to_chip] = left - len(data)
            return data
        line, places = bytearray(data), []
        while left < len(data):
            places.append(left)
            left += 1 + self._gap()
        self._left[to_chip] = left - len(data)
        self.fault_count += len(places)
        for place in reversed(places):  # from the end, so that the earlier places stay valid
            self._draw.choice(FAULTS)(line, place, self._draw)
        return bytes(line)


def _flip(line: bytearray, place: int, draw: random.Random) -> None:
    line[place] ^= draw.randrange(1, 256)


def _lose(line: bytearray, place: int, draw: random.Random) -> None:
    del line[place : place + draw.choice((1, 1, 1, 5, 40))]


def _double(line: bytearray, place: int, draw: random.Random) -> None:
    line.insert(place, line[place])


def _insert(line: bytearray, place: int, draw: random.Random) -> None:
    line.insert(place, draw.randrange(256))


def _exchange(line: bytearray, place: int, draw: random.Random) -> None:
    other = draw.randrange(len(line))
    line[place], line[other] = line[other], line[place]


def _burst(line: bytearray, place: int, draw: random.Random) -> None:
    for at in range(place, min(len(line), place + draw.randint(2, 12))):
        line[at] = draw.randrange(256)


FAULTS: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip,
    _lose,
    _double,
    _insert,
    _exchange,
    _burst,
)

__all__ = ["FAULTS", "FaultyLine", "LineCut", "ModelChip"]
