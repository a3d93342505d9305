"""The comparison with float16, and the table of word lengths."""

from __future__ import annotations

import numpy as np
import pytest

from lutern.measure.compare import GATE, LARGE, REFERENCE, SHAPES, compare, reference, synthetic
from lutern.measure.float16 import half
from lutern.measure.word_lengths import exact_layers, rounded_fraction, rounded_mantissa, sweep
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.norm import Gains

PUBLISHED_FLOAT16_ERROR = 0.028  # the error of the published implementation, run in float16 on the same vectors


def test_integer_stays_below_the_float16_run() -> None:
    found = reference()
    assert found is not None and found.passes
    assert found.float16 == pytest.approx(PUBLISHED_FLOAT16_ERROR, rel=0.05)
    for name in ("odd width", "no lower bound"):
        assert compare(name, synthetic(SHAPES[name])).passes, name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHAPES, *LARGE])
def test_integer_stays_below_the_float16_run_on_every_shape(name: str) -> None:
    found = compare(name, synthetic({**SHAPES, **LARGE}[name]))
    assert found.share <= GATE and found.saturated == 0, found


def test_rounding_by_bits() -> None:
    x = np.array([1.0, -3.3, 1000.7, 0.1])
    assert np.array_equal(rounded_mantissa(x, 11), half(x))  # float16 has 11 bits
    assert np.array_equal(rounded_mantissa(x, 11), Gains.from_real(x).real())
    assert rounded_fraction(np.array([0.3, -0.3]), 2).tolist() == [0.25, -0.25]


def test_the_float64_network_is_the_published_one() -> None:
    expected = np.load(REFERENCE / "expected.npz")
    layers = exact_layers(load_checkpoint(REFERENCE), expected["ids"][:, None])
    for index, layer in enumerate(layers):
        assert np.allclose(layer.h[:, 0], expected["hidden"][:, index], rtol=1e-4, atol=1e-5)


def test_words_of_the_built_widths_change_few_codes() -> None:
    """Every word at its built width costs less than a twentieth of a step. Words that are two bits shorter cost
    more."""
    for row in sweep(load_checkpoint(REFERENCE)):
        if row.word == "1 - f, long memory":
            continue  # a rounding of 1 - f in a memory of 4,000 tokens is no independent noise: see docs/numerics.md
        at = {cell.bits: cell for cell in row.cells}
        assert at[row.built].differ <= 0.006, row
        steps = [cell.steps for cell in row.cells if cell.steps is not None]
        assert steps == sorted(steps, reverse=True), row
