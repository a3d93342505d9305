"""A comparison of the decoder's debug taps with the integer model: every h, S and code of every stream.

    integer model ─► trace ─► Expected ─┐
    taps: cycles, streams, values ──────┴─► first difference: cycle, stage, stream, layer, index, got, expected

The lock step of the simulated board and the decoder's bench use this comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lutern.hw.decoder import TAP_VALUE_BITS

TAP_OF_STAGE = {"h": "h", "S": "s", "codes": "codes"}
"""The tap that shows a stage of the integer model's trace."""

Difference = tuple[int, str]
"""The cycle of a wrong value, and a sentence that describes the difference."""


@dataclass(frozen=True)
class Segment:
    """Values [n] that a stage of a layer computes for one stream, in order. ``step`` is the first step of the run."""

    step: int
    stage: str
    layer: int
    values: NDArray[np.int64]


class Expected:
    """The values that the taps must show in a run. The method ``trace`` must be passed to the integer model."""

    def __init__(self, streams: int) -> None:
        self.streams = streams
        self.begin(0)

    def begin(self, step: int) -> None:
        """Begin a run whose first step is ``step``, and drop the values of the previous run."""
        self.step = step
        self._segments: dict[tuple[str, int], list[Segment]] = {
            (tap, stream): [] for tap in TAP_VALUE_BITS for stream in range(self.streams)
        }

    def trace(self, streams: Sequence[int], stage: str, layer: int, values: NDArray[np.int64]) -> None:
        """Record ``values [streams, n]`` of a stage."""
        if stage in TAP_OF_STAGE:
            for row, stream in zip(values, streams, strict=True):
                self._segments[TAP_OF_STAGE[stage], stream].append(Segment(self.step, stage, layer, row.copy()))

    def differences(
        self, tap: str, cycles: NDArray[np.uint64], owners: NDArray[np.int64], values: NDArray[np.int64]
    ) -> list[Difference]:
        """Return the first difference of each stream on a tap.

        ``cycles [beats]``, ``owners [beats]`` (the stream of each beat) and ``values [beats, P]`` are the record of the
        tap.
        """
        found = []
        for stream in range(self.streams):
            mine = owners == stream
            first = first_difference(tap, stream, cycles[mine], values[mine], self._segments[tap, stream])
            found += [] if first is None else [first]
        return found


def first_difference(
    tap: str, stream: int, cycles: NDArray[np.uint64], values: NDArray[np.int64], expected: Sequence[Segment]
) -> Difference | None:
    """Return the first value of a stream that differs from the expected value. ``values [beats, P]`` and ``cycles
    [beats]`` are the stream's record of the tap."""
    beat, width = 0, values.shape[1]
    for segment in expected:
        beats = -(-len(segment.values) // width)
        got = values[beat : beat + beats].reshape(-1)[: len(segment.values)]
        where = f"stage {segment.stage}, run from step {segment.step}, stream {stream}, layer {segment.layer}"
        if len(got) < len(segment.values):
            end = int(cycles[-1]) if len(cycles) else 0
            return end, f"{where}: {len(got)} values came, {len(segment.values)} were expected."
        wrong = np.flatnonzero(got != segment.values)
        if len(wrong):
            index = int(wrong[0])
            cycle = int(cycles[beat + index // width])
            what = f"got {got[index]}, expected {segment.values[index]} (tap {tap})"
            return cycle, f"{where}, index {index}, cycle {cycle}: {what}."
        beat += beats
    if beat != len(values):
        return int(cycles[beat]), f"tap {tap}: {len(values) - beat} beats too many, from cycle {cycles[beat]} on."
    return None
