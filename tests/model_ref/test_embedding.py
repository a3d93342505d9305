"""Embeddings of 16 and of 12 bits: the nearest value is stored, and 16 bits can hold every value of 12 bits."""

from __future__ import annotations

import numpy as np
import pytest

from lutern.model_ref.embedding import EmbeddingTable

SEED = 14


def values_of(bits: int, top: int) -> np.ndarray:
    """Return every value of a table below 2^top, sorted."""
    magnitude = bits - 5
    mantissas = np.arange(-(1 << magnitude) + 1, 1 << magnitude)
    return np.unique(np.concatenate([mantissas * 2.0 ** (top - magnitude - exponent) for exponent in range(16)]))


@pytest.mark.parametrize("bits", [16, 12])
def test_the_nearest_value_is_chosen(bits: int) -> None:
    draw = np.random.default_rng(SEED)
    table = (draw.standard_normal((40, 25)) * 2.0 ** draw.integers(-20, 3, (40, 25))).astype(np.float32)
    table[0, :4] = 0, 31.999, -31.999, 2.0**-30  # the largest mantissa is the nearest at the top of the range
    table[1, :4] = np.array([0.99609375, 0.998, 127.5 / 128, 1.0])  # some of these round up to a power of two
    coded = EmbeddingTable.from_real(table, bits=bits)
    known = values_of(bits, top=5)
    place = np.clip(np.searchsorted(known, table), 1, len(known) - 1)
    nearest = np.minimum(np.abs(known[place - 1] - table), np.abs(known[place] - table))
    error = np.abs(coded.real() - table)
    assert np.array_equal(error, nearest), f"seed {SEED}, {np.argwhere(error != nearest)[:3]}"
    assert np.isin(coded.real(), known).all() and coded.bits == bits


def test_values_of_12_bits_are_values_of_16() -> None:
    draw = np.random.default_rng(SEED)
    table = (draw.standard_normal((30, 30)) * 2.0 ** draw.integers(-18, 3, (30, 30))).astype(np.float32)
    narrow = EmbeddingTable.from_real(table, bits=12)
    assert not (narrow.codes & 0xF).any()
    wide = EmbeddingTable.from_codes(narrow.codes, narrow.base)
    assert np.array_equal(wide.real(), narrow.real())
    assert narrow.base == EmbeddingTable.from_real(table).base
    assert np.array_equal(narrow.real(), np.ldexp((narrow.mantissa >> 4) * 1.0, narrow.base + 4 - narrow.exponent))
