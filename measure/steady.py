"""Jumps over periods that repeat, so that the cycle model is fast for large machines and stays exact.

    period ─► state ─┐
    period ─► state ─┼─► equal steps? ─► state + k * step ─► the period after the next k
    period ─► state ─┘

The cycle model uses only "a cycle later than", "when both have arrived" and "one per cycle", so every time is a maximum
of sums. Take three states at equal distances that differ by equal steps, in which each time moves by the length of the
period, or not at all. Then every later state differs by the same steps, because a time that moves depends only on times
that move at the same rate, and a time that does not move can never become the maximum again. Counts (words left of a
record, groups that wait) move by their own steps. A jump ends before any count reaches zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence


class Visitor:
    """Records a state, part by part, always in the same order; ``before`` is the record of the previous period."""

    def __init__(self, clock: int = 0, before: Visitor | None = None) -> None:
        self.clock, self.before = clock, before
        self.times: list[int] = []
        self.waiting: list[int] = []
        self.counts: list[int] = []
        self.shape: list[object] = []
        self.queues: list[tuple[int, int, int, list[int] | None]] = []

    def time(self, value: int) -> int:
        """Record a cycle, which moves by a whole period or stays, and return it after the jump."""
        self.times.append(value)
        return value

    def waited(self, value: int) -> int:
        """Record the cycle in which the oldest item of a queue came, and return it after the jump. Each removal of an
        item changes this cycle.
        """
        self.waiting.append(value)
        return value

    def count(self, value: int) -> int:
        """Record a number of items, which a jump must not take below 1, and return it after the jump."""
        self.counts.append(value)
        return value

    def same(self, value: object) -> None:
        """Record a value that must not change from one state to the next."""
        self.shape.append(value)

    def spans(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Record spans of cycles, each from its first to the cycle after its last, and return them after the jump."""
        self.same(len(spans))
        return [(self.time(start), self.time(stop)) for start, stop in spans]

    def moved(self, times: Times, written: int, moved: int) -> int:
        """Record the times at which items left a queue, and return ``moved`` after the jump. ``written`` and ``moved``
        are the numbers of items that came and left so far.

        If no item was written during a period, only the times of the items that left in this period are recorded,
        because only the newest time counts until an item is written again.
        """
        newest, on = None, 0
        if self.before is not None:
            before = self.before.queues[len(self.queues)]
            on = moved - before[1]
            if written == before[0] and on < len(times):
                newest = [times.back(place) for place in range(on, 0, -1)]
        self.queues.append((written, moved, on, newest))
        self.same(newest if newest is None else tuple(when - self.clock for when in newest))
        if newest is None:
            times.visit(self)
        self.time(times.back(1))
        return moved


class _Mover(Visitor):
    """Advances a state by ``jumps`` periods with the same steps."""

    def __init__(self, state: Visitor, cycles: int, steps: Sequence[list[int]], jumps: int) -> None:
        super().__init__()
        self._jumps, self._cycles, self._queues = jumps, cycles, iter(state.queues)
        self._times, self._waiting, self._counts = ((jumps * step for step in part) for part in steps)

    def time(self, value: int) -> int:
        return value + next(self._times)

    def waited(self, value: int) -> int:
        return value + next(self._waiting)

    def count(self, value: int) -> int:
        return value + next(self._counts)

    def same(self, value: object) -> None:
        pass

    def moved(self, times: Times, written: int, moved: int) -> int:
        _written, _moved, on, newest = next(self._queues)
        if newest is None:
            times.visit(self)
        else:
            for jump in range(1, self._jumps + 1):
                for when in newest:
                    times.append(when + jump * self._cycles)
        self.time(0)
        return moved + self._jumps * on


class Times:
    """A queue of cycles, stored as runs [first, step, count]. Beyond ``most`` cycles, the oldest are dropped."""

    def __init__(self, times: Iterable[int] = (), most: int | None = None) -> None:
        self.most = most
        self._runs: deque[list[int]] = deque()
        self._count = 0
        for when in times:
            self.append(when)

    def __len__(self) -> int:
        return self._count

    def append(self, when: int) -> None:
        """Add the newest cycle."""
        run = self._runs[-1] if self._runs else None
        if run is not None and run[2] == 1:
            run[1], run[2] = when - run[0], 2
        elif run is not None and when == run[0] + run[1] * run[2]:
            run[2] += 1
        else:
            self._runs.append([when, 0, 1])
        self._count += 1
        if self.most is not None and self._count > self.most:
            self.pop()

    def pop(self) -> int:
        """Remove and return the oldest cycle."""
        run = self._runs[0]
        when = run[0]
        run[0], run[2] = when + run[1], run[2] - 1
        if not run[2]:
            self._runs.popleft()
        elif run[2] == 1:
            run[1] = 0
        self._count -= 1
        return when

    def forget(self, when: int) -> None:
        """Remove cycles before ``when``, but keep the newest cycle."""
        while self._count > 1 and self._runs[0][0] < when:
            self.pop()

    def back(self, place: int) -> int:
        """Return the cycle at ``place`` from the end; 1 is the newest."""
        for run in reversed(self._runs):
            if place <= run[2]:
                return run[0] + run[1] * (run[2] - place)
            place -= run[2]
        raise IndexError(place)

    def visit(self, visitor: Visitor) -> None:
        """Show the state to ``visitor``, with the number of items that still fit: ``most`` minus the present number."""
        visitor.same(len(self._runs))
        for run in self._runs:
            visitor.same(run[1])
            run[0], run[2] = visitor.waited(run[0]), visitor.count(run[2])
        if self.most is not None:
            visitor.count(self.most - self._count)
        self._count = sum(run[2] for run in self._runs)


class Steady:
    """Watches a state at the ends of periods. ``visit`` shows the state. Every period advances the time ``clock``."""

    def __init__(self, visit: Callable[[Visitor], None], clock: Callable[[], int]) -> None:
        self.visit, self.clock = visit, clock
        self._before: Visitor | None = None
        self._steps: tuple[int, list[list[int]]] | None = None

    def jump(self, most: int) -> int:
        """Jump over up to ``most`` periods, and return their number. Call this at the end of a period, if at least
        ``most`` similar periods follow.
        """
        if most <= 0:
            return 0
        before, steps = self._before, self._steps
        self._before, self._steps = state, _ = Visitor(self.clock(), before), None
        self.visit(state)
        state.before = None
        if before is None or before.shape != state.shape:
            return 0
        cycles = state.clock - before.clock
        moves = [
            [new - old for old, new in zip(old_part, new_part, strict=True)]
            for old_part, new_part in zip(_parts(before), _parts(state), strict=True)
        ]
        times, waiting, counts = moves
        if any(step not in (0, cycles) for step in times) or any(not 0 <= step <= cycles for step in waiting):
            return 0
        self._steps = (cycles, moves)
        if steps != self._steps:
            return 0
        for value, step in zip(state.counts, counts, strict=True):
            if step < 0:
                most = min(most, value // -step - 1)
        if most <= 0:
            return 0
        self.visit(_Mover(state, cycles, moves, most))
        self._before = self._steps = None
        return most


def _parts(state: Visitor) -> tuple[list[int], list[int], list[int]]:
    return state.times, state.waiting, state.counts
