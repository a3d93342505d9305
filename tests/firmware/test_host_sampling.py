"""The host's choice of a token: each restriction works as the published code defines it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.firmware.host_sampling import Sampling, sample
from lutern.firmware.session import Logits
from lutern.model_ref.errors import LuternError

VOCAB = 12


def logits_of(values: list[int]) -> Logits:
    """Return logits with these integer values."""
    return Logits(np.arange(len(values)), np.array(values, np.int64), (1, 0))


def published(values: np.ndarray, sampling: Sampling, seen: set[int]) -> set[int]:
    """Return the tokens that remain after the published chain of processors, in its order: penalty, temperature, top-k,
    top-p, min-p. Each processor sets the logits that it removes to minus infinity."""
    scores = values.astype(np.float64)
    for token in seen:
        penalty = sampling.repetition_penalty
        scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
    scores = scores / sampling.temperature
    if sampling.top_k:
        scores[scores < np.sort(scores)[-min(sampling.top_k, len(scores))]] = -np.inf
    if sampling.top_p < 1:
        order = np.argsort(scores, kind="stable")
        share = np.exp(scores[order] - scores.max())
        removed = np.cumsum(share / share.sum()) <= 1 - sampling.top_p
        removed[-1] = False
        scores[order[removed]] = -np.inf
    if sampling.min_p:
        share = np.exp(scores - scores.max())
        scores[share / share.sum() < sampling.min_p * (share / share.sum()).max()] = -np.inf
    return set(np.flatnonzero(np.isfinite(scores)).tolist())


@settings(derandomize=True, database=None, max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=VOCAB, unique=True),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.integers(0, 5),
    st.sampled_from([0.05, 0.4, 0.77, 0.93, 1.0]),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.sampled_from([1.0, 1.3, 0.8]),
    st.data(),
)
def test_drawn_tokens_are_kept_by_the_published_code(
    values: list[int], temperature: float, top_k: int, top_p: float, min_p: float, penalty: float, data: st.DataObject
) -> None:
    seen = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=3))
    sampling = Sampling(temperature, top_k, 0, top_p, min_p, penalty)
    allowed = published(np.array(values), sampling, seen)
    random = np.random.default_rng(1)
    drawn = {sample(logits_of(values), sampling, random, seen) for _ in range(60)}
    assert drawn <= allowed, (values, sampling, seen)


def test_frequencies_follow_the_softmax_of_the_kept_tokens() -> None:
    random = np.random.default_rng(2)
    sampling = Sampling(2.0, top_p=0.8)  # the probabilities are 0.563, 0.341, 0.046 and 0.046
    drawn = [sample(logits_of([7, 6, 2, 2]), sampling, random) for _ in range(4000)]
    assert set(drawn) == {0, 1}
    assert abs(np.mean(np.array(drawn) == 0) - 1 / (1 + np.exp(-0.5))) < 0.03


def test_penalty_at_temperature_0() -> None:
    random = np.random.default_rng(3)
    assert sample(logits_of([8, 9, -4]), Sampling(repetition_penalty=1.2), random, {1}) == 0
    assert sample(logits_of([8, 9, -4]), Sampling(repetition_penalty=1.2), random, {0, 1}) == 1
    assert sample(logits_of([-8, -9]), Sampling(repetition_penalty=1.2), random, {0}) == 1


@pytest.mark.parametrize(
    ("given", "on_host"),
    [
        ({}, False),
        ({"temperature": 0.8}, False),
        ({"temperature": 0.8, "top_k": 3}, True),
        ({"temperature": 0.8, "top_p": 0.9}, True),
        ({"temperature": 0.8, "min_p": 0.1}, True),
        ({"top_k": 3, "top_p": 0.9, "min_p": 0.1}, False),
        ({"repetition_penalty": 1.1}, True),
    ],
)
def test_whether_host_or_chip_chooses(given: dict[str, Any], on_host: bool) -> None:
    sampling = Sampling(**given)
    assert sampling.on_host == on_host
    assert sampling.on_chip == (0 if on_host else given.get("temperature", 0))


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf"), "top_k": 3},
        {"temperature": 16.0},
        {"top_k": -1},
        {"seed": -5},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
    ],
)
def test_refused(given: dict[str, Any]) -> None:
    with pytest.raises(LuternError, match=r"give 0|give a"):
        Sampling(**given)


def test_a_chip_that_keeps_few_logits() -> None:
    Sampling(0.8, top_p=0.9).check_kept(64)
    Sampling(0.8, repetition_penalty=1.2).check_kept(0)
    with pytest.raises(LuternError, match="keeps its 64 best"):
        Sampling(0.8, repetition_penalty=1.2).check_kept(64)


@pytest.mark.parametrize("penalty", [0, -1, math.nan, math.inf, 1e308, 1e-308])
def test_penalties_that_overflow_are_refused(penalty: float) -> None:
    with pytest.raises(LuternError, match=r"repetition penalty is .*; give a number from 0\.001 to 1000"):
        Sampling(repetition_penalty=penalty)
