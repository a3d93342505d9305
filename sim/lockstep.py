"""The integer model in lock step with the simulated board: every h, S and code, and the logits, of every token.

    board ─► taps h, S, codes; sums ─┐
    integer model ─► trace ──────────┴─► first difference, by cycle: stage, token, layer, index, got, expected

Used by ``lutern generate --check`` and by the tests of the whole decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.session import Run, Session
from lutern.model_ref import head
from lutern.model_ref.errors import LuternError
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantize import IntegerWeights
from lutern.sim.board import SimulatedBoard

TAP_BITS = {"h": 32, "s": 32, "codes": 8}
TAP_OF_STAGE = {"h": "h", "S": "s", "codes": "codes"}


class Difference(LuternError):
    """Gateware and integer model disagree."""


@dataclass(frozen=True)
class Segment:
    """Values [n] that a stage of a layer shows, in order."""

    stage: str
    layer: int
    values: NDArray[np.int64]


class LockStep:
    """A ``Machine`` that checks every token of a session on a simulated board.

    ``checked`` counts the values compared. Raises ``Difference`` at the first that is not equal.
    """

    def __init__(self, session: Session, board: SimulatedBoard, weights: IntegerWeights) -> None:
        self.session = session
        self.board = board
        self.model = IntegerModel(weights)
        self.checked = 0
        self._state = self.model.initial_state(1)
        self._position = 0
        board.record()

    def run(self, token: int, count: int = 1, fresh: bool = False) -> Run:
        """Run and check ``count`` tokens; the chip chooses them, the integer model must choose the same."""
        if fresh:
            self._state = self.model.initial_state(1)
            self._position = 0
        run = self.session.run(token, count, fresh)
        segments: dict[str, list[tuple[int, Segment]]] = {name: [] for name in TAP_BITS}
        fed = token
        for chosen in run.tokens:
            sums = self._decode(fed, segments)
            expected = int(head.argmax(sums))
            if chosen != expected:
                self._compare_taps(segments)
                raise Difference(f"token {self._position}: the chip chose {chosen}, the integer model {expected}.")
            fed = chosen
            self._position += 1
        self._compare_taps(segments)
        self._compare_sums(sums)
        return run

    def sums(self) -> NDArray[np.int64]:
        """Raw logits of the last token, from the chip."""
        return self.session.sums()

    def _decode(self, token: int, segments: dict[str, list[tuple[int, Segment]]]) -> NDArray[np.int64]:
        def trace(stage: str, layer: int, values: NDArray[np.int64]) -> None:
            if stage in TAP_OF_STAGE:
                segments[TAP_OF_STAGE[stage]].append((self._position, Segment(stage, layer, values[0])))

        sums, _, self._state = self.model.decode(np.array([token]), self._state, trace)
        return np.asarray(sums[0])

    def _compare_taps(self, segments: dict[str, list[tuple[int, Segment]]]) -> None:
        found: list[tuple[int, str]] = []
        for name, expected in segments.items():
            log = self.board.taps(name, clear=True)
            values = log.lanes(TAP_BITS[name])
            difference = _first_difference(name, log.cycles, values, expected)
            if difference is not None:
                found.append(difference)
            self.checked += values.size
        if found:
            raise Difference(min(found)[1])

    def _compare_sums(self, expected: NDArray[np.int64]) -> None:
        got = self.session.sums()
        self.checked += len(got)
        wrong = np.flatnonzero(got != expected)
        if len(wrong):
            index = int(wrong[0])
            raise Difference(
                f"stage logits, token {self._position - 1}, index {index}: got {got[index]}, "
                f"expected {expected[index]}."
            )


def _first_difference(
    name: str, cycles: NDArray[np.uint64], values: NDArray[np.int64], expected: list[tuple[int, Segment]]
) -> tuple[int, str] | None:
    """(cycle, text) of the first value that is not as expected. ``values [beats, elements]``, ``cycles [beats]``."""
    beat, width = 0, values.shape[1]
    for position, segment in expected:
        beats = -(-len(segment.values) // width)
        got = values[beat : beat + beats].reshape(-1)[: len(segment.values)]
        where = f"stage {segment.stage}, token {position}, layer {segment.layer}"
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
