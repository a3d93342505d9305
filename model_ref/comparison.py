"""Computes logits and hidden values for given tokens, for comparison with any other implementation.

    ids [n] ─► model, one token at a time, from a zero state ─► logits [n, V], hidden [n, L + 1, d]

n is the number of tokens, V the vocabulary, L the number of layers and d the hidden size. ``hidden`` contains the
embedding and every layer's output (the residual stream h) as real numbers. float64 represents the integer model's
values exactly, because h is an integer times 2^-h_frac_bits, and a logit has 38 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.fixed import Int
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import IntegerModel


def rows_of(model: FloatModel | IntegerModel, ids: Int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Return an iterator over logits ``[V]`` and hidden ``[L + 1, d]`` of each token. The float network gives float32,
    the integer network float64."""
    if isinstance(model, IntegerModel):
        return _integer_rows(model, ids)
    return _float_rows(model, ids)


def relative_error(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the root mean square of ``got - wanted`` divided by the root mean square of ``wanted``."""
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    return float(np.sqrt(((got - wanted) ** 2).sum() / (wanted**2).sum()))


def _float_rows(model: FloatModel, ids: Int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    state = model.initial_state(1)
    for token in ids:
        hidden: list[NDArray[np.float32]] = []
        logits, state = model.step(np.array([token]), state, hidden)
        yield logits[0], np.stack([h[0] for h in hidden])


def _integer_rows(model: IntegerModel, ids: Int) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    state, unit = model.initial_state(1), 2.0**-model.weights.h_frac_bits
    for token in ids:
        hidden: list[NDArray[np.float64]] = []
        logits, state = model.step(np.array([token]), state, _collector(hidden, unit))
        yield logits[0], np.stack([hidden[0], *hidden[2::2]])  # the embedding, and h after each down_proj


def _collector(hidden: list[NDArray[np.float64]], unit: float) -> Callable[[str, int, Int], None]:
    def collect(stage: str, layer: int, values: Int) -> None:
        if stage == "h":
            hidden.append(values[0] * unit)

    return collect
