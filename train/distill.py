"""Teachers: larger float networks whose probabilities the model learns (distillation, Hinton et al. 2015).

    text ─► teachers ─┬─► probabilities on the text itself, mixed with the true next tokens ─────────┐
                      └─► text that they write, with the probabilities it was drawn from ────────────┴─► crops

A network soon knows a few megabytes of text by heart. Teachers with much dropout overfit less, and their average
overfits even less; the text that they write never repeats. One temperature corrects their overconfidence. It is fitted
to the end of the training text, which they do not read. Cost: the teachers' training, then one pass of each teacher
over the text and over the written text.

Of the probabilities of each token the ``top`` largest are kept, and one token drawn from all others, which gets the sum
of theirs. So the weights of a token sum to 1, and on average the gradient is that of all probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lutern.train.data import DeviceCorpus, SoftTargets, generator_of
from lutern.train.fit import half_precision
from lutern.train.network import Network
from lutern.train.progress import Progress

LABEL_ROWS = 256  # the text is cut into this many rows, which are labelled together
LABEL_CHUNK = 512  # tokens a teacher reads at once
WRITE_STREAMS = 32_768  # texts written at the same time
WRITE_TOKENS = 2048  # tokens of each text
PROMPT_TOKENS = 64  # tokens of the given text that are read before writing, so that texts start at any place
PROMPT_CHUNK = 7  # prompt tokens that all texts read at once; teachers keep their activations in memory
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
        total, last = torch.zeros((), device=ids.device), []
        for teacher, state in zip(self.teachers, states, strict=True):
            with half_precision(teacher):
                logits, after = teacher(ids, state)
            total = total + logits.softmax(-1)
            last.append(after)
        mean = total / len(self.teachers)
        return (mean.clamp(min=1e-9).log() / self.temperature).softmax(-1), last


@torch.no_grad()
def calibrated(teachers: list[Network], unread: Tensor) -> Ensemble:
    """Return the ensemble with the temperature that best predicts the tokens [n] of a text that its teachers have not
    read."""
    nats = nats_of(Ensemble(teachers), unread, TEMPERATURES)
    return Ensemble(teachers, TEMPERATURES[int(nats.argmin())])


@torch.no_grad()
def nats_of(ensemble: Ensemble, text: Tensor, temperatures: list[float]) -> Tensor:
    """Return the nats a token of a text (tokens [n]), for each of the temperatures, which are multiplied by the
    ensemble's own.
    """
    rows = max(1, len(text) // (4 * LABEL_CHUNK))
    table = text[: len(text) // rows * rows].view(rows, -1)
    chunk = max(1, min(LABEL_CHUNK, CALIBRATED_LOGITS // (rows * ensemble.vocab_size)))
    nats = torch.zeros(len(temperatures), dtype=torch.float64, device=text.device)
    states = ensemble.initial_state(rows)
    for begin in range(0, table.shape[1] - 1, chunk):
        truth = table[:, begin + 1 : begin + 1 + chunk]
        probabilities, states = ensemble(table[:, begin : begin + truth.shape[1]], states)
        answers = probabilities.clamp(min=1e-9).log().flatten(0, 1)
        for index, temperature in enumerate(temperatures):
            nats[index] += F.cross_entropy(answers / temperature, truth.flatten(), reduction="sum")
    return nats / (rows * (table.shape[1] - 1))


def kept(probabilities: Tensor, top: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens [..., K] and their weights, from probabilities [..., V]: the ``top`` largest, and one of the
    rest, drawn at random.

    K is top + 1, or V if that is less.
    """
    vocab_size = probabilities.shape[-1]
    weights, tokens = probabilities.topk(min(top, vocab_size))
    if vocab_size <= top:
        return tokens, weights
    others = probabilities.scatter(-1, tokens, 0.0)
    drawn = torch.multinomial(others.flatten(0, -2), 1, generator=generator).view(*others.shape[:-1], 1)
    return torch.cat([tokens, drawn], -1), torch.cat([weights, others.sum(-1, keepdim=True)], -1)


def softened(
    probabilities: Tensor, truth: Tensor, label_weight: float, top: int, generator: torch.Generator
) -> SoftTargets:
    """Return targets: the true next token [...] at ``label_weight``, and for the rest the kept probabilities."""
    tokens, weights = kept(probabilities, top, generator)
    weights = torch.cat([(1 - label_weight) * weights, torch.full_like(weights[..., :1], label_weight)], -1)
    return SoftTargets.of(torch.cat([tokens, truth[..., None]], -1), weights, probabilities.shape[-1])


@torch.no_grad()
def labelled(
    ensemble: Ensemble, ids: Tensor, label_weight: float, top: int, seed: int, ahead: tuple[int, ...] = ()
) -> DeviceCorpus:
    """Return the text (tokens [n]) with targets: the true next token at ``label_weight``, the teachers' for the
    rest."""
    rows = min(LABEL_ROWS, max(1, len(ids) // (2 * LABEL_CHUNK)))
    length = len(ids) // rows
    table = ids[: rows * length].view(rows, length)
    generator = torch.Generator(ids.device).manual_seed(seed)
    parts, states = [], ensemble.initial_state(rows)
    for begin in range(0, length - 1, LABEL_CHUNK):
        end = min(begin + LABEL_CHUNK, length - 1)
        probabilities, states = ensemble(table[:, begin:end], states)
        parts.append(softened(probabilities, table[:, begin + 1 : end + 1], label_weight, top, generator))
    tokens, weights = torch.cat([part.tokens for part in parts], 1), torch.cat([part.weights for part in parts], 1)
    return DeviceCorpus(table, SoftTargets(tokens, weights), ahead)


@torch.no_grad()
def written(
    ensemble: Ensemble, ids: Tensor, tokens: int, top: int, seed: int, ahead: tuple[int, ...] = ()
) -> DeviceCorpus:
    """Return at least ``tokens`` tokens of text that the teachers write together, with the kept probabilities."""
    streams = -(-tokens // WRITE_TOKENS)
    generator = torch.Generator(ids.device).manual_seed(seed)
    vocab_size = ensemble.vocab_size
    kind = torch.uint8 if vocab_size <= 256 else torch.int32
    table = torch.empty(streams, WRITE_TOKENS + 1, dtype=kind, device=ids.device)
    targets = SoftTargets.empty((streams, WRITE_TOKENS), min(top + 1, vocab_size) + 1, vocab_size, ids.device)
    progress = Progress("teachers write", tokens)
    for first in range(0, streams, WRITE_STREAMS):
        count = min(WRITE_STREAMS, streams - first)
        some = slice(first, first + count)
        begins = generator_of(seed, first).integers(0, len(ids) - PROMPT_TOKENS, (count, 1))
        at = torch.from_numpy(begins + np.arange(PROMPT_TOKENS)).to(ids.device)
        prompt = ids[at]
        states = ensemble.initial_state(count)
        for start in range(0, PROMPT_TOKENS - 1, PROMPT_CHUNK):
            _, states = ensemble(prompt[:, start : min(start + PROMPT_CHUNK, PROMPT_TOKENS - 1)], states)
        token = prompt[:, -1:]
        for position in range(WRITE_TOKENS):
            probabilities, states = ensemble(token, states)
            table[some, position] = token[:, 0]
            token = torch.multinomial(probabilities[:, 0], 1, generator=generator)
            # The probabilities alone are the target: they hold more information than the token drawn from them.
            found = softened(probabilities[:, 0], token[:, 0], 0.0, top, generator)
            targets.tokens[some, position], targets.weights[some, position] = found.tokens, found.weights
            done = first * WRITE_TOKENS + count * (position + 1)
            progress.show(done, "tokens", end=first + count == streams and position + 1 == WRITE_TOKENS)
        table[some, WRITE_TOKENS] = token[:, 0]
    return DeviceCorpus(table, targets, ahead)
