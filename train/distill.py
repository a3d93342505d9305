"""Teachers: larger float networks whose probabilities the model learns (distillation, Hinton et al. 2015).

    text ─► teachers ─┬─► probabilities on the text itself, mixed with the true next tokens ─────────┐
                      └─► text that they write, with the probabilities it was drawn from ────────────┴─► crops

A network soon knows a few megabytes of text by heart. Teachers with much dropout overfit less, and their average still
less; the text that they write never repeats. One temperature corrects their overconfidence. It is fitted to the end of
the training text, which they do not read. Cost: the teachers' training, then one pass of each teacher over the text and
over the written text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lutern.train.data import DeviceCorpus, generator_of
from lutern.train.fit import half_precision
from lutern.train.network import Network
from lutern.train.progress import Progress

LABEL_ROWS = 256  # the text is cut into this many rows, which are labelled together
LABEL_CHUNK = 512  # tokens a teacher reads at once
WRITE_STREAMS = 32_768  # texts written at the same time
WRITE_CHARACTERS = 2048  # tokens of each text
PROMPT_CHARACTERS = 64  # tokens of the given text that are read before writing, so that texts start at any place
CALIBRATED_LOGITS = 1 << 26  # largest number of logits of a chunk
TEMPERATURES = [round(0.8 + 0.02 * i, 2) for i in range(61)]  # temperatures that are tried for the ensemble


@dataclass(frozen=True)
class Ensemble:
    """Teachers that answer as one: the mean p of their probabilities, as p^(1/temperature), normalised."""

    teachers: list[Network]
    temperature: float = 1.0

    @property
    def vocab_size(self) -> int:
        return self.teachers[0].config.vocab_size

    def initial_state(self, streams: int) -> list[Tensor]:
        return [teacher.initial_state(streams) for teacher in self.teachers]

    def __call__(self, ids: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return probabilities [B, T, V] of the token after each of ids [B, T], and the next states."""
        answers = []
        with half_precision(self.teachers[0]):
            for teacher, state in zip(self.teachers, states, strict=True):
                answers.append(teacher(ids, state))
        mean = torch.stack([logits.softmax(-1) for logits, _ in answers]).mean(0)
        calibrated = (mean.clamp(min=1e-9).log() / self.temperature).softmax(-1)
        return calibrated, [state for _, state in answers]


@torch.no_grad()
def calibrated(teachers: list[Network], unread: Tensor) -> Ensemble:
    """Return the ensemble with the temperature that best predicts the tokens [n] of a text that its teachers have not
    read."""
    ensemble = Ensemble(teachers)
    rows = max(1, len(unread) // (4 * LABEL_CHUNK))
    table = unread[: len(unread) // rows * rows].view(rows, -1)
    chunk = max(1, min(LABEL_CHUNK, CALIBRATED_LOGITS // (rows * ensemble.vocab_size)))
    nats, states = (
        torch.zeros(len(TEMPERATURES), dtype=torch.float64, device=unread.device),
        ensemble.initial_state(rows),
    )
    for begin in range(0, table.shape[1] - 1, chunk):
        truth = table[:, begin + 1 : begin + 1 + chunk]
        probabilities, states = ensemble(table[:, begin : begin + truth.shape[1]], states)
        answers = probabilities.clamp(min=1e-9).log().flatten(0, 1)
        for index, temperature in enumerate(TEMPERATURES):
            nats[index] += F.cross_entropy(answers / temperature, truth.flatten(), reduction="sum")
    return Ensemble(teachers, TEMPERATURES[int(nats.argmin())])


@torch.no_grad()
def labelled(ensemble: Ensemble, ids: Tensor, label_weight: float, ahead: tuple[int, ...] = ()) -> DeviceCorpus:
    """Return the text (tokens [n]) with targets: the true next token at ``label_weight``, the teachers' for the
    rest."""
    rows = min(LABEL_ROWS, max(1, len(ids) // (2 * LABEL_CHUNK)))
    length = len(ids) // rows
    table = ids[: rows * length].view(rows, length)
    vocab_size = ensemble.vocab_size
    targets = torch.empty(rows, length - 1, vocab_size, dtype=torch.float16, device=ids.device)
    states = ensemble.initial_state(rows)
    for begin in range(0, length - 1, LABEL_CHUNK):
        end = min(begin + LABEL_CHUNK, length - 1)
        probabilities, states = ensemble(table[:, begin:end], states)
        truth = F.one_hot(table[:, begin + 1 : end + 1], vocab_size)
        targets[:, begin:end] = label_weight * truth + (1 - label_weight) * probabilities
    return DeviceCorpus(table, targets, ahead)


@torch.no_grad()
def written(ensemble: Ensemble, ids: Tensor, characters: int, seed: int, ahead: tuple[int, ...] = ()) -> DeviceCorpus:
    """Return at least ``characters`` tokens of text that the teachers write together, with the probabilities of each
    token."""
    streams = -(-characters // WRITE_CHARACTERS)
    generator = torch.Generator(ids.device).manual_seed(seed)
    vocab_size = ensemble.vocab_size
    table = torch.empty(streams, WRITE_CHARACTERS + 1, dtype=torch.uint8 if vocab_size <= 256 else torch.int32)
    table = table.to(ids.device)
    targets = torch.empty(streams, WRITE_CHARACTERS, vocab_size, dtype=torch.float16, device=ids.device)
    progress = Progress("teachers write", characters)
    for first in range(0, streams, WRITE_STREAMS):
        count = min(WRITE_STREAMS, streams - first)
        begins = generator_of(seed, first).integers(0, len(ids) - PROMPT_CHARACTERS, (count, 1))
        at = torch.from_numpy(begins + np.arange(PROMPT_CHARACTERS)).to(ids.device)
        prompt = ids[at]
        states = ensemble.initial_state(count)
        _, states = ensemble(prompt[:, :-1], states)
        token = prompt[:, -1:]
        for position in range(WRITE_CHARACTERS):
            probabilities, states = ensemble(token, states)
            table[first : first + count, position] = token[:, 0]
            targets[first : first + count, position] = probabilities[:, 0]
            token = torch.multinomial(probabilities[:, 0], 1, generator=generator)
            done = first * WRITE_CHARACTERS + count * (position + 1)
            progress.show(done, "characters", end=first + count == streams and position + 1 == WRITE_CHARACTERS)
        table[first : first + count, WRITE_CHARACTERS] = token[:, 0]
    return DeviceCorpus(table, targets, ahead)
