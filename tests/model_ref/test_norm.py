"""The integer norm: properties that the gateware relies on, and the difference from the norm in float64."""

import numpy as np
import pytest

from lutern.model_ref import norm
from lutern.model_ref.fixed import MANTISSA_MAX, MANTISSA_ONE, add_float, scalar_from_real
from lutern.model_ref.items import item_parts
from lutern.model_ref.norm import CODE_MAX, KEY_EXPONENT_BIAS, Gains, ScaleConstants

X_MAX = (1 << (norm.X_BITS - 1)) - 1


def gains(elements: int, rng: np.random.Generator) -> Gains:
    return Gains.from_real(rng.standard_normal(elements) * 2.0 ** -rng.exponential(1, elements))


def vectors(count: int, elements: int, rng: np.random.Generator, bits: int = 4) -> np.ndarray:
    """Return random vectors ``[count, elements]`` with sizes from ``bits`` bits to the full width."""
    size = 2.0 ** rng.uniform(bits, 32, (count, 1))
    return np.rint(size * rng.standard_normal((count, elements))).clip(-X_MAX, X_MAX).astype(np.int64)


def real(value: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return value[0] * 2.0 ** np.asarray(value[1]).astype(np.float64)


def test_gather_does_not_depend_on_order() -> None:
    rng = np.random.default_rng(1)
    x, w1, g = vectors(20, 96, rng), gains(96, rng), gains(96, rng)
    order = rng.permutation(96)
    moved = [Gains(v.mantissa[order], v.exponent[order], v.vector_exponent) for v in (w1, g)]
    here, there = norm.gather(x, w1, [g]), norm.gather(x[:, order], moved[0], [moved[1]])
    for a, b in ((here.ss, there.ss), (here.largest[0], there.largest[0])):
        assert (a[0] == b[0]).all() and (a[1] == b[1]).all()


def test_largest_gives_127_and_nothing_gives_minus_128() -> None:
    rng = np.random.default_rng(2)
    x = vectors(200, 64, rng)
    vector = norm.gather(x, gains(64, rng), [gains(64, rng)])
    codes = norm.quantise(vector.u[0], vector.largest[0])
    assert (np.abs(codes).max(axis=-1) == CODE_MAX).all()


def test_largest_of_every_mantissa_gives_127() -> None:
    mantissa = np.arange(MANTISSA_ONE, MANTISSA_MAX + 1)
    exponent = np.zeros_like(mantissa)
    codes = norm.quantise((mantissa[:, None], exponent[:, None]), (mantissa, exponent))
    assert (codes == CODE_MAX).all()


def test_exponents_fit_the_key() -> None:
    """For the extreme values of x and of the gains, the exponents of u and p are between -32 and 17."""
    x = np.array([[1, X_MAX, -1, -X_MAX]])
    smallest = Gains(np.full(4, MANTISSA_ONE), np.full(4, norm.GAIN_EXPONENT_MAX), 0)
    largest = Gains(np.full(4, -MANTISSA_MAX), np.zeros(4, dtype=np.int64), 0)
    vector = norm.gather(x, smallest, [smallest, largest])
    exponents = np.concatenate([u[1].ravel() for u in vector.u])
    assert exponents.min() >= 1 - KEY_EXPONENT_BIAS and exponents.max() <= 17
    assert exponents.max() + KEY_EXPONENT_BIAS < 64


def test_zero_vector_has_zero_codes_and_scale() -> None:
    rng = np.random.default_rng(3)
    vector = norm.gather(np.zeros((1, 16), dtype=np.int64), gains(16, rng), [gains(16, rng)])
    assert not norm.quantise(vector.u[0], vector.largest[0]).any()
    scale = norm.scale_of(vector.largest[0], vector.ss, ScaleConstants((MANTISSA_ONE, 3)))
    assert scale[0] == 0 and scale[1] == 0


@pytest.mark.parametrize("outer", [True, False])
def test_square_sum_is_exact_but_for_truncation(outer: bool) -> None:
    """Each square loses less than one unit, so the vectors have 16 bits or more."""
    rng = np.random.default_rng(4)
    x = vectors(50, 128, rng, bits=16) >> 2
    w1 = gains(128, rng) if outer else None
    vector = norm.gather(x, w1, [])
    factors = w1.mantissa * 2.0 ** (-17.0 - w1.exponent) if w1 else 1.0
    exact = ((x * factors) ** 2).sum(axis=-1)
    assert np.abs(real(vector.ss) / exact - 1).max() < 2.0**-14


def test_square_sum_of_the_largest_fits_82_bits() -> None:
    """The two uint64 halves of the model hold the sum of at most 8,192 elements; 82 bits hold that of 16,384."""
    mantissa = np.full((1, 1 << 13), MANTISSA_MAX)
    ss = norm.square_sum((mantissa, np.full_like(mantissa, 17)))
    assert int(ss[0][0]) == MANTISSA_MAX**2 >> 17 and int(ss[1][0]) == 64
    assert MANTISSA_MAX**2 << 34 + 14 < 1 << 82


def test_codes_and_scale_are_those_of_the_float_norm() -> None:
    """With coded gains, codes * scale is within half a code step of the norm in float64, and the scale within 2^-13."""
    rng = np.random.default_rng(5)
    elements = 256
    x = vectors(40, elements, rng, bits=16)
    outer, inner = Gains.from_real(rng.uniform(0.2, 2, elements)), Gains.from_real(rng.uniform(0.1, 3, elements))
    vector = norm.gather(x, outer, [inner])
    k = np.sqrt(elements) / CODE_MAX * 2.0 ** (inner.vector_exponent - outer.vector_exponent)
    scale = real(norm.scale_of(vector.largest[0], vector.ss, ScaleConstants(scalar_from_real(float(k)))))
    codes = norm.quantise(vector.u[0], vector.largest[0])

    output = x * inner.real() / np.sqrt(((x * outer.real()) ** 2).mean(axis=-1, keepdims=True))
    step = np.abs(output).max(axis=-1) / CODE_MAX
    assert np.abs(scale / step - 1).max() < 2.0**-13
    assert (np.abs(codes * step[:, None] - output) / step[:, None]).max() < 0.51


def test_eps_term_is_the_formula() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        producer, extra, e1, e2 = (
            (np.array(rng.integers(MANTISSA_ONE, MANTISSA_MAX + 1)), np.array(rng.integers(-12, 12))) for _ in range(4)
        )
        e1 = e1[0], e1[1] - 34  # the inverse square of a mantissa is about 2^-34
        constants = ScaleConstants((0, 0), (int(e1[0]), int(e1[1])), (int(e2[0]), int(e2[1])))
        exact = real(e2) * (real(extra) + real(e1) / real(producer) ** 2)
        assert abs(real(norm.eps_term(constants, producer, extra)) / exact - 1) < 2.0**-13


def test_adding_nothing_changes_nothing() -> None:
    ss = np.array([100_000, 0]), np.array([20, 0])
    zero = np.zeros(2, dtype=np.int64)
    total = add_float(ss, (zero, zero))
    assert (total[0] == ss[0]).all() and (total[1] == ss[1]).all()


def test_gains_keep_11_bits() -> None:
    rng = np.random.default_rng(7)
    wanted = rng.standard_normal(1000)
    coded = Gains.from_real(wanted)
    kept = coded.mantissa != 0
    assert np.abs(coded.real()[kept] / wanted[kept] - 1).max() <= 2.0**-11
    assert np.abs(wanted[~kept]).max(initial=0) < 2.0**-14 * np.abs(wanted).max()
    size = np.abs(coded.mantissa[kept])
    assert not (coded.mantissa % (1 << norm.GAIN_LOW_BITS)).any() and size.min() >= MANTISSA_ONE
    assert not Gains.from_real(np.zeros(4)).mantissa.any()


def test_gains_are_restored_from_items() -> None:
    for wanted in (np.array([1.0, -0.99999, 2.0**-15, -(2.0**-14), 2.0**-16, 0.0]), np.array([0.99999, -0.3])):
        coded = Gains.from_real(wanted)
        again = Gains.from_parts(*item_parts(coded.items), coded.vector_exponent)
        assert np.array_equal(again.mantissa, coded.mantissa) and np.array_equal(again.exponent, coded.exponent)
    assert coded.real().tolist() == [1.0, -1229 / 4096]
