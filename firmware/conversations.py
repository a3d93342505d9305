"""Conversations: prompts in, text out, several of them in flight on one machine.

    prompt ─► prefill: blocks of T tokens, one pass of the weights each ─┐
    prompt ─► prefill ───────────────────────────────────────────────────┼─► steps: a token for each, in the same pass
    waiting prompts join as soon as a slot is free ──────────────────────┘

A conversation's tokens are the same whoever shares its passes, and however its prompt was cut into blocks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lutern.firmware.session import Feed, Logits, Machine, Run, temperature_word
from lutern.hw.protocol import RUN_TOKENS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.sampling import JUMP_LOG2, advance, stream_seeds

EMPTY_PROMPT = "the prompt is empty; give at least one character."


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: ``temperature`` 0 takes the likeliest; else the chip samples by Gumbel noise, or,
    with ``top_k`` above 0, the host among the k likeliest."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise LuternError(f"the temperature is {self.temperature}; give 0 (the likeliest) or a positive number.")
        if self.top_k < 0:
            raise LuternError(f"top-k is {self.top_k}; give 0 (all tokens) or a positive number.")
        if self.top_k >= 1 << 32:
            raise LuternError(f"top-k is {self.top_k}, more than any vocabulary has; give 0 for all tokens.")
        if self.seed < 0:
            raise LuternError(f"the seed is {self.seed}; give 0 or a positive number.")
        temperature_word(self.on_chip)  # refuses what the chip cannot hold before anything is loaded

    @property
    def on_chip(self) -> float:
        """Temperature that the chip chooses with."""
        return 0.0 if self.top_k else self.temperature


@dataclass(frozen=True)
class Piece:
    """Tokens that conversation ``which`` went on with, and the run that they came from."""

    which: int
    tokens: list[int]
    run: Run


class _Conversation:
    """One prompt on its way: where its state is, what its generator's state is, how much is still to come."""

    def __init__(self, which: int, prompt: Sequence[int], count: int, sampling: Sampling) -> None:
        self.which, self.prompt, self.left, self.sampling = which, list(prompt), count, sampling
        self.slot = 0
        self.token = 0
        self.generator = int(stream_seeds(sampling.seed + which, 1)[0])
        self.random = np.random.default_rng(sampling.seed + which)

    def feed(self) -> Feed:
        return Feed(self.token, self.slot, seed=self.generator)

    def take(self, tokens: list[int], logits: Logits | None) -> list[int]:
        """What a run chose for it; with logits, the host's own choice in its place."""
        if logits is not None:
            tokens = [sample(logits, self.sampling, self.random)]
        self.token = tokens[-1]
        self.left -= len(tokens)
        if self.sampling.on_chip:
            for _ in tokens:
                self.generator = int(advance(np.array(self.generator, dtype=np.uint32), 1 << JUMP_LOG2))
        return tokens


def sample(logits: Logits, sampling: Sampling, random: np.random.Generator) -> int:
    """A token from softmax(logits / temperature), restricted to the ``top_k`` largest (lowest token on a tie)."""
    real = logits.real()
    order = np.lexsort((logits.tokens, -real))[: sampling.top_k or None]
    if sampling.temperature == 0:
        return int(logits.tokens[order[0]])
    weights = np.exp((real[order] - real[order[0]]) / sampling.temperature)
    return int(logits.tokens[order[np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right")]])


def prefill(machine: Machine, tokens: Sequence[int], slot: int, *, seed: int = 1, temperature: float = 0.0) -> Run:
    """Feed a prompt from a zero state, ``machine.streams`` tokens a pass; the last run, whose last stream is the one
    that counts."""
    for start in range(0, len(tokens), machine.streams):
        block = tokens[start : start + machine.streams]
        feeds = [Feed(token, slot, fresh=start + place == 0, seed=seed) for place, token in enumerate(block)]
        run = machine.run(feeds, temperature=temperature, chained=len(feeds) > 1)
    return run


def converse(
    machine: Machine, prompts: Sequence[Sequence[int]], count: int, sampling: Sampling, burst: int = 1
) -> Iterator[Piece]:
    """Go on from every prompt by ``count`` tokens, in the order in which they come; conversation i uses seed + i.

    ``burst``: tokens that a run may choose before the host hears of them (1 where the host samples).
    """
    if not all(prompts):
        raise LuternError(EMPTY_PROMPT)
    if count < 1:
        return
    waiting = deque(_Conversation(which, prompt, count, sampling) for which, prompt in enumerate(prompts))
    free = list(range(min(machine.slots, machine.streams)))[::-1]
    active: list[_Conversation] = []
    on_host = sampling.top_k > 0 and sampling.temperature > 0
    while waiting or active:
        while waiting and free:
            joined = waiting.popleft()
            joined.slot = free.pop()
            run = prefill(machine, joined.prompt, joined.slot, seed=joined.generator, temperature=sampling.on_chip)
            last = len(run.tokens[0]) - 1
            chosen = joined.take([run.tokens[0][last]], machine.logits(last) if on_host else None)
            yield Piece(joined.which, chosen, run)
            active.append(joined)
        going = [one for one in active if one.left]
        if going:
            steps = 1 if on_host else min(burst, RUN_TOKENS // len(going), *(one.left for one in going))
            run = machine.run([one.feed() for one in going], steps, temperature=sampling.on_chip)
            for stream, one in enumerate(going):
                chosen = [step[stream] for step in run.tokens]
                yield Piece(one.which, one.take(chosen, machine.logits(stream) if on_host else None), run)
        free += [one.slot for one in active if not one.left]
        active = [one for one in going if one.left]


def generate(
    machine: Machine, prompt: Sequence[int], count: int, sampling: Sampling, burst: int = 1
) -> Iterator[tuple[int, Run]]:
    """One conversation's tokens, each with the run that it came from."""
    for piece in converse(machine, [prompt], count, sampling, burst):
        for token in piece.tokens:
            yield token, piece.run


__all__ = ["EMPTY_PROMPT", "Piece", "Sampling", "converse", "generate", "prefill", "sample"]
