"""Makes batches of crops from token numbers.

    inputs: crops from random places of the training part. ``ahead`` (<s>) replaces the first tokens of each crop
    targets: the token that follows each token of a crop

A batch depends only on the seed and the step's number. So a resumed run reads the same batches as an uninterrupted run.
Each process reads its own crops of the batch.
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
    """Data from which crops are taken."""

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """Return inputs [n, length] of n crops, and targets: token numbers [n, length] or ``SoftTargets.pairs``.

        ``part`` selects the n crops from a batch of ``count`` crops. For every ``part``, the generator has the same
        state at the end.
        """
        ...


@dataclass(frozen=True)
class SoftTargets:
    """The targets of each token: K tokens that may follow, [rows, length, K], with weights whose sum is 1."""

    tokens: Tensor
    weights: Tensor

    @classmethod
    def of(cls, tokens: Tensor, weights: Tensor, vocab_size: int) -> SoftTargets:
        """Return targets in the types in which they are stored. A token and its weight need 4 bytes, or 6 bytes if
        ``vocab_size`` is above 32,768."""
        return cls(tokens.to(_kind(vocab_size)), weights.half())

    @classmethod
    def empty(cls, shape: tuple[int, int], count: int, vocab_size: int, device: torch.device) -> SoftTargets:
        """Return targets with ``count`` pairs for each token, whose values are not set."""
        tokens = torch.empty(*shape, count, dtype=_kind(vocab_size), device=device)
        return cls(tokens, torch.empty(*shape, count, dtype=torch.float16, device=device))

    def pairs(self, row: Tensor, at: Tensor) -> Tensor:
        """Return token numbers and weights at the positions ``at`` of the rows ``row``, as float32 [..., K, 2]."""
        return torch.stack([self.tokens[row, at].float(), self.weights[row, at].float()], -1)


def _kind(vocab_size: int) -> torch.dtype:
    return torch.int16 if vocab_size <= 1 << 15 else torch.int32


@dataclass(frozen=True)
class DeviceCorpus:
    """Rows of tokens ``ids`` [rows, length] in the device's memory.

    ``targets`` are the targets of each token. If they are None, the next token in the row is the target. ``ahead``
    replaces the first tokens of every crop.
    """

    ids: Tensor
    targets: SoftTargets | None = None
    ahead: tuple[int, ...] = ()

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """Return crops as ``Corpus.crops`` does."""
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
    """A memory-mapped file of token numbers. A crop is read from the file when it is needed."""

    ids: NDArray[Any]
    device: torch.device
    ahead: tuple[int, ...] = ()

    def crops(
        self, count: int, length: int, generator: np.random.Generator, part: slice = ALL
    ) -> tuple[Tensor, Tensor]:
        """Return crops as ``Corpus.crops`` does. These crops equal the crops that ``DeviceCorpus`` takes from one
        row."""
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
    """Return the crops of ``part`` of a batch. ``corpora`` contains each corpus and its share of the batch. The shares
    are rounded to whole crops."""
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
    """Return a random generator that depends only on ``seed`` and ``path``. The numbers in ``path`` distinguish the
    purposes and the steps of a run."""
    return np.random.default_rng([seed, *path])


def _begin(inputs: Tensor, ahead: tuple[int, ...]) -> None:
    """Replace the first tokens of each row by ``ahead``."""
    for position, token in enumerate(ahead[: inputs.shape[1]]):
        inputs[:, position] = token


def _refuse_short(available: int, length: int) -> None:
    if available <= length:
        raise LuternError(
            f"a text of {available} tokens is too short for crops of {length}; shorten the sequence length."
        )


__all__ = ["ALL", "Corpus", "DeviceCorpus", "MappedCorpus", "SoftTargets", "generator_of", "mixed"]
