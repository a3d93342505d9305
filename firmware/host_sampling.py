"""Sampling of the next token, by the chip or by the host, which fetches the logits.

    logits ─► repetition penalty ─► / temperature ─► top-k ─► top-p ─► min-p ─► softmax ─► token

The chip can choose the likeliest token, or sample from all tokens by Gumbel noise. For every other choice, the host
applies the steps above to the logits, in the order of the published code. For each chosen token, the host then fetches
4 bytes for each token of the vocabulary over the link.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from lutern.firmware.session import Logits, temperature_word
from lutern.model_ref.errors import LuternError

LOGIT_BYTES = 4
PENALTIES = 1e-3, 1e3
"""Lowest and highest repetition penalty. In this range, a logit that the penalty multiplies or divides stays finite."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    temperature
        If 0, the likeliest token is chosen.
    top_k
        If above 0, only the k likeliest tokens are kept.
    top_p
        If below 1, only the likeliest tokens that together have this probability are kept.
    min_p
        If above 0, only tokens with at least this fraction of the likeliest token's probability are kept.
    repetition_penalty
        If not 1: of each token that occurred before, a positive logit is divided by this number, and a negative
        logit is multiplied by it.
    """

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise LuternError(f"the temperature is {self.temperature}; give 0 (the likeliest) or a positive number.")
        if self.top_k < 0:
            raise LuternError(f"top-k is {self.top_k}; give 0 (all tokens) or a positive number.")
        if self.top_k >= 1 << 32:
            raise LuternError(f"top-k is {self.top_k}, more than any vocabulary has; give 0 for all tokens.")
        if self.seed < 0:
            raise LuternError(f"the seed is {self.seed}; give 0 or a positive number.")
        if not 0 < self.top_p <= 1:
            raise LuternError(f"top-p is {self.top_p}; give a number above 0 and at most 1 (all tokens).")
        if not 0 <= self.min_p <= 1:
            raise LuternError(f"min-p is {self.min_p}; give a number from 0 (all tokens) to 1.")
        low, high = PENALTIES
        if not low <= self.repetition_penalty <= high:
            raise LuternError(
                f"the repetition penalty is {self.repetition_penalty:g}; give a number from {low:g} to {high:g}, 1 for "
                "no penalty."
            )
        temperature_word(self.on_chip)  # refuses a temperature that the chip cannot hold

    @property
    def on_host(self) -> bool:
        """Whether the host needs the logits."""
        restricted = self.top_k > 0 or self.top_p < 1 or self.min_p > 0
        return self.repetition_penalty != 1 or (self.temperature > 0 and restricted)

    @property
    def on_chip(self) -> float:
        """The temperature with which the chip chooses: 0 if the host needs the logits."""
        return 0.0 if self.on_host else self.temperature

    def check_kept(self, kept: int) -> None:
        """Raise ``LuternError`` if this sampling needs all logits, but the chip keeps only the ``kept`` best (0: it
        keeps all)."""
        if kept and self.repetition_penalty != 1:
            raise LuternError(
                f"a repetition penalty needs all logits, but this machine keeps its {kept} best; give no "
                "penalty, or choose a preset that keeps all."
            )


def sample(logits: Logits, sampling: Sampling, random: np.random.Generator, seen: Collection[int] = ()) -> int:
    """Return the token that the host chooses from ``logits``.

    ``seen`` are the tokens that occurred before. Of tokens with equal logits, the lowest number is preferred.
    """
    real = logits.real()
    if sampling.repetition_penalty != 1 and seen:
        again = np.isin(logits.tokens, np.fromiter(seen, np.int64))
        penalty = sampling.repetition_penalty
        real = np.where(again, np.where(real < 0, real * penalty, real / penalty), real)
    order = np.lexsort((logits.tokens, -real))[: sampling.top_k or None]
    if sampling.temperature == 0:
        return int(logits.tokens[order[0]])
    weights = np.exp((real[order] - real[order[0]]) / sampling.temperature)
    if sampling.top_p < 1:
        ahead = np.concatenate([[0.0], np.cumsum(weights)[:-1]])
        weights = weights[ahead < sampling.top_p * weights.sum()]
    if sampling.min_p > 0:
        weights = weights[weights >= sampling.min_p]  # the likeliest has weight 1
    drawn = random.random() * weights.sum()
    return int(logits.tokens[order[np.searchsorted(np.cumsum(weights), drawn, side="right")]])


__all__ = ["LOGIT_BYTES", "Sampling", "sample"]
