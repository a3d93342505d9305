"""Fits a power law, with an interval, to runs of several sizes for each kind of network, and reports sizes for which
the training text is too short.

    loss = a * weights^-exponent      a line in logarithms, by least squares through one loss per size

The losses are measured on the validation text at the last step that all runs have reached, so that all runs have read
the same tokens. For each kind and size, the run with the lowest loss of all learning rates is used. The interval
contains 95 % of the fits to resampled residuals (seeded). It shows how well the sizes are on one line, but does not
include the effect of another seed of the training. At one step, compute (6 operations per weight and token) is
proportional to the number of weights, so the exponent is the same for compute and for weights.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError
from lutern.train.gpus import training_flops
from lutern.train.scaling import KINDS, Result

NAMES = dict(zip(KINDS, ("MatMul-free", "Transformer"), strict=True))
REFITS = 10_000
TOKENS_A_WEIGHT = 20
"""Tokens per weight with which training makes the best use of its compute (Hoffmann et al. 2022, arXiv 2203.15556)."""
COLUMNS = ("kind", "size", "weights", "learning_rate", "training_bits", "validation_bits", "exponent")
CSV_COLUMNS = (
    *("kind", "size", "weights", "learning_rate", "step", "tokens", "operations", "training_bits", "validation_bits"),
    "counts",
)


@dataclass(frozen=True)
class PowerLaw:
    """Loss in bits per character as a function of weights. ``low`` to ``high`` is the 95 % interval of the exponent."""

    coefficient: float
    exponent: float
    low: float
    high: float

    def at(self, weights: float) -> float:
        """Return the loss of a network with this number of weights."""
        return self.coefficient * float(weights) ** -self.exponent


def fit_power_law(weights: Sequence[float], losses: Sequence[float], seed: int = 1) -> PowerLaw:
    """Return the law through points, which must have at least three different numbers of weights."""
    x, y = np.log(np.array(weights, float)), np.log(np.array(losses, float))
    if len(set(weights)) < 3:
        raise LuternError(f"a power law needs at least 3 sizes, but {len(set(weights))} were given; give more.")
    slope, intercept = _line(x, y)
    fitted = intercept + slope * x
    # The fit of two parameters makes residuals smaller than the scatter of the points.
    residuals = (y - fitted) * np.sqrt(len(x) / (len(x) - 2))
    drawn = np.random.default_rng(seed).choice(residuals, (REFITS, len(x)))
    slopes, _ = _line(x, fitted + drawn)
    low, high = np.percentile(-slopes, (2.5, 97.5))
    return PowerLaw(float(np.exp(intercept)), float(-slope), float(low), float(high))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and intercept of each row of y."""
    centred = x - x.mean()
    slope = (y * centred).sum(-1) / np.square(centred).sum()
    return slope, y.mean(-1) - slope * x.mean()


def common_step(results: Sequence[Result]) -> int:
    """Return the last step at which all runs were measured."""
    reached = [{int(row["step"]) for row in one.record} for one in results]
    common = set.intersection(*reached)
    if not common:
        raise LuternError("the runs have no step in common at which all were measured; let them train longer.")
    return max(common)


def until(results: Sequence[Result], step: int) -> list[Result]:
    """Return the runs without the records of later steps than ``step``."""
    return [replace(one, record=[row for row in one.record if row["step"] <= step]) for one in results]


def last_bits(result: Result) -> float:
    """Return the bits per character on the validation text in the last record of a run."""
    return result.record[-1]["validation_bits"]


def best_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return for each kind, in the order of size, the run of the best learning rate, up to the last common step of
    all runs."""
    found: dict[tuple[str, str], Result] = {}
    for result in until(results, common_step(results)):
        before = found.get((result.kind, result.size))
        if before is None or last_bits(result) < last_bits(before):
            found[result.kind, result.size] = result
    return {
        kind: sorted((one for one in found.values() if one.kind == kind), key=lambda one: one.weights) for kind in KINDS
    }


def laws_of(results: Sequence[Result], seed: int = 1) -> dict[str, PowerLaw]:
    """Return the law of each kind."""
    return {
        kind: fit_power_law([one.weights for one in best], [last_bits(one) for one in best], seed)
        for kind, best in best_of(results).items()
    }


def rows(results: Sequence[Result]) -> list[list[Any]]:
    """Return rows for the headings COLUMNS. The exponent is the slope to the next size; None for the largest size."""
    found = []
    for kind, best in best_of(results).items():
        for index, one in enumerate(best):
            onwards = None
            if index + 1 < len(best):
                after = best[index + 1]
                onwards = float(np.log(last_bits(one) / last_bits(after)) / np.log(after.weights / one.weights))
            cells = [NAMES[kind], one.size, one.weights, one.learning_rate]
            found.append([*cells, float(one.record[-1]["loss_bits"]), last_bits(one), onwards])
    return found


def to_csv(results: Sequence[Result]) -> str:
    """Return a line for every validation of every run; ``counts`` is 1 if the laws are fitted to it."""
    counting = {
        (one.kind, one.size, one.learning_rate, one.record[-1]["step"])
        for best in best_of(results).values()
        for one in best
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in sorted(results, key=lambda one: (KINDS.index(one.kind), one.weights, one.learning_rate)):
        for row in one.record:
            tokens = int(row["step"]) * one.batch_tokens
            cells = [one.kind, one.size, one.weights, f"{one.learning_rate:.6g}", int(row["step"]), tokens]
            cells += [training_flops(one.weights) * tokens, f"{row['loss_bits']:.5f}", f"{row['validation_bits']:.5f}"]
            writer.writerow([*cells, int((one.kind, one.size, one.learning_rate, row["step"]) in counting)])
    return text.getvalue()


def sentences(results: Sequence[Result], seed: int = 1) -> list[str]:
    """Return sentences that report the laws, and the sizes for which the training text is too short."""
    best, found = best_of(results), []
    for kind, law in laws_of(results, seed).items():
        found.append(
            f"{NAMES[kind]}: loss in proportion to weights^-{law.exponent:.3f} (95 %: {law.low:.3f} to {law.high:.3f})."
        )
    one = best[KINDS[0]][-1]
    step = int(one.record[-1]["step"])
    tokens = step * one.batch_tokens
    enough, passes = one.training_tokens // TOKENS_A_WEIGHT, tokens / one.training_tokens
    found.append(
        f"Each run had read {tokens:,} tokens, {passes:.1f} times the {one.training_tokens:,} tokens of the text; "
        f"at {TOKENS_A_WEIGHT} tokens per weight the text is enough for {enough:,} weights."
    )
    if step < one.steps:
        found.append(
            f"The runs are compared at step {step:,} of {one.steps:,}, before the learning rate has fallen to 0, so "
            "complete runs end at a lower loss."
        )
    for kind, ordered in best.items():
        gaps = [last_bits(one) - one.record[-1]["loss_bits"] for one in (ordered[0], ordered[-1])]
        found.append(
            f"{NAMES[kind]}: the loss on the validation text differs from the loss on the training text by "
            f"{gaps[0]:+.3f} bits at "
            f"{ordered[0].weights:,} weights, {gaps[1]:+.3f} at {ordered[-1].weights:,}."
        )
        turned = [one for one in ordered if last_bits(one) > min(row["validation_bits"] for row in one.record) + 0.005]
        if turned:
            found.append(
                f"{NAMES[kind]}: from {turned[0].weights:,} weights on, the loss on the validation text was lower at "
                f"an earlier step, because the network has memorized the training text."
            )
    return found


__all__ = [
    "COLUMNS",
    "NAMES",
    "PowerLaw",
    "best_of",
    "fit_power_law",
    "last_bits",
    "laws_of",
    "rows",
    "sentences",
    "to_csv",
]
