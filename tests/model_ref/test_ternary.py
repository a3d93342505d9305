"""Sums of trits compared with plain integers, and cut and scale compared with exact fractions."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from lutern.model_ref import ternary
from lutern.model_ref.fixed import S18_MAX, S32_MAX


@pytest.mark.parametrize("columns", [1, 5, 512, 8192])
def test_sums_are_exact(columns: int) -> None:
    generator = np.random.default_rng(columns)
    trits = generator.integers(-1, 2, (6, columns))
    trits[0], trits[1] = 1, -1
    codes = generator.integers(-127, 128, (3, columns))
    codes[0] = 127
    sums = ternary.ternary_sums(codes, trits.astype(np.float32))
    assert np.array_equal(sums, codes @ trits.T)
    assert sums.dtype == np.int64 and sums[0, 0] == 127 * columns == -sums[0, 1]
    assert np.abs(sums).max() < 1 << (ternary.SUM_BITS - 1)


def rounded(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


@pytest.mark.parametrize("cut", range(4))
def test_cut_and_scale_are_one_rounding_each(cut: int) -> None:
    generator = np.random.default_rng(100 + cut)
    sums = generator.integers(-(1 << 17) << cut, 1 << 17 << cut, (4, 50))
    mantissa, exponent = generator.integers(1 << 16, 1 << 17, 4), np.array([-40, -30, -20, 0])
    for frac_bits, limit in ((13, S18_MAX), (24, S32_MAX)):
        scaled = ternary.scale_sums(sums, cut, (mantissa, exponent), frac_bits, limit)
        for stream in range(4):
            for got, value in zip(scaled[stream], sums[stream], strict=True):
                operand = max(-S18_MAX, min(S18_MAX, rounded(Fraction(int(value), 1 << cut))))
                factor = int(mantissa[stream]) * Fraction(2) ** (int(exponent[stream]) + cut + frac_bits)
                assert got == max(-limit, min(limit, rounded(operand * factor))), f"{value}, stream {stream}"


def test_shifts_beyond_the_limits_change_nothing() -> None:
    exponents = np.arange(-2048, 2048)
    shifts = ternary.scale_shift(exponents, 3, 13)
    assert shifts.min() == ternary.SHIFT_MIN and shifts.max() == ternary.SHIFT_MAX
    for shift, sign in ((ternary.SHIFT_MAX, 1), (ternary.SHIFT_MIN, -1)):
        product = sign * (S18_MAX * ((1 << 17) - 1) if sign > 0 else 1 << 16)
        value = Fraction(product) * Fraction(2) ** -shift
        assert (rounded(value) == 0) if sign > 0 else (abs(value) >= S32_MAX)
