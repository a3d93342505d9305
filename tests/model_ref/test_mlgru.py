"""The recurrence: its long memory, its ranges, and the comparison with float64."""

import numpy as np
import pytest

from lutern.model_ref.activation import silu
from lutern.model_ref.fixed import S18_MAX, S32_MAX, rsh
from lutern.model_ref.items import item_parts
from lutern.model_ref.mlgru import STATE_GUARD_BITS, Bounds, forget_gate, gated_output, state_shift, update_state

SEED = 5


def test_bounds_keep_11_bits() -> None:
    """Each of the 2^17 bounds is near its item, is exact if it fits 11 bits, keeps its order, and has only one code."""
    every = np.arange(1 << 17)
    coded = Bounds.from_integers(every)
    assert (np.abs(coded.values - every) <= every * 2.0**-11).all()
    assert np.array_equal(coded.values[:2048], every[:2048]) and coded.values[-1] == 2047 << 6
    assert (np.diff(coded.values) >= 0).all()
    assert ((coded.mantissa << 6) & ((1 << coded.exponent) - 1) == 0).all()  # no bit is lost in the shift
    normalised = (coded.mantissa >= 1024) & (coded.mantissa <= 2047)
    assert normalised[2:].all() and coded.mantissa[:2].tolist() == [0, 512] and coded.exponent[:2].tolist() == [0, 15]
    assert np.array_equal(Bounds.from_integers(coded.values).items, coded.items)
    assert np.array_equal(Bounds.from_parts(*item_parts(coded.items)).values, coded.values)


def test_bounds_of_long_memory_are_exact() -> None:
    wanted = 2.0 ** -np.arange(1.0, 18)
    assert np.array_equal(Bounds.from_real(wanted).values, 1 << np.arange(16, -1, -1))
    assert Bounds.from_real(np.array([0.0, 1.0])).values.tolist() == [0, 2047 << 6]


def test_gate_has_both_ends() -> None:
    ends = np.array([S18_MAX, -S18_MAX, 0])
    assert forget_gate(ends, np.full(3, S18_MAX)).tolist() == [0, S18_MAX - 1, 1 << 16]
    assert forget_gate(ends, np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("frac", [10, 13, 16])
def test_long_memory_still_moves_at_z_of_2_to_the_minus_14(frac: int) -> None:
    z = np.full(2, 8)  # 2^-14 with 17 fraction bits
    i = np.array([3000, -3000])
    wanted, signs = silu(i, frac), np.array([1, -1])
    for off in (1, 2, 100):  # distance from silu, in units of the last place
        state = (wanted - off * signs) << STATE_GUARD_BITS
        for _ in range(10):
            new = update_state(state, z, i, frac)
            assert (new - state == off * signs).all()  # after 10 of 2^14 steps, the difference is still the same
            state = new


def test_state_stays_in_the_hull_of_silu() -> None:
    generator = np.random.default_rng(SEED)
    every = np.arange(-S18_MAX, S18_MAX + 1)
    for frac in range(18):
        low, high = silu(every, frac).min(), silu(every, frac).max()
        bottom = int(every[silu(every, frac).argmin()])
        state = np.zeros(64, dtype=np.int64)
        for _ in range(300):
            i = generator.choice([S18_MAX, -S18_MAX, bottom, 0], 64)
            z = generator.choice([0, 8, 1 << 16, S18_MAX - 1], 64)
            difference = silu(i, frac) - rsh(state, STATE_GUARD_BITS)
            # Because silu has a minimum, the hull is wider than 18 bits. A jump from end to end loses at most 5.2 %.
            assert np.abs(difference).max() <= high - low <= 1.052 * S18_MAX
            state = update_state(state, z, i, frac)
            assert state.max() <= min((high << STATE_GUARD_BITS) + (1 << STATE_GUARD_BITS - 1), S32_MAX - 1)
            assert state.min() >= max((low << STATE_GUARD_BITS) - (1 << STATE_GUARD_BITS - 1), 1 - S32_MAX)


def test_follows_its_float_twin() -> None:
    generator = np.random.default_rng(SEED)
    frac, size = 13, 256
    state, real = np.zeros(size, dtype=np.int64), np.zeros(size)
    for _ in range(400):
        f, i = generator.integers(-40000, 40000, size), generator.integers(-40000, 40000, size)
        bound = generator.integers(0, 1 << 17, size)
        state = update_state(state, forget_gate(f, bound), i, frac)
        a, x = i / 2.0**frac, f / 2.0**13
        z = bound / 2.0**17 / (1.0 + np.exp(x))
        real += z * (a / (1.0 + np.exp(-a)) - real)
    assert np.abs(state / 2.0 ** (frac + STATE_GUARD_BITS) - real).max() < 3 * 2.0**-frac


def test_shift_brings_the_largest_to_17_bits_and_v_fits_35() -> None:
    generator = np.random.default_rng(SEED)
    for bits in range(32):
        state = generator.integers(-(1 << bits) + 1, 1 << bits, (1, 32))
        if bits:
            state[0, 0] = (1 << bits) - 1
        assert state_shift(state).tolist() == [bits - 17]
        g = generator.choice([-S18_MAX, S18_MAX], (1, 32))
        assert np.abs(gated_output(g, state, 27)).max() < 1 << 34
