"""Checkpoints that badly chosen word lengths would spoil: every clipped value is counted, and the signal is kept.

The error of the integer network from float32 must be smaller than that of a run of the same checkpoint in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lutern.measure.compare import logits
from lutern.measure.float16 import Float16Model
from lutern.model_ref.calibrate import observe, text_tokens
from lutern.model_ref.checkpoint import Checkpoint
from lutern.model_ref.comparison import relative_error
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.model import COUNTED, IntegerModel, Saturations
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.ranges import LOOSE_FRAC_BITS
from lutern.model_ref.synthetic import random_checkpoint

CONFIG = ModelConfig(vocab_size=64, hidden_size=128, num_hidden_layers=2, intermediate_size=352)
SEED, STREAMS, TOKENS = 1, 2, 24
OF_FLOAT16 = 0.8
CHANNEL = 5
NORMS_OF_H = ("attn_norm.weight", "mlp_norm.weight", "model.norm.weight")


def changed(checkpoint: Checkpoint, change: Callable[[str, np.ndarray], np.ndarray]) -> Checkpoint:
    tensors = {name: change(name, tensor.copy()).astype(np.float32) for name, tensor in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=tensors)


def scaled(factor: float, *parts: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """Multiply the projections whose names contain one of ``parts`` by a factor."""
    return lambda name, t: t * factor if name.endswith("proj.weight") and any(part in name for part in parts) else t


def outlier(name: str, tensor: np.ndarray) -> np.ndarray:
    """Make one channel of h 300 times larger and its gains 300 times smaller."""
    if name == "model.embeddings.weight":
        tensor[:, CHANNEL] *= 300
    elif name.endswith(NORMS_OF_H):
        tensor[CHANNEL] /= 300
    return tensor


def hidden_gain(norm: str, projection: str, factor: float) -> Callable[[str, np.ndarray], np.ndarray]:
    """Move the gain of one channel from a norm to the next norm, where the bound multiplies it. The network stays the
    same."""

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        if name.endswith(norm + ".weight"):
            tensor[CHANNEL] /= factor
        elif name.endswith(projection + ".norm.weight"):
            tensor[CHANNEL] *= factor
        return tensor

    return change


PROVED = {
    "outlier-channel": outlier,
    "tiny-gate": scaled(1e-3, "gate_proj"),
    "tiny-state": scaled(1e-3, "i_proj"),
    "tiny-gate-and-state": scaled(1e-2, "gate_proj", "i_proj"),
    "tiny-forget": scaled(1e-3, "f_proj"),
    "tiny-outputs": scaled(1e-3, "o_proj", "down_proj"),
    "large-gate-and-state": scaled(50, "gate_proj", "i_proj"),
    "large-forget": scaled(50, "f_proj"),
    "large-outputs": scaled(1000, "o_proj", "down_proj"),
    "all-large": scaled(50, "proj"),
}


@pytest.mark.parametrize("name", PROVED)
def test_proved_words_keep_the_signal(name: str) -> None:
    checkpoint = changed(random_checkpoint(CONFIG, SEED), PROVED[name])
    ids = np.random.default_rng(SEED).integers(0, CONFIG.vocab_size, (TOKENS, STREAMS))
    weights, counts = integer_weights(checkpoint), Saturations()
    wanted = logits(FloatModel(checkpoint), ids)
    error = relative_error(logits(IntegerModel(weights, counts), ids), wanted)
    float16_error = relative_error(logits(Float16Model(checkpoint), ids), wanted)
    assert weights.calibrated == [] and sum(counts.of(tensor) for tensor in COUNTED) == 0
    assert error <= OF_FLOAT16 * float16_error, f"{error:.4f}, float16 {float16_error:.4f}, seed {SEED}"


def test_words_keep_the_signal_where_float16_overflows() -> None:
    """The projections are 1000 times larger, so the run in float16 overflows."""
    checkpoint = changed(random_checkpoint(CONFIG, SEED), scaled(1000, "gate_proj", "i_proj"))
    ids = np.random.default_rng(SEED).integers(0, CONFIG.vocab_size, (TOKENS, STREAMS))
    weights, counts = integer_weights(checkpoint), Saturations()
    assert min(layer.gate_proj.frac_bits for layer in weights.layers) < LOOSE_FRAC_BITS
    error = relative_error(logits(IntegerModel(weights, counts), ids), logits(FloatModel(checkpoint), ids))
    assert error < 0.02 and sum(counts.of(tensor) for tensor in COUNTED) == 0


@pytest.mark.slow
def test_long_memory() -> None:
    """With a lower bound near 1, the state after 2,000 tokens is as near to float as after 100 tokens."""
    config = replace(CONFIG, hidden_size=64, intermediate_size=96)
    checkpoint = random_checkpoint(config, SEED)
    bounds = np.zeros((2, 64), np.float32)
    bounds[1] = 9.0  # 1 - LB = 1.2e-4
    checkpoint = replace(checkpoint, tensors={**checkpoint.tensors, "model.lower_bounds": bounds})
    ids = np.random.default_rng(SEED).integers(0, config.vocab_size, (2100, 1))
    wanted, got = logits(FloatModel(checkpoint), ids), logits(IntegerModel(integer_weights(checkpoint)), ids)
    early, late = (relative_error(got[part], wanted[part]) for part in (slice(0, 100), slice(2000, 2100)))
    assert late < 0.025 and late < 1.5 * early, f"{early:.4f} then {late:.4f}, seed {SEED}"


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        (hidden_gain("attn_norm", "i_proj", 1e4), ["i of layer 0", "i of layer 1"]),
        (hidden_gain("mlp_norm", "gate_proj", 1e4), ["gate of layer 0", "gate of layer 1"]),
        (hidden_gain("g_norm", "o_proj", 1e7), ["h"]),
    ],
    ids=["i", "gate", "h"],
)
def test_calibration_where_the_bound_is_too_loose(
    change: Callable[[str, np.ndarray], np.ndarray], tensors: list[str]
) -> None:
    checkpoint = changed(random_checkpoint(CONFIG, SEED), change)
    ids = np.random.default_rng(SEED).integers(0, CONFIG.vocab_size, (TOKENS, STREAMS))
    weights, counts = integer_weights(checkpoint), Saturations()
    assert weights.calibrated == tensors
    wanted = logits(FloatModel(checkpoint), ids)
    error = relative_error(logits(IntegerModel(weights, counts), ids), wanted)
    assert error < 0.02, f"seed {SEED}"
    assert sum(counts.of(tensor) for tensor in COUNTED) == 0


def test_text_unlike_the_calibration_saturates_and_is_counted() -> None:
    """Only token 7 drives the channel whose gain the bound multiplies, and token 7 is not in the calibration text."""

    def change(name: str, tensor: np.ndarray) -> np.ndarray:
        tensor = hidden_gain("attn_norm", "i_proj", 1e4)(name, tensor)
        if name == "model.embeddings.weight":
            tensor[7, CHANNEL] = 1e5
        return tensor

    checkpoint = changed(random_checkpoint(CONFIG, SEED), change)
    others = np.array([token for token in range(64) if token != 7])
    weights, counts = integer_weights(checkpoint, others), Saturations()
    assert weights.calibrated == ["i of layer 0", "i of layer 1"]
    model = IntegerModel(weights, counts)
    _, state = model.step(np.array([3]), model.initial_state(1))
    assert sum(counts.of(tensor) for tensor in COUNTED) == 0
    model.step(np.array([7]), state)
    assert counts.counts["i", 0] > 0 and counts.of("h") == counts.of("gate") == 0


def test_values_beyond_any_word_are_marked_and_counted() -> None:
    checkpoint = changed(random_checkpoint(CONFIG, SEED), scaled(1e6, "i_proj", "gate_proj"))
    weights, counts = integer_weights(checkpoint), Saturations()
    assert weights.calibrated == ["i of layer 0", "gate of layer 0", "i of layer 1", "gate of layer 1"]
    model = IntegerModel(weights, counts)
    model.step(np.array([3]), model.initial_state(1))
    assert counts.of("i") > 0 and counts.of("gate") > 0


def test_statistics_of_a_residual_stream() -> None:
    """Without projections, h is the embedding before and after each mixer."""
    checkpoint = changed(
        random_checkpoint(CONFIG, SEED),
        lambda name, tensor: tensor * 0 if name.endswith(("o_proj.norm.weight", "down_proj.norm.weight")) else tensor,
    )
    ids = np.arange(12).reshape(6, 2)
    rows = checkpoint.tensors["model.embeddings.weight"][ids]
    seen = observe(checkpoint, ids)["h"]
    assert seen.largest == np.abs(rows).max() and seen.rms == pytest.approx(np.sqrt(np.mean(rows**2)), rel=1e-5)


@pytest.mark.parametrize(
    ("length", "shape"), [(1, (1, 1)), (15, (1, 15)), (40, (2, 16)), (2047, (127, 16)), (9999, (128, 16))]
)
def test_tokens_of_a_text(length: int, shape: tuple[int, int]) -> None:
    """The streams are successive parts of the beginning of the text."""
    ids = text_tokens(list(range(length)))
    assert ids.shape == shape and ids.T.ravel().tolist() == list(range(ids.size))


def test_observation_is_that_of_the_float_network() -> None:
    checkpoint = random_checkpoint(CONFIG, SEED)
    ids = np.arange(10)
    found = observe(checkpoint, ids)
    model, hidden = FloatModel(checkpoint), []
    state = model.initial_state(1)
    for token in ids:
        _, state = model.step(np.array([token]), state, hidden)
    largest = max(float(np.abs(h).max()) for h in hidden)
    rms = float(np.sqrt(np.mean(np.square(hidden))))
    assert largest <= found["h"].largest <= 2 * largest and rms / 2 < found["h"].rms < 2 * rms
    assert list(found) == [
        "h",
        *(f"model.layers.{index}.{name}" for index in range(2) for name in ("attn.i_proj", "mlp.gate_proj")),
    ]
    assert all(0 < seen.rms < seen.largest for seen in found.values())
    with pytest.raises(LuternError, match="all must be below 64"):
        observe(checkpoint, np.array([64]))


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-2])
def test_eps_of_the_config(eps: float) -> None:
    """Where g is small, the eps of g_norm decides which part of g is added to the residual stream."""
    small = changed(random_checkpoint(CONFIG, SEED), scaled(1e-3, "g_proj"))
    checkpoint = replace(small, config=replace(CONFIG, rms_norm_eps=eps))
    ids = np.random.default_rng(SEED).integers(0, CONFIG.vocab_size, (TOKENS, STREAMS))
    wanted = logits(FloatModel(checkpoint), ids)
    error = relative_error(logits(IntegerModel(integer_weights(checkpoint)), ids), wanted)
    assert error < 0.05, f"eps {eps}, seed {SEED}: {error}"
    other = relative_error(logits(FloatModel(small), ids), wanted)
    assert other > (0.1 if eps == 1e-2 else 1e-7), f"eps {eps}, seed {SEED}: {other}"
