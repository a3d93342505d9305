"""Items: all 65,536 are the same after decoding and encoding, and values are rounded to the nearest item."""

import numpy as np

from lutern.model_ref.items import ITEM_MANTISSA_MAX, item_parts, items, significant


def test_all_items_come_back() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    mantissa, exponent = item_parts(every)
    assert mantissa.min() == -2048 and mantissa.max() == ITEM_MANTISSA_MAX
    assert exponent.min() == 0 and exponent.max() == 15
    assert np.array_equal(mantissa.astype(int) & 0xFFF | exponent.astype(int) << 12, every)
    for kind in (np.int16, np.int64):
        assert np.array_equal(items(mantissa.astype(kind), exponent.astype(kind)), every)


def test_significant_bits() -> None:
    x = np.random.default_rng(1).standard_normal(1000) * 2.0 ** np.arange(-500, 500)
    rounded = significant(x)
    assert np.abs(rounded / x - 1).max() <= 2.0**-11
    assert np.array_equal(significant(rounded), rounded)
    assert significant(np.array([2047.4, 2047.6, 4095.0, 0.0, -3.0])).tolist() == [2047, 2048, 4096, 0, -3]
