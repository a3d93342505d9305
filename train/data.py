"""Cuts token numbers into batches of crops.

    training part ─► crops from any place, begun with ``ahead`` (<s>)     targets: the token that follows each

A batch depends only on the seed and the step's number. So a resumed run reads what an uninterrupted one would read, and
each process reads its own crops of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lutern.model_ref.errors import LuternError

ALL = slice(0, 1 << 62)


class Corpus(Protocol):
    """Data from which crops are cut."""

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """Return inputs [n, length] of n crops, and targets: token numbers [n, length] or ``SoftTargets.pairs``.

        ``part`` selects the n crops among ``count`` crops. The generator ends in the same state for every ``part``.
        """
        ...


@dataclass(frozen=True)
class SoftTargets:
    """Targets of each token: K tokens that may follow it, [rows, length, K], with weights that sum to 1."""

    tokens: Tensor
    weights: Tensor

    @classmethod
    def of(cls, tokens: Tensor, weights: Tensor, vocab_size: int) -> SoftTargets:
        """Return targets in the types in which they are stored: 4 bytes for a token and its weight, or 6 if
        ``vocab_size`` is above 32,768."""
        return cls(tokens.to(_kind(vocab_size)), weights.half())

    @classmethod
    def empty(cls, shape: tuple[int, int], count: int, vocab_size: int, device: torch.device) -> SoftTargets:
        """Return memory for ``count`` pairs a token, without values."""
        tokens = torch.empty(*shape, count, dtype=_kind(vocab_size), device=device)
        return cls(tokens, torch.empty(*shape, count, dtype=torch.float16, device=device))

    def pairs(self, row: Tensor, at: Tensor) -> Tensor:
        """Return token numbers and weights at the positions ``at`` of the rows ``row``, as float32 [..., K, 2]."""
        return torch.stack([self.tokens[row, at].float(), self.weights[row, at].float()], -1)


def _kind(vocab_size: int) -> torch.dtype:
    return torch.int16 if vocab_size <= 1 << 15 else torch.int32


@dataclass(frozen=True)
class DeviceCorpus:
    """Rows of tokens in the device's memory: ids [rows, length].

    ``targets`` say what follows each token, or are None if the next token itself is the target. ``ahead`` replaces the
    first tokens of every crop.
    """

    ids: Tensor
    targets: SoftTargets | None = None
    ahead: tuple[int, ...] = ()

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """See ``Corpus``."""
        rows, available = self.ids.shape
        _refuse_short(available, length)
        device = self.ids.device
        row = torch.from_numpy(generator.integers(0, rows, (count, 1))[part]).to(device)
        begin = torch.from_numpy(generator.integers(0, available - length, (count, 1))[part]).to(device)
        at = begin + torch.arange(length, device=device)
        inputs = self.ids[row, at].long()
        _begin(inputs, self.ahead)
        if self.targets is None:
            return inputs, self.ids[row, at + 1].long()
        return inputs, self.targets.pairs(row, at)


@dataclass(frozen=True)
class MappedCorpus:
    """Token numbers [tokens] in a memory-mapped file; a crop is read when it is cut."""

    ids: NDArray[Any]
    device: torch.device
    ahead: tuple[int, ...] = ()

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """See ``Corpus``; the same crops as ``DeviceCorpus`` cuts from one row."""
        _refuse_short(len(self.ids), length)
        generator.integers(0, 1, (count, 1))
        begins = generator.integers(0, len(self.ids) - length, (count, 1))[part, 0]
        rows = np.empty((len(begins), length + 1), np.int64)
        for row, begin in zip(rows, begins, strict=True):
            row[:] = self.ids[begin : begin + length + 1]
        tokens = torch.from_numpy(rows).to(self.device)
        inputs, targets = tokens[:, :-1].clone(), tokens[:, 1:]
        _begin(inputs, self.ahead)
        return inputs, targets


def mixed(
    corpora: list[tuple[float, Corpus]], count: int, length: int, generator: np.random.Generator, part: slice = ALL
) -> tuple[Tensor, Tensor]:
    """Return the crops of ``part`` of a batch, in which each corpus has its share, rounded to whole crops."""
    counts = [round(share * count) for share, _ in corpora]
    counts[0] = count - sum(counts[1:])
    begin, parts = 0, []
    for crops, (_, corpus) in zip(counts, corpora, strict=True):
        own = slice(min(max(part.start - begin, 0), crops), min(max(part.stop - begin, 0), crops))
        if crops:
            found = corpus.crops(crops, length, generator, own)
            parts += [found] if len(found[0]) else []
        begin += crops
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([targets for _, targets in parts])


def generator_of(seed: int, *path: int) -> np.random.Generator:
    """Return a random generator that is equal in every run with the same ``seed`` and ``path``. The numbers of ``path``
    distinguish the purposes and the steps of a run."""
    return np.random.default_rng([seed, *path])


def _begin(inputs: Tensor, ahead: tuple[int, ...]) -> None:
    """Replace the first tokens by those ahead of a text."""
    for position, token in enumerate(ahead[: inputs.shape[1]]):
        inputs[:, position] = token


def _refuse_short(available: int, length: int) -> None:
    if available <= length:
        raise LuternError(
            f"a text of {available} tokens is too short for crops of {length}; shorten the sequence length."
        )


__all__ = ["ALL", "Corpus", "DeviceCorpus", "MappedCorpus", "SoftTargets", "generator_of", "mixed"]
