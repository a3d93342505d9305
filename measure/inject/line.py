"""Faults of the line between host and board and of the host itself, in a session that loads, runs and reads logits.

host ─► bytes ─► FaultyByte ─► board          one byte of the session, in either direction, is struck
host ─► frames ─► Killed ─► board             the host ends after some bytes; another host begins a session
"""

from __future__ import annotations

import random
from functools import cached_property

import numpy as np

from lutern.firmware.link import Link
from lutern.firmware.session import Session
from lutern.measure.inject.campaign import Campaign
from lutern.measure.inject.trial import Scenario, StruckBoard, play
from lutern.sim.chip_model import FAULTS

SCENARIO = Scenario(has_past=True, count=2)


class Line:
    """A link that counts the bytes ``sent`` and ``received``. ``frames`` has the number of bytes sent before each
    frame."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.cycles_per_second = getattr(link, "cycles_per_second", None)
        self.sent = self.received = 0
        self.frames: list[int] = []

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        self.frames.append(self.sent)
        self.sent += len(data)
        self._link.write(data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link``."""
        data = self._link.read(limit, timeout_s)
        self.received += len(data)
        return data


class FaultyByte(Line):
    """Applies ``fault`` once to byte ``at`` of the bytes to the board, or of the bytes from the board."""

    def __init__(self, link: Link, fault: str, at: int, draw: random.Random, *, to_board: bool) -> None:
        super().__init__(link)
        self._fault, self._at, self._draw, self._to_board = fault, at, draw, to_board

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        super().write(self._struck(data, self.sent) if self._to_board else data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        """See ``Link``."""
        before = self.received
        data = super().read(limit, timeout_s)
        return data if self._to_board else self._struck(data, before)

    def _struck(self, data: bytes, before: int) -> bytes:
        place = self._at - before
        if not 0 <= place < len(data):
            return data
        self._at = -1
        changed = bytearray(data)
        BY_NAME[self._fault](changed, place, self._draw)
        return bytes(changed)


class HostKilled(Exception):
    """The host has been killed."""


class Killed(Line):
    """A link over which only ``most`` bytes are sent before the host is killed."""

    def __init__(self, link: Link, most: int) -> None:
        super().__init__(link)
        self._most = most

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        left = self._most - self.sent
        if left < len(data):
            if left > 0:
                super().write(data[:left])
            raise HostKilled
        super().write(data)


BY_NAME = {fault.__name__.strip("_"): fault for fault in FAULTS}


class LinkCampaign(Campaign):
    """A campaign whose sessions use only the link."""

    @cached_property
    def traffic(self) -> Line:
        """The traffic of a session without faults."""
        with self.bench.board(is_loaded=False) as board:
            line = Line(board)
            play(self.bench.session(board, line), SCENARIO)
        return line

    def compared(self, board: StruckBoard, result: str, note: str) -> tuple[str, str]:
        """Return ``result``, or "silent" if ``result`` is good, but the board's memory can be read and is wrong."""
        if result in ("masked", "corrected") and board.has_back_door:
            for address, words in self.program.sections:
                if not np.array_equal(board.peek(address, len(words)), words):
                    return "silent", f"{note} The memory holds other words.".strip()
        return result, note


class Bytes(LinkCampaign):
    """One fault of the line at any byte of the session."""

    kinds = tuple(BY_NAME)

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        place = draw.randrange(self.traffic.sent + self.traffic.received)
        to_board = place < self.traffic.sent
        at = place if to_board else place - self.traffic.sent
        with self.bench.board(is_loaded=False) as board:
            line = FaultyByte(board, kind, at, draw, to_board=to_board)
            result, note = self.compared(board, *self.bench.judge(board, SCENARIO, _nothing, line))
        return result, f"byte {at} {'to' if to_board else 'from'} the board. {note}".rstrip()


class Kill(LinkCampaign):
    """The host is killed after or inside a frame, during loading or later. Another host then begins a session."""

    kinds = ("after a frame", "in a frame")

    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """See ``Campaign``."""
        ends = [*self.traffic.frames[1:], self.traffic.sent]
        number = draw.randrange(len(ends))
        most = ends[number]
        if kind == "in a frame":
            most -= draw.randrange(1, most - self.traffic.frames[number])
        with self.bench.board(is_loaded=False) as board:
            try:
                play(self.bench.session(board, Killed(board, most)), SCENARIO)
            except HostKilled:
                pass
            board.run(draw.randrange(1, 2000))
            while board.read(1 << 16, 0.0):
                pass  # answers that the first host did not read
            result, note = self.compared(board, *self.bench.judge(board, SCENARIO, _nothing, Line(board)))
        note = f"after {most} bytes, in frame {number + 1} of {len(ends)}. {note}".rstrip()
        return ("corrected" if result == "masked" else result), note


def _nothing(session: Session) -> None:
    pass


__all__ = ["Bytes", "Kill", "Line"]
