"""Weights that the host sends for every token: the other end of hw/memory/host.py.

    WANT ─► HostWeights.take ─► ROW frames, if a row is wanted ─► RECORDS frames, as many as there is room for

The record stream repeats the program's words without end, and runs ahead of the token: its offset is counted from SETUP
on, so the chip's words are ``words[offset % record_words]``.
"""

from __future__ import annotations

import numpy as np

from lutern.firmware.program import Program
from lutern.firmware.slip import Frame, encode_frame
from lutern.hw.protocol import CHUNK_BYTES, RECORDS, RESPONSE, ROW, WANT, Opcode

OFFSET_SPAN = 1 << 32
LINE_BITS = 10
"""Bits that a byte takes on a serial line, 8N1: start, eight, stop."""


def line_tokens_per_s(program: Program, baud: int) -> float:
    """Tokens a second, if a serial line carried nothing but weights: the bound of a machine that has none."""
    return baud / LINE_BITS / program.bytes_per_token


class HostWeights:
    """What is to be sent next, from what the chip says that it has.

    Parameters: ``program``; ``room_words``, words that the chip holds. Nothing is sent here: frames are given.

    Half of the room is used while the chip takes words, so that a row, which must go through the line behind what is
    under way, comes soon; all of it while a row is waited for, so that the line is busy behind the row as well.
    """

    def __init__(self, program: Program, room_words: int) -> None:
        sizes = program.sizes
        self.words = program.words
        self.record_words, self.row_words, self.stride = sizes.record_words, sizes.row_words, sizes.stride
        self.chunk_words = CHUNK_BYTES // program.hw_config.word_bytes
        self.room_words = room_words
        self.resent_count = 0
        self.begin()

    def begin(self) -> None:
        """The chip was set up: it waits for the first word."""
        self.sent = self.offset = self.taken = 0  # words: sent, arrived, taken
        self._most_sent = 0  # words that were ever sent
        self.row = self.token = 0  # the row that is wanted or was last
        self.place = self.row_words  # words of it that arrived
        self.row_sent = self.row_words
        self._sequence = 0
        self._sent_by: dict[int, tuple[int, int, int]] = {}  # by sequence number: sent, row, row_sent after that frame

    def takes(self, frame: Frame) -> bool:
        """Whether a frame is the chip's WANT."""
        return frame.opcode == Opcode.RECORDS | RESPONSE and len(frame.payload) == WANT.byte_count

    def take(self, frame: Frame) -> tuple[bytes, bool]:
        """Frames to be sent upon a WANT, and whether it tells of progress."""
        want = WANT.unpack(frame.payload)
        before = self.offset, self.taken, self.row, self.place
        offset, taken = _unwrapped(want["offset"], self.offset), _unwrapped(want["taken"], self.taken)
        self._most_sent = max(self._most_sent, self.sent)
        if not 0 <= taken <= offset <= self._most_sent or want["place"] > self.row_words:
            return b"", False  # of a chip that was set up since, or of none: nothing of it was sent
        self.offset, self.taken = offset, taken
        if want["row"] != self.row:
            self.row, self.token, self.row_sent = want["row"], want["token"], 0
        if self.row:
            self.place = want["place"]
        known = self._sent_by.get(frame.sequence)
        if known is not None:
            sent, row, row_sent = known
            if self.offset < sent or (row == self.row and self.place < row_sent):
                self._go_back()
        self.sent = max(self.sent, self.offset)
        return self.frames(), (self.offset, self.taken, self.row, self.place) != before

    def nudge(self) -> bytes:
        """Frames to be sent when nothing comes: what the chip is not known to have, or words that make it answer."""
        self._go_back()
        frames = self.frames()
        if not frames:
            self.sent = max(0, self.offset - self.chunk_words)
            frames = self._stream_frame()
            self.sent = self.offset
        return frames

    def frames(self) -> bytes:
        """All that there is room for now."""
        found = []
        while self.row_sent < self.row_words:
            found.append(self._row_frame())
        room = self.room_words if self.place < self.row_words else self.room_words // 2
        while self.sent + self.chunk_words <= self.taken + room:
            found.append(self._stream_frame())
        return b"".join(found)

    def _go_back(self) -> None:
        """Send again what is not known to have come."""
        self.resent_count += self.sent > self.offset or self.row_sent > self.place
        self.sent, self.row_sent = self.offset, self.place
        self._sent_by.clear()

    def _stream_frame(self) -> bytes:
        places = np.arange(self.sent, self.sent + self.chunk_words) % self.record_words
        head = RECORDS.pack(offset=self.sent % OFFSET_SPAN)
        self.sent += self.chunk_words
        self._most_sent = max(self._most_sent, self.sent)
        return self._frame(Opcode.RECORDS, head + self.words[places].tobytes())

    def _row_frame(self) -> bytes:
        first = self.record_words + self.token * self.stride
        end = min(self.row_sent + self.chunk_words, self.row_words)
        head = ROW.pack(place=self.row_sent, row=self.row)
        words = self.words[first + self.row_sent : first + end]
        self.row_sent = end
        return self._frame(Opcode.ROW, head + words.tobytes())

    def _frame(self, opcode: Opcode, payload: bytes) -> bytes:
        self._sequence = (self._sequence + 1) & 0xFF
        self._sent_by[self._sequence] = (self.sent, self.row, self.row_sent)
        return encode_frame(opcode, self._sequence, payload)


def _unwrapped(number: int, before: int) -> int:
    """A number modulo 2^32 that has grown since ``before``, or shrunk a little."""
    change = (number - before) % OFFSET_SPAN
    return before + (change if change < OFFSET_SPAN // 2 else change - OFFSET_SPAN)


__all__ = ["LINE_BITS", "HostWeights", "line_tokens_per_s"]
