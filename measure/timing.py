"""Parts of the cycle model: when an item passes a pipeline, a skid buffer, a FIFO, an unpacker.

    enter(when) ─► first cycle in which it can; leave(.., when) ─► the cycle in which it goes on

Each mirrors one kind of block in ``hw/`` and knows nothing of the network; ``cycles.py`` joins them to a token.
Constant time an item.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lutern.hw.config import HwConfig
from lutern.hw.layouts import group_shape


@dataclass
class Pipe:
    """A pipeline under one enable (``hw/stages.py``): while its last item waits, nothing moves."""

    latency: int
    _last: int = -1
    _frozen: list[tuple[int, int]] = field(default_factory=list)

    def enter(self, when: int) -> int:
        """The first cycle from ``when`` on in which an item can enter."""
        when = max(when, self._last + 1)
        for start, stop in self._frozen[-4:]:
            if start <= when < stop:
                when = stop
        self._last = when
        return when

    def arrive(self, entered: int) -> int:
        """The cycle in which an item that entered then shows at the end."""
        arrival = entered + self.latency
        for start, stop in self._frozen[-4:]:
            if stop > entered and start < arrival:
                arrival += stop - max(start, entered)
        return arrival

    def leave(self, arrival: int, when: int) -> int:
        """The item at the end leaves at ``when`` at the earliest."""
        if when > arrival:
            self._frozen.append((arrival, when))
        return max(arrival, when)


@dataclass
class Slot:
    """A skid buffer (``hw/skid.py``): one item more is taken while the way on is blocked."""

    _left: int = -1
    _held: bool = False

    def enter(self, when: int) -> int:
        """The first cycle from ``when`` on in which an item is taken."""
        return max(when, self._left + 1) if self._held else when

    def leave(self, entered: int, when: int) -> int:
        """The item goes on at ``when`` at the earliest."""
        self._left = max(entered, when)
        self._held = self._left > entered
        return self._left


class Fifo:
    """amaranth.lib.fifo.SyncFIFOBuffered: a memory of ``depth - 1`` words, then a register."""

    def __init__(self, depth: int) -> None:
        self.inner = depth - 1
        self.written: list[int] = []
        self.moved: list[int] = []

    def room(self, when: int) -> int:
        """The first cycle from ``when`` on in which a word can be written."""
        behind = len(self.written) - self.inner
        return max(when, self.moved[behind] + 1) if behind >= 0 else when

    def write(self, when: int) -> int:
        """Write at ``when`` or as soon as there is room."""
        self.written.append(self.room(when))
        return self.written[-1]

    def shows(self, popped_before: int) -> int:
        """The cycle from which the next word shows, given when the one before it was taken."""
        index = len(self.moved)
        when = max(self.written[index] + 1, popped_before, self.moved[-1] + 1 if index else 0)
        self.moved.append(when)
        return when + 1


class Groups:
    """A FIFO of words and the unpacker behind it (``router.GroupUnpacker``)."""

    def __init__(self, config: HwConfig, item_bits: int, depth: int) -> None:
        self.config = config
        self.item_bits = item_bits
        self.fifo = Fifo(depth)
        self._left = 0
        self._loaded = -1  # when the last word was loaded
        self._refill = 0  # from when on a word may be loaded
        self._shows = 0

    def open(self, when: int) -> None:
        """The operation whose groups come next is known from ``when`` on."""
        self._refill = max(self._refill, when)

    def next(self, items: int) -> int:
        """The cycle from which the next group shows."""
        groups, words = group_shape(self.config, self.item_bits, items)
        if self._left == 0:
            for _ in range(words):
                shows = self.fifo.shows(self._loaded)
                self._loaded = max(shows, self._refill, self._loaded + 1)
                self._refill = self._loaded + 1
            self._left = groups
            self._shows = self._loaded + 1
        return self._shows

    def take(self, when: int, last: bool) -> None:
        """The group was taken; ``last`` of its operation drops the rest of the word."""
        self._left -= 1
        self._shows = when + 1
        if last:
            self._left = 0
            self._refill = when + 1
        elif self._left == 0:
            self._refill = when
