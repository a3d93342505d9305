"""The two Newton iterations for every input, and the roundings compared with plain integers and float64."""

import numpy as np

from lutern.model_ref import fixed
from lutern.model_ref.fixed import MANTISSA_MAX, MANTISSA_ONE, S18_MAX

MANTISSAS = np.arange(MANTISSA_ONE, MANTISSA_MAX + 1)
ROOT_INPUTS = np.arange(1 << 16, 1 << 18)


def random_floats(count: int, seed: int, *, signed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return short floats, a few of which are 0."""
    rng = np.random.default_rng(seed)
    mantissa = rng.integers(MANTISSA_ONE, MANTISSA_MAX + 1, count) * (rng.random(count) > 0.05)
    sign = rng.choice([-1, 1], count) if signed else 1
    return mantissa * sign, np.where(mantissa == 0, 0, rng.integers(-30, 18, count))


def real(value: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return value[0] * 2.0 ** value[1].astype(np.float64)


def test_reciprocal_of_all_inputs() -> None:
    error = fixed.reciprocal(MANTISSAS) - 2.0**33 / MANTISSAS
    assert np.abs(error).max() <= 1.0
    assert np.abs(error * MANTISSAS / 2.0**33).max() < 2.0**-16.8
    y = fixed.reciprocal(MANTISSAS)
    assert y.min() >= MANTISSA_ONE and y.max() <= MANTISSA_MAX


def test_reciprocal_residual_fits_18_bits() -> None:
    y0 = fixed.RECIPROCAL_TABLE[(MANTISSAS >> 8) & 255]
    residual = ((1 << 33) - MANTISSAS * y0) >> 8
    assert np.abs(residual).max() <= S18_MAX
    assert y0.max() <= MANTISSA_MAX


def test_reciprocal_of_zero_is_that_of_one() -> None:
    assert fixed.reciprocal(np.array(0)) == fixed.reciprocal(np.array(MANTISSA_ONE))


def test_rsqrt_of_all_inputs() -> None:
    error = fixed.rsqrt(ROOT_INPUTS) - 2.0**25 / np.sqrt(ROOT_INPUTS)
    assert np.abs(error).max() <= 1.5
    assert np.abs(error * np.sqrt(ROOT_INPUTS) / 2.0**25).max() < 2.0**-15.4


def test_rsqrt_operands_fit_18_bits() -> None:
    y0 = fixed.RSQRT_TABLE[(ROOT_INPUTS >> 9) - 128]
    square = (y0 * y0) >> 17
    assert square.max() <= MANTISSA_MAX  # so the minimum in the model has no effect, and the gateware has none
    residual = ((1 << 33) - 2 * (square * (ROOT_INPUTS >> 1)) - square * (ROOT_INPUTS & 1)) >> 9
    assert np.abs(residual).max() <= S18_MAX
    assert fixed.rsqrt(ROOT_INPUTS).min() >= 0


def test_float_functions_of_powers() -> None:
    exponents = np.arange(-40, 40)
    for function, power in ((fixed.reciprocal_float, -1.0), (fixed.rsqrt_float, -0.5)):
        value = np.full(80, 100_003), exponents
        assert np.allclose(real(function(value)), real(value) ** power, rtol=2.0**-15.5, atol=0)


def test_rsh_rounds_halves_up() -> None:
    assert fixed.rsh(np.array([5, 6, 7, -5, -6, -7]), 2).tolist() == [1, 2, 2, -1, -1, -2]
    assert fixed.rsh(np.array([3, -3]), -4).tolist() == [48, -48]
    assert fixed.rsh(np.array([1 << 40, -1]), 63).tolist() == [0, 0]


def test_to_float_is_nearest() -> None:
    rng = np.random.default_rng(1)
    x = (rng.integers(-(1 << 34), 1 << 34, 10_000) >> rng.integers(0, 34, 10_000)).clip(1 - (1 << 34))
    mantissa, exponent = fixed.to_float(x)
    assert (np.abs(mantissa[x != 0]) >= MANTISSA_ONE).all() and np.abs(mantissa).max() <= MANTISSA_MAX
    saturated = np.abs(mantissa) == MANTISSA_MAX
    limit = np.where(saturated, 1.0, 0.5) * 2.0 ** np.maximum(exponent, 0)
    assert (np.abs(real((mantissa, exponent)) - x) <= np.where(exponent > 0, limit, 0)).all()
    assert [int(v) for v in fixed.to_float(np.array(0))] == [0, 0]
    assert [int(v) for v in fixed.to_float(np.array((1 << 34) - 1))] == [MANTISSA_MAX, 17]


def test_multiply_float_is_nearest() -> None:
    a, b = random_floats(10_000, 2), random_floats(10_000, 3)
    product = fixed.multiply_float(a, b)
    used = product[0] != 0
    assert (used == ((a[0] != 0) & (b[0] != 0))).all()
    assert (np.abs(product[0][used]) >= MANTISSA_ONE).all() and np.abs(product[0]).max() <= MANTISSA_MAX
    assert (product[1][~used] == 0).all()
    exact, shift = np.abs(a[0] * b[0])[used], (product[1] - a[1] - b[1])[used]
    assert set(shift.tolist()) == {16, 17}
    halves_up = np.minimum((exact + (np.int64(1) << shift - 1)) >> shift, MANTISSA_MAX)
    wrong = np.flatnonzero(np.abs(product[0][used]) != halves_up)
    assert not len(wrong), f"seeds 2 and 3: {len(wrong)} products are not rounded to nearest, halves up"
    assert (np.sign(product[0]) == np.sign(a[0]) * np.sign(b[0])).all()


def test_add_float() -> None:
    a, b = random_floats(10_000, 4, signed=False), random_floats(10_000, 5, signed=False)
    total = fixed.add_float(a, b)
    assert np.allclose(real(total), real(a) + real(b), rtol=2.0**-15.4, atol=0)
    swapped = fixed.add_float(b, a)
    assert (total[0] == swapped[0]).all() and (total[1] == swapped[1]).all()
    assert total[0].max() <= MANTISSA_MAX


def test_scalar_from_real() -> None:
    for value in (1.0, 0.1, 3e-20, 7e9, 2.0 - 2.0**-30):
        mantissa, exponent = fixed.scalar_from_real(value)
        assert MANTISSA_ONE <= mantissa <= MANTISSA_MAX
        assert abs(mantissa * 2.0**exponent / value - 1) <= 2.0**-17
    assert fixed.scalar_from_real(0.0) == (0, 0)
