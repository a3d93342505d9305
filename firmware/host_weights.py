"""The frames by which the host sends the weights for every token to hw/memory/host.py.

    WANT ─► HostWeights.take ─► ROW frames, if a row is wanted ─► RECORDS frames, as many as there is room for

Names in capitals are kinds of frames (docs/protocol.md). The chip requests words by WANT. The record stream repeats the
words of the program for every token, and the host sends it ahead of the computation. An offset in the record stream
counts words from SETUP on, so the word at ``offset`` is ``words[offset % record_words]``.
"""

from __future__ import annotations

import numpy as np

from lutern.firmware.program import Program
from lutern.firmware.slip import Frame, encode_frame
from lutern.hw.protocol import CHUNK_BYTES, RECORDS, RESPONSE, ROW, WANT, Opcode

OFFSET_SPAN = 1 << 32
LINE_BITS = 10
"""Number of bits of a byte on a serial line, 8N1: one start bit, eight data bits, one stop bit."""


def line_tokens_per_s(program: Program, baud: int) -> float:
    """Return the tokens/s of a serial line that carries only weights.

    This speed is the upper bound for a machine that receives all weights from the host.
    """
    return baud / LINE_BITS / program.bytes_per_token


class HostWeights:
    """Chooses the next frames to send, from the counts that the chip reports. Its methods return the frames, and the
    caller sends them.

    A row can arrive only after the words that are in flight on the line. To let a row arrive soon, the host fills only
    half of the chip's room while the chip waits for no row. While the chip waits for a row, the host fills all of the
    room, so that the line stays busy after the row.

    Parameters
    ----------
    program
        The program whose words are sent.
    room_words
        Number of words that the chip can store.
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
        """Start again after a SETUP, when the chip waits for the first word."""
        self.sent = self.offset = self.taken = 0  # numbers of words that were sent, arrived, and were taken
        self._most_sent = 0  # largest value that ``sent`` had so far
        self.row = self.token = 0  # number of the last row that the chip requested, and the row's token
        self.place = self.row_words  # number of words of the row that have arrived
        self.row_sent = self.row_words
        self._sequence = 0
        # sent, row and row_sent after each frame, by its sequence number
        self._sent_by: dict[int, tuple[int, int, int]] = {}

    def takes(self, frame: Frame) -> bool:
        """Return whether a frame is the chip's WANT."""
        return frame.opcode == Opcode.RECORDS | RESPONSE and len(frame.payload) == WANT.byte_count

    def take(self, frame: Frame) -> tuple[bytes, bool]:
        """Return the frames to be sent after a WANT, and whether the WANT reports progress."""
        want = WANT.unpack(frame.payload)
        before = self.offset, self.taken, self.row, self.place
        offset, taken = _unwrapped(want["offset"], self.offset), _unwrapped(want["taken"], self.taken)
        self._most_sent = max(self._most_sent, self.sent)
        if not 0 <= taken <= offset <= self._most_sent or want["place"] > self.row_words:
            return b"", False  # impossible counts: sent before the last SETUP, or damaged
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
        """Return the frames to send after a time in which the chip has sent nothing.

        These frames repeat the words that may not have arrived. If all words have arrived, one frame repeats old words,
        so that the chip answers.
        """
        self._go_back()
        frames = self.frames()
        if not frames:
            self.sent = max(0, self.offset - self.chunk_words)
            frames = self._stream_frame()
            self.sent = self.offset
        return frames

    def frames(self) -> bytes:
        """Return all frames for which the chip has room now."""
        found = []
        while self.row_sent < self.row_words:
            found.append(self._row_frame())
        room = self.room_words if self.place < self.row_words else self.room_words // 2
        while self.sent + self.chunk_words <= self.taken + room:
            found.append(self._stream_frame())
        return b"".join(found)

    def _go_back(self) -> None:
        """Go back to the first word that may not have arrived, to send it again."""
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
    """Return the count that is nearest to the earlier count ``before`` and is ``number`` modulo 2^32."""
    change = (number - before) % OFFSET_SPAN
    return before + (change if change < OFFSET_SPAN // 2 else change - OFFSET_SPAN)


__all__ = ["LINE_BITS", "HostWeights", "line_tokens_per_s"]
