"""Trains from teachers: larger float networks whose probabilities the model learns (distillation, Hinton et al. 2015).

    text ─► teachers ─┬─► the given text; targets: the teachers' probabilities and the true next tokens ─┬─► crops
                      └─► text that the teachers write; targets: the teachers' probabilities ────────────┘

A network soon overfits to a few megabytes of text. Teachers with much dropout overfit less, and the average of several
teachers overfits even less. The text that teachers write never repeats. One temperature corrects the teachers'
overconfidence. This temperature is fitted to the end of the training text, because the teachers do not read this end.
The cost is the training of the teachers, then one evaluation of each teacher on the given text and on the written text.

For each token, the ``top`` largest probabilities are kept, and one token is drawn from all others. The weight of this
token is the sum of all other probabilities. So the weights of a token sum to 1, and on average the gradient equals the
gradient of all probabilities.
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

LABEL_ROWS = 256  # number of rows into which the text is divided, and which are evaluated in parallel
LABEL_CHUNK = 512  # number of tokens of a row that a teacher reads in one call
WRITE_STREAMS = 32_768  # number of texts that are written in parallel
WRITE_TOKENS = 2048  # number of tokens of each text
PROMPT_TOKENS = 64  # number of tokens from the given text that begin a written text
PROMPT_CHUNK = 7  # number of prompt tokens of each text in one call, whose activations must fit into memory
CALIBRATED_LOGITS = 1 << 26  # the largest number of logits in a chunk
TEMPERATURES = [round(0.8 + 0.02 * i, 2) for i in range(61)]  # temperatures that are tried for the ensemble


@dataclass(frozen=True)
class Ensemble:
    """Several teachers that are used as one network. Its probabilities are p^(1/temperature), normalised, where p is
    the mean of the teachers' probabilities."""

    teachers: list[Network]
    temperature: float = 1.0

    @property
    def vocab_size(self) -> int:
        return self.teachers[0].config.vocab_size

    def initial_state(self, streams: int) -> list[Tensor]:
        return [teacher.initial_state(streams) for teacher in self.teachers]

    def __call__(self, ids: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the probabilities [B, n, V] of the token after each of ``ids`` [B, n], and the next states (B: rows,
        V: vocabulary)."""
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
    """Return the ensemble with the temperature that best predicts the tokens [n] of a text that the teachers have not
    read."""
    nats = nats_of(Ensemble(teachers), unread, TEMPERATURES)
    return Ensemble(teachers, TEMPERATURES[int(nats.argmin())])


@torch.no_grad()
def nats_of(ensemble: Ensemble, text: Tensor, temperatures: list[float]) -> Tensor:
    """Return the nats per token of a text (tokens [n]), for each of ``temperatures``. Each of these temperatures is
    multiplied by the ensemble's own temperature.
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
    """Return tokens [..., K] and their weights, from probabilities [..., V]: the ``top`` likeliest tokens, and one
    token that is drawn from all others.

    K is the smaller of top + 1 and V.
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
    """Return targets: the true next token [...] with the weight ``label_weight``, and the kept probabilities with the
    weight 1 - ``label_weight``."""
    tokens, weights = kept(probabilities, top, generator)
    weights = torch.cat([(1 - label_weight) * weights, torch.full_like(weights[..., :1], label_weight)], -1)
    return SoftTargets.of(torch.cat([tokens, truth[..., None]], -1), weights, probabilities.shape[-1])


@torch.no_grad()
def labelled(
    ensemble: Ensemble, ids: Tensor, label_weight: float, top: int, seed: int, ahead: tuple[int, ...] = ()
) -> DeviceCorpus:
    """Return the given text ``ids`` (tokens [n]) with targets: the true next token with the weight ``label_weight``,
    and the teachers' probabilities with the weight 1 - ``label_weight``."""
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
            # Only the probabilities are the target, because they contain more information than the drawn token.
            found = softened(probabilities[:, 0], token[:, 0], 0.0, top, generator)
            targets.tokens[some, position], targets.weights[some, position] = found.tokens, found.weights
            done = first * WRITE_TOKENS + count * (position + 1)
            progress.show(done, "tokens", end=first + count == streams and position + 1 == WRITE_TOKENS)
        table[some, WRITE_TOKENS] = token[:, 0]
    return DeviceCorpus(table, targets, ahead)
