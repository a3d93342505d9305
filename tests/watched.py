"""A simulated board that stores the counts of its memories at regular cycles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.session import Feed, Machine, Run
from lutern.sim.board import SimulatedBoard
from lutern.sim.port_memory import WordCounts


class Watch(SimulatedBoard):
    """Stores the ``counts`` of each memory every ``note_every`` cycles, unless ``note_every`` is 0. If a class has
    several base classes, `Watch` must be the first of them."""

    note_every = 0

    def counts(self) -> list[WordCounts]:
        """Return the counts of each memory."""
        return [self.word_counts()]

    def forget(self) -> None:
        """Drop all stored counts and stop storing."""
        self.note_every = 0
        self._notes: list[tuple[int, list[WordCounts]]] = []

    def run(self, cycles: int) -> int:
        step = self.note_every or max(cycles, 1)
        waiting = super().run(0)
        for done in range(0, cycles, step):
            if waiting := super().run(min(step, cycles - done)):
                break
            if self.note_every:
                self._notes.append((self.cycles, self.counts()))
        return waiting

    def between(self, begin: int, end: int) -> list[WordCounts]:
        """Return the counts of each memory between two cycles. For each of the two cycles, the last counts that were
        stored before this cycle are used."""
        first, last = (self._until(cycle) for cycle in (begin, end))
        return [after - before for before, after in zip(first, last, strict=True)]

    def _until(self, cycle: int) -> list[WordCounts]:
        return self._notes[bisect_right(self._notes, cycle, key=lambda note: note[0]) - 1][1]

    def run_watched(
        self, machine: Machine, feeds: Sequence[Feed], count: int, every: int = 1
    ) -> tuple[Run, NDArray[np.int64]]:
        """Run and store counts. Return the run, and for each token the cycle of its last write of h, [count]."""
        self.record("h")
        self.taps("h", clear=True)
        self.note_every = every
        run = machine.run(feeds, count)
        self.note_every = 0
        self.record("h", on=False)
        return run, self.taps("h", clear=True).cycles.astype(np.int64).reshape(count, -1)[:, -1]
