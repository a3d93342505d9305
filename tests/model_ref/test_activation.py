"""The table of the sigmoid: its stated error and its widths, over all arguments."""

import numpy as np

from lutern.model_ref.activation import (
    ARGUMENT_FRAC_BITS,
    ARGUMENT_MAX,
    SEGMENT_BASE,
    SEGMENT_SLOPE,
    SIGMOID_FRAC_BITS,
    sigmoid,
    silu,
)
from lutern.model_ref.fixed import MANTISSA_MAX, S18_MAX, S32_MAX

EVERY = np.arange(ARGUMENT_MAX + 1, dtype=np.int64)


def test_error_over_all_arguments() -> None:
    for sign in (-1, 1):
        exact = 1.0 / (1.0 + np.exp(-sign * EVERY / 2.0**ARGUMENT_FRAC_BITS))
        error = np.abs(sigmoid(sign * EVERY, ARGUMENT_FRAC_BITS) / 2.0**SIGMOID_FRAC_BITS - exact)
        assert -16.4 < np.log2(error.max()) < -16.25


def test_sigmoid_falls_and_is_symmetric() -> None:
    falling, rising = sigmoid(-EVERY, ARGUMENT_FRAC_BITS), sigmoid(EVERY, ARGUMENT_FRAC_BITS)
    assert (np.diff(falling) <= 0).all()
    assert (np.minimum((1 << 17) - falling, MANTISSA_MAX) == rising).all()
    assert falling.min() == 0 and rising.max() == MANTISSA_MAX and falling[0] == rising[0] == 1 << 16


def test_table_fits_28_bits() -> None:
    assert SEGMENT_BASE.min() >= 0 and SEGMENT_BASE.max() < 1 << 17
    assert SEGMENT_SLOPE.min() >= 0 and SEGMENT_SLOPE.max() < 1 << 11


def test_arguments_are_brought_to_17_bits_and_clamped() -> None:
    values = np.random.default_rng(1).integers(-S32_MAX, S32_MAX + 1, 2000)
    for frac in range(31):
        shifted = np.abs(values) << 17 >> frac
        same = np.sign(values) * np.minimum(shifted, ARGUMENT_MAX)
        # If the shift makes a magnitude 0, its sign is lost; both halves of the table have the same value there
        assert (sigmoid(values, frac) == sigmoid(same, ARGUMENT_FRAC_BITS)).all()
    assert sigmoid(np.array([S32_MAX, -S32_MAX]), 0).tolist() == [MANTISSA_MAX, 0]


def test_silu_keeps_18_bits() -> None:
    values = np.arange(-S18_MAX, S18_MAX + 1)
    for frac in range(18):
        result, real = silu(values, frac), values / 2.0**frac
        assert np.abs(result).max() <= S18_MAX
        with np.errstate(over="ignore"):
            error = np.abs(result / 2.0**frac - real / (1.0 + np.exp(-real)))
        # half a unit of the result, the error of sigma on the argument, and the clamp of arguments beyond 16
        assert (error <= 0.5 / 2**frac + np.abs(real) * 2.0**-16.25).all()
