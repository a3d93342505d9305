"""Computes for the cycle model when words of the record stream become operations, groups of gains and beats of trits.

    words ─► router ─┬► operations ─► a queue for each stage
                     ├► gain FIFO ──► groups
                     └► trit FIFO ──► beats of trits        (resident trits come from their own memory)

A word is read when something that is made from it is needed. All times are cycles, and values "show" as
``cycles.py`` defines. The computation takes constant time per word.
"""

from __future__ import annotations

from collections import deque

from lutern.firmware.schedule import Operation, records
from lutern.hw.config import HwConfig
from lutern.hw.layouts import Op, RecordKind, header_words
from lutern.hw.memory import ResidentMemory
from lutern.hw.pipeline import CREDITS
from lutern.hw.sequencer import QUEUE_DEPTH
from lutern.measure.steady import Visitor
from lutern.measure.timing import Fifo, Reader, ReaderAhead, Supply
from lutern.model_ref.config import ModelConfig

STAGES = ("quantise", "engine", "results", "supply", "gains")
"""Stages of the machine that have a queue of operations."""


class RecordTimes:
    """The reader of words, the router and the FIFOs and queues that it fills.

    ``ops`` holds the operations in the queues of all stages except the supply. ``popped`` has the cycle in which each
    stage took its last operation.
    """

    def __init__(self, model_config: ModelConfig, hw_config: HwConfig) -> None:
        self.resident = hw_config.source == "resident"
        # The resident latencies include the cycle in which the readers are released.
        self.reader: Reader | ReaderAhead = (
            ReaderAhead(CREDITS, ResidentMemory.latency - 1) if self.resident else Reader()
        )
        self.trit_reader = ReaderAhead(CREDITS, ResidentMemory.trit_latency_of(hw_config) - 1)
        self.header_words = header_words(hw_config)
        self.records = records(model_config, hw_config)
        self.record = self.place = 0  # record of the next word, and the word's place in it
        self.taken = -1
        self.op_accepted = 0
        self.trits = Fifo(hw_config.trit_fifo_words, self._read_word)
        self.gains = Supply(hw_config, self._read_word, self._next_supply)
        self.assembled = 0  # cycle in which the last word of a beat was taken from the FIFO
        self.queues = {name: Fifo(QUEUE_DEPTH, self._read_word) for name in STAGES}
        self.popped = dict.fromkeys(self.queues, -1)
        self.ops: deque[Operation] = deque()
        self.supply_ops: deque[Operation] = deque()

    def next_op(self, name: str) -> int:
        """Return the cycle from which a stage's next operation shows."""
        return self.queues[name].shows(self.popped[name])

    def trits_show(self, beat: int, words: int) -> int:
        """Return the cycle from which the trits of the next beat show at the ternary unit.

        These trits fill ``words`` words. ``beat`` is the cycle in which the previous beat was taken.
        """
        if self.resident:
            return self.trit_reader.shows(beat)
        for word in range(words):
            when = max(self.trits.shows(self.assembled), self.assembled + 1)
            self.assembled = max(when, beat) if word == words - 1 else when
        return self.assembled + 1

    def visit(self, visitor: Visitor, *, layers: bool) -> None:
        """Show the state to ``visitor``, between two layers (``layers``) or between two beats or row groups."""
        for fifo in self.queues.values():
            fifo.visit(visitor)
        for item in (self.reader, self.trits, self.gains):
            item.visit(visitor)
        if self.resident:
            self.trit_reader.visit(visitor)
        self.popped = {name: visitor.time(when) for name, when in self.popped.items()}
        self.taken, self.op_accepted = visitor.time(self.taken), visitor.time(self.op_accepted)
        self.assembled = visitor.time(self.assembled)
        visitor.same((len(self.ops), len(self.supply_ops)))
        if layers:
            visitor.same(self.place)
            self.record = visitor.count(self.record)
        else:
            visitor.same(self.record)
            visitor.count(self.header_words + self.records[self.record].words - self.place)
            self.place = visitor.count(self.place)

    def _read_word(self) -> None:
        """Move the next word through the router. After the last word, the first word follows again."""
        item = self.records[self.record]
        is_header = self.place < self.header_words
        self.place += 1
        ends = self.place == self.header_words + item.words
        if ends:
            self.record, self.place = (self.record + 1) % len(self.records), 0
        when = max(self.reader.shows(self.taken), self.taken + 1)
        if is_header or item.kind == RecordKind.CHECK:
            self.taken = when
        elif item.kind == RecordKind.OP:
            self.taken = max(when, self.op_accepted + 1)
            if ends:
                self.op_accepted = self._deal(item.operation, self.taken + 1)
        else:
            self.taken = (self.gains.words if item.kind == RecordKind.GAINS else self.trits).write(when)

    def _deal(self, op: Operation, when: int) -> int:
        """Put an operation into the queues as soon as all have room; return the cycle in which it was accepted."""
        for queue in self.queues.values():
            when = queue.room(when)
        embed = op.op == Op.EMBED
        wanted = {
            "quantise": not embed and not op.reuse,
            "engine": not embed,
            "results": True,
            "supply": op.items > 0,
            "gains": op.items > 0,
        }
        for name, queue in self.queues.items():
            if wanted[name]:
                queue.write(when)
        self.ops.append(op)
        if wanted["supply"]:
            self.supply_ops.append(op)
        return when

    def _next_supply(self, popped: int) -> tuple[int, int, int]:
        """Return the cycle from which the supply's next operation shows, the number of items of a group, and of
        groups."""
        shows = self.queues["supply"].shows(popped)
        op = self.supply_ops.popleft()
        return shows, op.items, op.groups


__all__ = ["RecordTimes"]
