"""Measures the line of the link: it counts answered and lost frames, and computes the error rate from these counts.

    lost frames ─┐
    bytes ───────┴─► errors per byte p ─► chunk_bytes: the L with the largest L / (L + 12) · (1 - p)^(L + 24)
                                      └─► frames_enough: number of frames that are all lost only once in 10^9 times

L is the number of bytes of words in a WRITE. A lost frame had an error somewhere in its bytes, on average after half of
them. So p is the number of lost frames, divided by the sum of all bytes of answered frames and half the bytes of lost
frames. Whenever the counted bytes exceed 256 KiB, bytes and lost frames are halved, so that older frames count less.
Frames without an answer so far count for ``chunk_bytes``, so the next frames are shorter immediately. These frames do
not count for ``frames_enough``, because a dead board must not look like a bad line.
"""

from __future__ import annotations

import math

from lutern.hw.protocol import CHUNK_BYTES, CRC_BYTES, HEADER_BYTES, WRITE

OVERHEAD_BYTES = WRITE.byte_count + HEADER_BYTES + CRC_BYTES + 2
"""Number of bytes of a WRITE in addition to its words. The answer to a WRITE has the same number of bytes."""
CHUNKS = tuple(CHUNK_BYTES >> shift for shift in range(5))
SPAN_BYTES = 1 << 18
PRIOR_BYTES = 1 << 14
"""Number of bytes that count as free of errors at the start, so that the first lost frame does not shorten the next
frames."""
ALL_LOST = 1e-9
MOST_FRAMES = 64
"""After this number of frames without an answer, the host gives up, however bad the line is."""
NOTED_ERRORS = 4.0
"""A lower number of errors is not reported to the user."""


class LineQuality:
    """Counts frames and bytes, and computes the error rate.

    ``answered_count`` and ``lost_count`` count frames. A frame that is lost and then sent again may increase both
    counts.
    """

    def __init__(self) -> None:
        self.answered_count = self.lost_count = 0
        self._errors = self._bytes = 0.0
        self._open_errors = self._open_bytes = 0.0  # of frames without an answer so far

    def answered(self, byte_count: int) -> None:
        """Note that a frame and its answer, ``byte_count`` bytes together, arrived undamaged."""
        self.answered_count += 1
        self._errors += self._open_errors
        self._bytes += self._open_bytes + byte_count
        self._open_errors = self._open_bytes = 0.0
        if self._bytes > SPAN_BYTES:
            self._errors, self._bytes = self._errors / 2, self._bytes / 2

    def lost(self, byte_count: int, *, is_certain: bool) -> None:
        """Note that a frame of ``byte_count`` bytes, or its answer, was lost.

        ``is_certain`` is True if a later frame was answered.
        """
        self.lost_count += 1
        if is_certain:
            self._errors, self._bytes = self._errors + 1, self._bytes + byte_count / 2
        else:
            self._open_errors, self._open_bytes = self._open_errors + 1, self._open_bytes + byte_count / 2

    @property
    def error_rate(self) -> float:
        """Errors per byte, measured up to the last answer."""
        return self._errors / self._bytes if self._errors else 0.0

    def chunk_bytes(self) -> int:
        """Return the number of bytes of words in a WRITE with which the line transfers the most data."""
        rate = (self._errors + self._open_errors) / (PRIOR_BYTES + self._bytes + self._open_bytes)
        if rate == 0:
            return CHUNK_BYTES

        def brought(chunk: int) -> float:
            return chunk / (chunk + OVERHEAD_BYTES) * math.exp(-rate * (chunk + 2 * OVERHEAD_BYTES))

        return max(CHUNKS, key=brought)

    def frames_enough(self, byte_count: int) -> int:
        """Return a number of frames of which at least one is answered, except once in 10^9 times.

        A frame and its answer have ``byte_count`` bytes together.
        """
        loss = 1 - math.exp(-self.error_rate * byte_count)
        if loss <= ALL_LOST:
            return 1
        return min(MOST_FRAMES, math.ceil(math.log(ALL_LOST) / math.log(loss))) if loss < 1 else MOST_FRAMES

    def note(self) -> str:
        """Return a text with the error rate; an empty text if there were fewer than ``NOTED_ERRORS`` errors."""
        if self._errors < NOTED_ERRORS or self.error_rate == 0:
            return ""
        digits = round(1 / self.error_rate)
        step = 10 ** max(0, len(str(digits)) - 2)  # such a measurement has two digits at most
        return f"1 byte in {max(1, round(digits / step) * step):,} is damaged"

    def text(self) -> str:
        """Return the measurement as a clause."""
        note = self.note()
        lost = self.lost_count - round(self._open_errors)
        counts = f"{self.answered_count:,} frame{'s' * (self.answered_count != 1)} came through and {lost:,} did not"
        return f"{counts}, about {note}" if note else counts


__all__ = ["LineQuality"]
