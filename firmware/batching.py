"""A batch of conversations that join and leave while a machine runs, and that share its passes of the weights.

    add ─► waiting ─► a slot is free ─► one block of the prompt per round ─► one token per round ─► ended: slot free
                                        drop: at any time between two rounds ───────────────────┘

In each round the machine reads one block of one prompt, and chooses one token for every conversation whose prompt was
complete before the round. The chip uses one temperature for a whole run, so only conversations of equal temperature
share a pass. A conversation gets the same tokens as it would get alone, see ``conversations.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from lutern.firmware.conversations import Conversation, Finished, Piece, never, prefill_blocks
from lutern.firmware.session import Machine, Run


class Batch:
    """The conversations of one machine.

    Members
    -------
    capacity : int
        The largest number of conversations in flight. Further conversations wait.
    waiting : deque of Conversation
        Conversations that have no slot yet.
    """

    def __init__(self, machine: Machine, finished: Finished = never) -> None:
        self._machine, self._finished = machine, finished
        self.capacity = min(machine.slots, machine.streams)
        self.waiting: deque[Conversation] = deque()
        self._free = list(range(self.capacity))[::-1]
        self._active: list[Conversation] = []
        self._reading: dict[Conversation, Iterator[Run]] = {}  # the blocks of each prompt that are still to come
        self._read: dict[Conversation, int] = {}

    def __len__(self) -> int:
        return len(self.waiting) + len(self._active)

    def add(self, one: Conversation) -> None:
        """Add a conversation. It begins when a slot is free. No other conversation may have the same number
        ``which``."""
        self.waiting.append(one)

    def drop(self, one: Conversation) -> None:
        """Remove a conversation that waits or is in flight. Do nothing if the conversation has ended."""
        if one in self.waiting:
            self.waiting.remove(one)
        elif one in self._active:
            self._leave(one)

    def clear(self) -> None:
        """Remove all conversations."""
        self.waiting.clear()
        for one in list(self._active):
            self._leave(one)

    def round(self) -> Iterator[Piece]:
        """Run the machine for one block of a prompt, and one token of every conversation whose prompt is complete."""
        while self.waiting and self._free:
            self._join(self.waiting.popleft())
        going = [one for one in self._active if one not in self._reading]
        if self._reading:
            yield from self._read_on(next(iter(self._reading)))
        for temperature in dict.fromkeys(one.sampling.on_chip for one in going):
            sharing = [one for one in going if one.sampling.on_chip == temperature]
            run = self._machine.run([one.feed() for one in sharing], temperature=temperature)
            for stream, one in enumerate(sharing):
                yield self._take(one, run, stream)

    def _join(self, one: Conversation) -> None:
        one.slot = self._free.pop()
        self._active.append(one)
        self._reading[one] = prefill_blocks(
            self._machine, one.prompt, one.slot, seed=one.generator, temperature=one.sampling.on_chip
        )
        self._read[one] = 0

    def _read_on(self, one: Conversation) -> Iterator[Piece]:
        """Feed one block of a prompt. The last block also chooses the first token."""
        run = next(self._reading[one])
        self._read[one] += len(run.tokens[0])
        if self._read[one] == len(one.prompt):
            del self._reading[one], self._read[one]
            yield self._take(one, run, len(run.tokens[0]) - 1)

    def _take(self, one: Conversation, run: Run, stream: int) -> Piece:
        logits = self._machine.logits(stream) if one.sampling.on_host else None
        tokens = one.take([run.tokens[0][stream]], logits, self._finished)
        if not one.left:
            self._leave(one)
        return Piece(one.which, tokens, run)

    def _leave(self, one: Conversation) -> None:
        self._active.remove(one)
        self._reading.pop(one, None)
        self._read.pop(one, None)
        self._free.append(one.slot)


__all__ = ["Batch"]
