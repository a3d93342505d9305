"""Building blocks of the cycle model, which compute when an item passes a pipeline, skid buffer, FIFO or unpacker.

    enter(when) ─► first cycle in which it can enter; leave(.., when) ─► the cycle in which it leaves

Each class models one kind of block in ``hw/`` and does not depend on the network. ``cycles.py`` joins these classes. An
item "shows" in the cycles in which its reader can see it. All times are cycles. ``visit`` shows the state of an object
to ``steady.py``, which jumps over periods that repeat. The computation takes constant time per item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lutern.hw.config import HwConfig
from lutern.hw.layouts import NARROW_WORDS, group_shape
from lutern.hw.pipeline import CREDITS, ROOM
from lutern.measure.steady import Times, Visitor


class Pipe:
    """A pipeline that never stalls, and the FIFO at its end (``CreditFifo``): an item enters only if that FIFO will
    have room for it."""

    def __init__(self, latency: int) -> None:
        self.latency = latency
        self._entered = self._left = -1
        self._leaves = Times(most=CREDITS)

    def enter(self, when: int) -> int:
        """Return the first cycle from ``when`` on in which an item can enter. Earlier items must have left."""
        when = max(when, self._entered + 1)
        if len(self._leaves) == CREDITS:
            when = max(when, self._leaves.back(CREDITS) + ROOM)
        self._entered = when
        return when

    def arrive(self, entered: int) -> int:
        """Return the cycle in which an item that entered in cycle ``entered`` shows at the end. It shows after the
        previous item."""
        return max(entered + self.latency, self._left + 1)

    def leave(self, arrival: int, when: int) -> int:
        """Let the item at the end leave in cycle ``when`` or later, and return the cycle in which it leaves."""
        self._left = max(arrival, when)
        self._leaves.append(self._left)
        return self._left

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self._entered, self._left = visitor.time(self._entered), visitor.time(self._left)
        self._leaves.visit(visitor)


@dataclass
class Slot:
    """A skid buffer (``hw/pipeline/skid.py``): it takes one more item while its output is blocked."""

    _left: int = -1
    _held: bool = False

    def enter(self, when: int) -> int:
        """Return the first cycle from ``when`` on in which an item is taken."""
        return max(when, self._left + 1) if self._held else when

    def leave(self, entered: int, when: int) -> int:
        """Let the item leave in cycle ``when`` or later, and return the cycle in which it leaves."""
        self._left = max(entered, when)
        self._held = self._left > entered
        return self._left

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self._left = visitor.time(self._left)
        visitor.same(self._held)


class Fifo:
    """amaranth.lib.fifo.SyncFIFOBuffered: a memory of ``depth - 1`` words, then a register.

    ``fill``, if given, is called until the word that is wanted has been written.
    """

    def __init__(self, depth: int, fill: Callable[[], None] | None = None) -> None:
        self.inner = depth - 1
        self.fill = fill
        self._written = Times()  # when each word in the memory was written
        self._moved = Times([-1], most=self.inner)  # when earlier words moved to the register
        self._writes = self._moves = 0

    def room(self, when: int) -> int:
        """Return the first cycle from ``when`` on in which a word can be written."""
        spare = self.inner - len(self._written)
        assert spare > 0, "the reader of a FIFO must be computed before it is full"
        return max(when, self._moved.back(spare) + 1) if spare <= len(self._moved) else when

    def write(self, when: int) -> int:
        """Write a word in cycle ``when`` or as soon as there is room; return the cycle in which it is written."""
        when = self.room(when)
        self._written.append(when)
        self._writes += 1
        self._moved.forget(when)  # earlier cycles had room, so their times are not needed
        return when

    def shows(self, popped_before: int) -> int:
        """Return the cycle from which the next word shows. The previous word was taken in cycle ``popped_before``."""
        while self.fill is not None and not self._written:
            self.fill()
        when = max(self._written.pop() + 1, popped_before, self._moved.back(1) + 1)
        self._moved.append(when)
        self._moves += 1
        return when + 1

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self._written.visit(visitor)
        self._moves = visitor.moved(self._moved, self._writes, self._moves)


class Reader:
    """readers.Repeater, which has a register at the memory's port and a second register after it. ``close`` gives the
    port to another reader.
    """

    def __init__(self) -> None:
        self._closed: list[tuple[int, int]] = []
        self._read = -1  # cycles in which the last item was read, left the port and was taken
        self._moved = -1
        self._taken = -1

    def close(self, start: int, stop: int) -> None:
        """Close the port in the cycles ``start`` to ``stop`` - 1, in which another reader has it."""
        self._closed = [span for span in self._closed if span[1] > self._read]
        self._closed.append((start, stop))

    def _granted(self, when: int) -> int:
        for start, stop in self._closed:
            if start <= when < stop:
                when = stop
        return when

    def shows(self, popped_before: int) -> int:
        """Return the cycle from which the next item shows. The previous item was taken in cycle ``popped_before``."""
        self._taken = popped_before
        read = self._granted(max(self._moved, self._read + 1))
        moved = max(read + 1, self._taken)
        for start, stop in self._closed:
            if read < start < moved:  # the item was at the port when another reader got the port
                read = self._granted(stop)
                moved = max(read + 1, self._taken)
        self._read, self._moved = read, moved
        return moved + 1

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self._read, self._moved = visitor.time(self._read), visitor.time(self._moved)
        self._taken = visitor.time(self._taken)
        self._closed = _visit_closed(visitor, self._closed, self._read)


class ReaderAhead:
    """readers.ReaderAhead, or Fetcher: items from a port, up to ``depth`` ahead, which show ``latency`` cycles later.

    ``room`` is the number of cycles from taking an item to reading another item in its place. ``steps`` is the number
    of cycles that reading an item takes.
    """

    def __init__(self, depth: int, latency: int, room: int = ROOM, steps: int = 1) -> None:
        self.depth, self.latency, self.room, self.steps = depth, latency, room, steps
        self._closed: list[tuple[int, int]] = []
        self.read = -1  # when the last item was read
        self._taken = Times(most=depth)

    def begin(self, when: int) -> None:
        """Read nothing before cycle ``when`` from now on."""
        self.read = max(self.read, when - 1)

    def close(self, start: int, stop: int) -> None:
        """Close the port in the cycles ``start`` to ``stop`` - 1, in which another reader has it."""
        self._closed = [span for span in self._closed if span[1] > self.read]
        self._closed.append((start, stop))

    def shows(self, popped_before: int) -> int:
        """Return the cycle from which the next item shows. The previous item was taken in cycle ``popped_before``."""
        self._taken.append(popped_before)
        read = self.read + 1
        if len(self._taken) == self.depth:
            read = max(read, self._taken.back(self.depth) + self.room)
        for start, stop in self._closed:
            if start <= read < stop:
                read = stop
        self.read = read + self.steps - 1
        return self.read + self.latency

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.read = visitor.time(self.read)
        self._taken.visit(visitor)
        self._closed = _visit_closed(visitor, self._closed, self.read)


class Checked:
    """A reader of rows. The first ``count`` words of a row are its check, and are taken in the cycle in which they show
    (hw/weight_check.py)."""

    def __init__(self, source: ReaderAhead, count: int) -> None:
        self.source, self.count = source, count
        self.left = 0

    def begin(self, when: int) -> None:
        """Begin a row whose first word is not read before cycle ``when``."""
        self.source.begin(when)
        self.left = self.count

    def shows(self, popped_before: int) -> int:
        """Return the cycle from which the next item shows. The previous item was taken in cycle ``popped_before``."""
        while self.left:
            self.left -= 1
            popped_before = max(self.source.shows(popped_before), popped_before + 1)
        return self.source.shows(popped_before)

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.source.visit(visitor)


def _visit_closed(visitor: Visitor, closed: list[tuple[int, int]], read: int) -> list[tuple[int, int]]:
    """Record the spans in which another reader has the port, and return them. A jump ends before the next span that
    begins after the newest ``read``.
    """
    ahead = [span for span in closed if span[1] > read]
    for start, _ in ahead:
        visitor.count(start - read)
    return visitor.spans(ahead)


class Supply:
    """gains.GainSupply and the skid buffer after it: groups of operations, read before they are needed.

    ``next_operation`` returns three numbers: the cycle from which the next operation shows, the number of items of
    a group, and the number of groups.
    """

    def __init__(
        self, config: HwConfig, fill: Callable[[], None], next_operation: Callable[[int], tuple[int, int, int]]
    ) -> None:
        self.words = Fifo(config.gain_fifo_words, fill)
        self.groups = Groups(config, self.words)
        self.next_operation = next_operation
        self.fifo = Fifo(config.gain_fifo_groups, self._unpack)
        self.slot = Slot()
        self._items = self._left = 0
        self._popped = -1
        self._left_fifo = -1
        self._shows: int | None = None

    def _unpack(self) -> None:
        """Write one more group into the FIFO."""
        if self._left == 0:
            shows, self._items, self._left = self.next_operation(self._popped)
            self.groups.open(shows)
        when = self.fifo.write(self.groups.next(self._items))
        self._left -= 1
        self.groups.take(when, self._left == 0)
        if self._left == 0:
            self._popped = when

    def next(self) -> int:
        """Return the cycle from which the next group shows."""
        if self._shows is None:
            self._left_fifo = self.slot.enter(self.fifo.shows(self._left_fifo))
            self._shows = self._left_fifo
        return self._shows

    def take(self, when: int) -> None:
        """Take the group that shows, in cycle ``when``."""
        self.slot.leave(self.next(), when)
        self._shows = None

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.groups.visit(visitor)
        self.fifo.visit(visitor)
        self.slot.visit(visitor)
        visitor.same(self._items)
        self._left = visitor.count(self._left)
        self._popped, self._left_fifo = visitor.time(self._popped), visitor.time(self._left_fifo)
        visitor.same(self._shows is None)
        if self._shows is not None:
            self._shows = visitor.time(self._shows)


class Widened:
    """row_widener.RowWidener after a FIFO: after every three words of the FIFO it outputs a fourth word, which it
    has collected from these three.
    """

    def __init__(self, words: Fifo) -> None:
        self.words = words
        self._count = 0
        self._popped = -1  # when the last word of the FIFO was taken

    def shows(self, popped_before: int) -> int:
        """Return the cycle from which the next word shows. The previous word was taken in cycle ``popped_before``."""
        if self._count:
            self._popped = popped_before
        if self._count == NARROW_WORDS:
            self._count = 0
            return popped_before + 1
        self._count += 1
        return self.words.shows(self._popped)

    def end(self) -> None:
        """End a row."""
        self._count = 0

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.words.visit(visitor)
        visitor.same(self._count)
        self._popped = visitor.time(self._popped)


class Groups:
    """The unpacker (``router.GroupUnpacker``) after a FIFO of words, or after a reader."""

    def __init__(self, config: HwConfig, words: Checked | Fifo | ReaderAhead | Widened) -> None:
        self.config = config
        self.words = words
        self._left = 0
        self._loaded = -1  # when the last word was loaded
        self._refill = 0  # the first cycle in which a word may be loaded
        self._shows = 0

    def open(self, when: int) -> None:
        """Begin the next operation, which is known from cycle ``when`` on."""
        self._refill = max(self._refill, when)

    def next(self, items: int) -> int:
        """Return the cycle from which the next group shows; a group has ``items`` items for each element."""
        groups, words = group_shape(self.config, items)
        if self._left == 0:
            for _ in range(words):
                shows = self.words.shows(self._loaded)
                self._loaded = max(shows, self._refill, self._loaded + 1)
                self._refill = self._loaded + 1
            self._left = groups
            self._shows = self._loaded + 1
        return self._shows

    def take(self, when: int, last: bool) -> None:
        """Take the group in cycle ``when``; after the ``last`` group of an operation the remaining groups of the
        word are dropped."""
        self._left -= 1
        self._shows = when + 1
        if last:
            self._left = 0
            self._refill = when + 1
            if isinstance(self.words, Widened):
                self.words.end()
        elif self._left == 0:
            self._refill = when

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.words.visit(visitor)
        self._left = visitor.count(self._left)
        self._loaded, self._refill = visitor.time(self._loaded), visitor.time(self._refill)
        self._shows = visitor.time(self._shows)
