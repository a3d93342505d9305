"""Conversations on one machine: each continues a prompt, and several are in flight together.

    prompt ─► prefill: blocks of T tokens, one pass for each block ──────┐
    prompt ─► prefill ───────────────────────────────────────────────────┼─► steps: a token of each text per pass
    waiting prompts join as soon as a slot is free ──────────────────────┘

A conversation gets the same tokens whichever conversations share its passes, and however its prompt was cut into
blocks. A conversation ends after a given number of tokens, or with the token for which ``finished`` returns True.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lutern.firmware.host_sampling import Sampling, sample
from lutern.firmware.session import Feed, Logits, Machine, Run
from lutern.hw.protocol import RUN_TOKENS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.sampling import JUMP_LOG2, advance, stream_seeds
from lutern.model_ref.tokenizer import EMPTY_PROMPT

Finished = Callable[[int, int], bool]
"""A function that is called with (conversation, token) for every token in order. If it returns True, the conversation
ends with this token.
"""


@dataclass(frozen=True)
class Piece:
    """The next tokens of conversation ``which``, and the run that chose them."""

    which: int
    tokens: list[int]
    run: Run


class Conversation:
    """One prompt in progress: its slot, the state of its random generator, and the number of tokens that are still to
    come.

    The seed of the generator is ``sampling.seed`` + ``which``. ``left`` is the number of tokens that may still be
    chosen, and is 0 after the conversation has ended.
    """

    def __init__(self, which: int, prompt: Sequence[int], count: int, sampling: Sampling) -> None:
        self.which, self.prompt, self.left, self.sampling = which, list(prompt), count, sampling
        self.slot = 0
        self.token = 0
        self.generator = int(stream_seeds(sampling.seed + which, 1)[0])
        self.random = np.random.default_rng(sampling.seed + which)
        self.seen = set(prompt)

    def feed(self) -> Feed:
        """Return the feed of the conversation's next step."""
        return Feed(self.token, self.slot, seed=self.generator)

    def take(self, tokens: list[int], logits: Logits | None, finished: Finished) -> list[int]:
        """Return the tokens that a run chose for this conversation, up to the token that ends it. If ``logits`` are
        given, choose one token from the logits instead."""
        if logits is not None:
            tokens = [sample(logits, self.sampling, self.random, self.seen)]
        self.left -= len(tokens)
        for place, token in enumerate(tokens):
            if finished(self.which, token):
                self.left = 0
                tokens = tokens[: place + 1]
                break
        self.token = tokens[-1]
        self.seen.update(tokens)
        if self.sampling.on_chip:
            for _ in tokens:
                self.generator = int(advance(np.array(self.generator, dtype=np.uint32), 1 << JUMP_LOG2))
        return tokens


def never(which: int, token: int) -> bool:
    """Return False for every token, so that no token ends a conversation."""
    return False


def prefill(
    machine: Machine, tokens: Sequence[int], slot: int, *, seed: int = 1, temperature: float = 0.0, fresh: bool = True
) -> Run:
    """Feed a prompt, from a zero state if ``fresh``, else from the state in the slot. Return the last run,
    whose last stream has the prompt's last token."""
    *_, run = prefill_blocks(machine, tokens, slot, seed=seed, temperature=temperature, fresh=fresh)
    return run


def prefill_blocks(
    machine: Machine, tokens: Sequence[int], slot: int, *, seed: int = 1, temperature: float = 0.0, fresh: bool = True
) -> Iterator[Run]:
    """Feed a prompt as ``prefill`` does, and yield the run of each block of ``machine.streams`` tokens."""
    for start in range(0, len(tokens), machine.streams):
        block = tokens[start : start + machine.streams]
        feeds = [Feed(token, slot, fresh=fresh and start + place == 0, seed=seed) for place, token in enumerate(block)]
        yield machine.run(feeds, temperature=temperature, chained=len(feeds) > 1)


def converse(
    machine: Machine,
    prompts: Sequence[Sequence[int]],
    count: int,
    sampling: Sampling,
    burst: int = 1,
    finished: Finished = never,
) -> Iterator[Piece]:
    """Continue every prompt by at most ``count`` tokens, and yield the tokens in the order in which they are chosen.

    Conversation i uses ``sampling.seed`` + i. ``burst`` is the largest number of tokens that one run chooses for a
    conversation. If the host samples, a run chooses one token.
    """
    if not all(prompts):
        raise LuternError(EMPTY_PROMPT)
    if count < 1:
        return
    waiting = deque(Conversation(which, prompt, count, sampling) for which, prompt in enumerate(prompts))
    free = list(range(min(machine.slots, machine.streams)))[::-1]
    active: list[Conversation] = []
    on_host = sampling.on_host
    while waiting or active:
        while waiting and free:
            joined = waiting.popleft()
            joined.slot = free.pop()
            run = prefill(machine, joined.prompt, joined.slot, seed=joined.generator, temperature=sampling.on_chip)
            last = len(run.tokens[0]) - 1
            chosen = joined.take([run.tokens[0][last]], machine.logits(last) if on_host else None, finished)
            yield Piece(joined.which, chosen, run)
            active.append(joined)
        going = [one for one in active if one.left]
        if going:
            steps = 1 if on_host else min(burst, RUN_TOKENS // len(going), *(one.left for one in going))
            run = machine.run([one.feed() for one in going], steps, temperature=sampling.on_chip)
            for stream, one in enumerate(going):
                chosen = [step[stream] for step in run.tokens]
                yield Piece(one.which, one.take(chosen, machine.logits(stream) if on_host else None, finished), run)
        free += [one.slot for one in active if not one.left]
        active = [one for one in going if one.left]


class Dialogue:
    """One conversation of several turns, whose state stays in slot 0 of the machine between the turns."""

    def __init__(self, machine: Machine, sampling: Sampling) -> None:
        self._machine = machine
        self._one = Conversation(0, [], 0, sampling)
        self._fresh = True
        self.pending: int | None = None
        """The last chosen token. It has not been fed, so the state does not include it yet."""

    def restart(self) -> None:
        """Forget all turns, so that the next turn begins from a zero state."""
        self._fresh, self.pending = True, None
        self._one.seen.clear()

    def turn(self, tokens: Sequence[int], count: int, finished: Finished = never) -> Iterator[Piece]:
        """Feed the last answer's last token and ``tokens``, then choose at most ``count`` further tokens."""
        fed = [*([] if self.pending is None else [self.pending]), *tokens]
        if not fed:
            raise LuternError(EMPTY_PROMPT)
        one, machine = self._one, self._machine
        temperature, on_host = one.sampling.on_chip, one.sampling.on_host
        one.left = count
        one.seen.update(fed)
        run = prefill(machine, fed, one.slot, seed=one.generator, temperature=temperature, fresh=self._fresh)
        self._fresh, stream = False, len(run.tokens[0]) - 1
        while True:
            chosen = one.take([run.tokens[0][stream]], machine.logits(stream) if on_host else None, finished)
            self.pending = one.token
            yield Piece(one.which, chosen, run)
            if one.left < 1:
                return
            run, stream = machine.run([one.feed()], temperature=temperature), 0


def generate(
    machine: Machine, prompt: Sequence[int], count: int, sampling: Sampling, burst: int = 1
) -> Iterator[tuple[int, Run]]:
    """Yield the tokens of one conversation, each with the run that chose it."""
    for piece in converse(machine, [prompt], count, sampling, burst):
        for token in piece.tokens:
            yield token, piece.run


__all__ = [
    "EMPTY_PROMPT",
    "Conversation",
    "Dialogue",
    "Finished",
    "Piece",
    "Sampling",
    "converse",
    "generate",
    "never",
    "prefill",
    "prefill_blocks",
    "sample",
]
