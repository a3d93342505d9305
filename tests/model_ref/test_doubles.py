"""The functions in float64 return the same integers as the integer functions, for extreme and random operands."""

from __future__ import annotations

import numpy as np
import pytest

from lutern.model_ref import activation, doubles, fixed, mlgru, model, norm, ternary
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, MANTISSA_ONE, S18_MAX, S32_MAX, Int
from lutern.model_ref.norm import Gains, ScaleConstants

SEED = 21
STREAMS, ELEMENTS = 5, 4000


def vectors(bits: int, rng: np.random.Generator) -> Int:
    """Return vectors [B, n] with magnitudes of up to ``bits`` bits. They contain zeros, ones and the largest value, and
    the last vector is zero."""
    magnitudes = rng.integers(0, 1 << bits, (STREAMS, ELEMENTS)) >> rng.integers(0, bits, (STREAMS, ELEMENTS))
    x = magnitudes * rng.choice([-1, 1], magnitudes.shape)
    x[:-1, :6] = [0, 1, -1, (1 << bits) - 1, 1 - (1 << bits), 3 << (bits - 2)]
    x[-1] = 0
    return x


def gains(rng: np.random.Generator) -> Gains:
    mantissa = rng.integers(MANTISSA_ONE, MANTISSA_MAX + 1, ELEMENTS) * rng.choice([-1, 0, 1], ELEMENTS)
    mantissa[:6] = [MANTISSA_MAX, MANTISSA_MAX, -MANTISSA_MAX, MANTISSA_MAX, MANTISSA_ONE, MANTISSA_ONE]
    return Gains(mantissa, rng.integers(0, 16, ELEMENTS), 0)


def equal(got: object, wanted: object) -> bool:
    return np.array_equal(np.asarray(got), np.asarray(wanted))


@pytest.mark.parametrize("shift", [1, 3, 14, 17, 26])
def test_nearest_and_saturate(shift: int) -> None:
    x = vectors(36, np.random.default_rng(SEED))
    rounded = fixed.rsh(x, shift)
    assert equal(doubles.nearest(x.astype(np.float64), shift), rounded)
    counts: list[int] = []
    clipped = doubles.saturate(rounded.astype(np.float64), S18_MAX, counts.append)
    assert equal(clipped, fixed.saturate(rounded, S18_MAX, counts.append)) and counts[0] == counts[1]


def test_short_floats() -> None:
    """The magnitudes of every length are next to a value where the rounding changes."""
    ends = np.array([0, 1, 2, 3]) + np.array([MANTISSA_ONE, MANTISSA_MAX - 2])[:, None]
    x = (
        ((ends << 18)[..., None] + np.array([-1, 0, 1, 1 << 17, (1 << 17) - 1, (1 << 17) + 1])).ravel()[:, None]
        >> np.arange(20)
    ).ravel()
    x = np.concatenate([[0], x, -x])
    mantissa, exponent = fixed.to_float(x)
    assert equal(doubles.short(x.astype(np.float64)), np.ldexp(mantissa.astype(np.float64), exponent))
    got = doubles.parts(doubles.short(np.abs(x).astype(np.float64)))
    assert equal(got[0], np.abs(mantissa)) and equal(got[1], exponent)


@pytest.mark.parametrize("bits", [8, 18, 32, 35])
@pytest.mark.parametrize("outer", [True, False])
def test_norm(bits: int, outer: bool) -> None:
    rng = np.random.default_rng([SEED, bits])
    x, w1, inner = vectors(bits, rng), gains(rng) if outer else None, [gains(rng), gains(rng)]
    wanted = norm.gather(x, w1, inner)
    got = doubles.gather(x.astype(np.float64), doubles.Factors.of(w1, inner))
    assert equal(got.ss, wanted.ss)
    ks = [(MANTISSA_ONE, -40), (MANTISSA_MAX, 3)]
    scales = doubles.scales_of(got, got.ss, (np.array(ks)[:, :1], np.array(ks)[:, 1:]))
    for index, codes in enumerate(doubles.quantise(got)):
        assert equal([part[index] for part in got.largest], wanted.largest[index])
        assert equal(codes, norm.quantise(wanted.u[index], wanted.largest[index]))
        assert np.abs(codes[:-1]).max() == 127 and not codes[-1].any()
        scale = norm.scale_of(wanted.largest[index], wanted.ss, ScaleConstants(ks[index]))
        assert equal([part[index] for part in scales], scale)


def test_square_sum_of_the_longest_and_largest() -> None:
    mantissa = np.full((1, 8192), MANTISSA_MAX)
    for exponent in (-31, -17, -9, -8, 0, 17):
        p = mantissa, np.full_like(mantissa, exponent)
        assert equal(doubles.square_sum(np.ldexp(mantissa.astype(np.float64), exponent)), norm.square_sum(p)), exponent
    for value in (0, 1, 2, 255, 256, 1 << 17):  # around the border between the two halves
        g = np.full((1, 3), value)
        for function in (doubles.square_sum, doubles.integer_square_sum):
            assert equal(function(g.astype(np.float64)), model.integer_square_sum(g)), value


@pytest.mark.parametrize("frac_bits", [0, 7, 13, 16, 17, 24, 30])
def test_sigmoid_and_silu(frac_bits: int) -> None:
    x = vectors(32, np.random.default_rng(SEED))
    assert equal(doubles.sigmoid(x.astype(np.float64), frac_bits), activation.sigmoid(x, frac_bits))
    x >>= 15
    assert equal(doubles.silu(x.astype(np.float64), frac_bits), activation.silu(x, frac_bits))


@pytest.mark.parametrize("cut", [0, 1, 4])
@pytest.mark.parametrize("limit", [S18_MAX, S32_MAX])
def test_scaled_sums(cut: int, limit: int) -> None:
    rng = np.random.default_rng(SEED)
    sums = vectors(17 + cut, rng)
    for exponent in (-2000, -60, -40, -29, -17, -3, 0, 9, 2000):
        scale = rng.integers(MANTISSA_ONE, MANTISSA_MAX + 1, STREAMS), np.full(STREAMS, exponent)
        scale[0][0], scale[0][1] = MANTISSA_MAX, 0
        counts: list[int] = []
        got = doubles.scale_sums(sums.astype(np.float64), cut, scale, 13, limit, counts.append)
        assert equal(got, ternary.scale_sums(sums, cut, scale, 13, limit, counts.append)), exponent
        assert counts[0] == counts[1], exponent


def test_mlgru() -> None:
    rng = np.random.default_rng(SEED)
    state, f, i, g = (vectors(bits, rng) for bits in (31, 17, 17, 17))
    bound = rng.integers(0, 1 << MANTISSA_BITS, ELEMENTS)
    wide = [x.astype(np.float64) for x in (state, f, i, g)]
    z = mlgru.forget_gate(f, bound)
    assert equal(doubles.forget_gate(wide[1], bound.astype(np.float64)), z)
    counts: list[int] = []
    wanted = mlgru.update_state(state, z, i, 11, counts.append)
    assert equal(doubles.update_state(wide[0], z.astype(np.float64), wide[2], 11, counts.append), wanted)
    assert counts[:2] == counts[2:] and counts[0] > 0
    shift = doubles.largest_shift(wide[0])
    assert equal(shift, mlgru.state_shift(state))
    assert equal(doubles.gated_output(wide[3], wide[0], shift, 25), mlgru.gated_output(g, state, 25))
