"""Text in, batches of crops out.

    text ─► ids ─► first 95 % train, last 5 % validate

A batch depends only on the seed and the step's number, so that a resumed run reads what an uninterrupted one reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer


def make_ids(text: str) -> tuple[NDArray[np.int64], Tokenizer]:
    """Token numbers of a text and the tokenizer of its characters, in the order of their code points."""
    tokenizer = Tokenizer(character_tokenizer(sorted(set(text))))
    return np.array(tokenizer.encode(text), np.int64), tokenizer


@dataclass(frozen=True)
class Corpus:
    """Rows of text to crop from: ids [rows, length]; targets [rows, length, V], the probabilities of what follows each
    character, or None where the next character itself is the target."""

    ids: Tensor
    targets: Tensor | None = None

    def crops(self, count: int, length: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs [count, length] and targets, [count, length] token numbers or [count, length, V] probabilities."""
        rows, available = self.ids.shape
        if available <= length:
            raise LuternError(
                f"a text of {available} characters is too short for crops of {length}; shorten the sequence length."
            )
        device = self.ids.device
        row = torch.from_numpy(generator.integers(0, rows, (count, 1))).to(device)
        begin = torch.from_numpy(generator.integers(0, available - length, (count, 1))).to(device)
        at = begin + torch.arange(length, device=device)
        inputs = self.ids[row, at].long()
        if self.targets is None:
            return inputs, self.ids[row, at + 1].long()
        return inputs, self.targets[row, at].float()


def generator_of(seed: int, *path: int) -> np.random.Generator:
    """The random numbers of one purpose and step, the same in every run with that seed."""
    return np.random.default_rng([seed, *path])
