"""The integer model in lock step with the simulated board: every h, S and code, and the logits, of every token.

    board ─► taps h, S, codes; sums ─┐
    integer model ─► trace ──────────┴─► first difference, by cycle: stage, token, stream, layer, index, got, expected

Used by ``lutern generate --check`` and by the tests of the whole decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.session import Feed, GoldenSession, Logits, Run, Session
from lutern.hw.decoder import TAP_STREAM_BITS
from lutern.model_ref import head
from lutern.model_ref.errors import LuternError
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantise import IntegerWeights
from lutern.sim.board import SimulatedBoard, TapLog

TAP_BITS = {"h": 32, "s": 32, "codes": 8}
TAP_OF_STAGE = {"h": "h", "S": "s", "codes": "codes"}


class Difference(LuternError):
    """Gateware and integer model disagree."""


@dataclass(frozen=True)
class Segment:
    """Values [n] that a stage of a layer shows for one stream, in order."""

    stage: str
    layer: int
    values: NDArray[np.int64]


Segments = dict[tuple[str, int], list[tuple[int, Segment]]]
"""By tap and stream: (step, segment)."""


class LockStep:
    """A ``Machine`` that checks every token of a session on a simulated board.

    ``checked`` counts the values compared. Raises ``Difference`` at the first that is not equal.
    """

    def __init__(self, session: Session, board: SimulatedBoard, weights: IntegerWeights) -> None:
        self.session = session
        self.board = board
        self.streams, self.slots = session.streams, session.slots
        self.golden = GoldenSession(weights, self.streams, self.slots, IntegerModel, self._trace)
        self.checked = 0
        self.steps = 0
        self._segments: Segments = {}
        board.record()

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        """Run and check ``count`` tokens a stream; the chip chooses them, the integer model must choose the same."""
        run = self.session.run(feeds, count, temperature=temperature, chained=chained)
        self._segments = {(tap, stream): [] for tap in TAP_BITS for stream in range(len(feeds))}
        expected = self.golden.run(feeds, count, temperature=temperature, chained=chained)
        self._compare_taps()
        for step, (got, wanted) in enumerate(zip(run.tokens, expected.tokens, strict=True)):
            for stream, (chosen, token) in enumerate(zip(got, wanted, strict=True)):
                if chosen != token:
                    where = f"step {self.steps + step}, stream {stream}"
                    raise Difference(f"{where}: the chip chose {chosen}, the integer model {token}.")
        for stream in range(len(feeds)):
            self._compare_logits(stream)
        self.steps += count
        return run

    def logits(self, stream: int = 0) -> Logits:
        """Raw logits of a stream's last token, from the chip."""
        return self.session.logits(stream)

    def _trace(self, streams: Sequence[int], stage: str, layer: int, values: NDArray[np.int64]) -> None:
        if stage in TAP_OF_STAGE:
            for row, stream in zip(values, streams, strict=True):
                self._segments[TAP_OF_STAGE[stage], stream].append((self.steps, Segment(stage, layer, row.copy())))

    def _compare_taps(self) -> None:
        found: list[tuple[int, str]] = []
        for tap, bits in TAP_BITS.items():
            log = self.board.taps(tap, clear=True)
            values, owners = _lanes(log, bits)
            self.checked += values.size
            for stream in range(self.streams):
                mine = owners == stream
                difference = _first_difference(
                    tap, stream, log.cycles[mine], values[mine], self._segments.get((tap, stream), [])
                )
                if difference is not None:
                    found.append(difference)
        if found:
            raise Difference(min(found)[1])

    def _compare_logits(self, stream: int) -> None:
        got, expected = self.session.logits(stream), self.golden.logits(stream)
        self.checked += len(got.sums)
        wrong = np.flatnonzero(got.sums != expected.sums[got.tokens])
        if len(wrong):
            index = int(got.tokens[wrong[0]])
            raise Difference(
                f"stage logits, step {self.steps}, stream {stream}, index {index}: got {got.sums[wrong[0]]}, "
                f"expected {expected.sums[index]}."
            )
        best = self.session.config.top_k
        if best and set(got.tokens.tolist()) != set(head.top_k(expected.sums, best)[0].tolist()):
            raise Difference(f"step {self.steps}, stream {stream}: the chip keeps other tokens than the {best} best.")
        if got.scale != expected.scale:
            raise Difference(
                f"step {self.steps}, stream {stream}: the logits' scale is {got.scale}, expected {expected.scale}."
            )


def _lanes(log: TapLog, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Values [beats, elements] of a tap, and whose each beat is [beats]."""
    values = log.lanes(bits)
    payload_bits = log.bits - TAP_STREAM_BITS
    owners = log.payloads[:, payload_bits // 8].astype(np.int64)
    return values[:, : payload_bits // bits], owners


def _first_difference(
    name: str, stream: int, cycles: NDArray[np.uint64], values: NDArray[np.int64], expected: list[tuple[int, Segment]]
) -> tuple[int, str] | None:
    """(cycle, text) of the first value that is not as expected. ``values [beats, elements]``, ``cycles [beats]``."""
    beat, width = 0, values.shape[1]
    for position, segment in expected:
        beats = -(-len(segment.values) // width)
        got = values[beat : beat + beats].reshape(-1)[: len(segment.values)]
        where = f"stage {segment.stage}, run from step {position}, stream {stream}, layer {segment.layer}"
        if len(got) < len(segment.values):
            end = int(cycles[-1]) if len(cycles) else 0
            return end, f"{where}: {len(got)} values came, {len(segment.values)} were expected."
        wrong = np.flatnonzero(got != segment.values)
        if len(wrong):
            index = int(wrong[0])
            cycle = int(cycles[beat + index // width])
            return cycle, (
                f"{where}, index {index}, cycle {cycle}: got {got[index]}, expected {segment.values[index]} "
                f"(tap {name})."
            )
        beat += beats
    if beat != len(values):
        return int(cycles[beat]), f"tap {name}: {len(values) - beat} beats too many, from cycle {cycles[beat]} on."
    return None
