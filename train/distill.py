"""Teachers: larger float networks whose probabilities the model learns (distillation, Hinton et al. 2015).

    text ─► teachers ─┬─► probabilities on the text itself, mixed with the true next characters ─┐
                      └─► text they write, with the probabilities they wrote it from ────────────┴─► crops

A few megabytes of text are soon known by heart.  Teachers with much dropout overfit less, their average less still, and
the text they write never repeats.  Cost: the teachers' training, then one pass of each teacher over text and written
text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .data import Corpus, generator_of
from .fit import half_precision
from .network import Network
from .progress import Progress

LABEL_ROWS = 256  # the text is cut in this many rows to be labelled side by side
LABEL_CHUNK = 512  # characters a teacher reads at once
WRITE_STREAMS = 16_384  # texts written side by side
WRITE_CHARACTERS = 1024  # length of one
PROMPT_CHARACTERS = 64  # of the given text, read before writing begins, so that texts start anywhere


def _probabilities(teachers: list[Network], ids: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Mean of the teachers' probabilities [B, T, V] after each of ids [B, T]; and their next states."""
    mean: Tensor | None = None
    following = []
    for teacher, state in zip(teachers, states, strict=True):
        with half_precision(teacher):
            logits, after = teacher(ids, state)
        share = logits.softmax(-1) / len(teachers)
        mean = share if mean is None else mean + share
        following.append(after)
    assert mean is not None
    return mean, following


@torch.no_grad()
def labelled(teachers: list[Network], ids: Tensor, label_weight: float) -> Corpus:
    """The text [characters] with targets: the true next character at ``label_weight``, the teachers' for the rest."""
    rows = min(LABEL_ROWS, max(1, len(ids) // (2 * LABEL_CHUNK)))
    length = len(ids) // rows
    table = ids[: rows * length].view(rows, length)
    vocab_size = teachers[0].config.vocab_size
    targets = torch.empty(rows, length - 1, vocab_size, dtype=torch.float16, device=ids.device)
    states = [teacher.initial_state(rows) for teacher in teachers]
    for begin in range(0, length - 1, LABEL_CHUNK):
        end = min(begin + LABEL_CHUNK, length - 1)
        probabilities, states = _probabilities(teachers, table[:, begin:end], states)
        truth = torch.nn.functional.one_hot(table[:, begin + 1 : end + 1], vocab_size)
        targets[:, begin:end] = label_weight * truth + (1 - label_weight) * probabilities
    return Corpus(table, targets)


@torch.no_grad()
def written(teachers: list[Network], ids: Tensor, characters: int, seed: int) -> Corpus:
    """At least ``characters`` of text that the teachers write together, with the probabilities of every character."""
    streams = -(-characters // WRITE_CHARACTERS)
    generator = torch.Generator(ids.device).manual_seed(seed)
    vocab_size = teachers[0].config.vocab_size
    table = torch.empty(streams, WRITE_CHARACTERS + 1, dtype=torch.uint8 if vocab_size <= 256 else torch.int32)
    table = table.to(ids.device)
    targets = torch.empty(streams, WRITE_CHARACTERS, vocab_size, dtype=torch.float16, device=ids.device)
    progress = Progress("teachers write", characters)
    for first in range(0, streams, WRITE_STREAMS):
        count = min(WRITE_STREAMS, streams - first)
        begins = generator_of(seed, first).integers(0, len(ids) - PROMPT_CHARACTERS, (count, 1))
        at = torch.from_numpy(begins + np.arange(PROMPT_CHARACTERS)).to(ids.device)
        prompt = ids[at]
        states = [teacher.initial_state(count) for teacher in teachers]
        _, states = _probabilities(teachers, prompt[:, :-1], states)
        token = prompt[:, -1:]
        for position in range(WRITE_CHARACTERS):
            probabilities, states = _probabilities(teachers, token, states)
            table[first : first + count, position] = token[:, 0]
            targets[first : first + count, position] = probabilities[:, 0]
            token = torch.multinomial(probabilities[:, 0], 1, generator=generator)
            done = first * WRITE_CHARACTERS + count * (position + 1)
            progress.show(done, "characters", end=first + count == streams and position + 1 == WRITE_CHARACTERS)
        table[first : first + count, WRITE_CHARACTERS] = token[:, 0]
    return Corpus(table, targets)
