"""Trits, four of which are packed into a byte."""

import numpy as np
import pytest

from lutern.model_ref.packed_trits import ROW_BYTES, PackedTrits

SEED = 5


@pytest.mark.parametrize("columns", [1, 3, 4, 127, 128, 129, 2816])
def test_unpacking_returns_the_trits(columns: int) -> None:
    trits = np.random.default_rng(SEED).integers(-1, 2, (7, columns)).astype(np.int8)
    packed = PackedTrits.of(trits)
    assert packed.rows == 7 and packed.packed.shape[1] % ROW_BYTES == 0, f"seed {SEED}"
    assert np.array_equal(packed.unpack(), trits) and np.array_equal(packed.part(2, 5).unpack(), trits[2:5])


def test_order_of_columns_in_a_byte() -> None:
    packed = PackedTrits.of(np.array([[-1, 0, 1, -1, 1]], np.int8)).packed
    assert packed[0, 0] == 0 | 1 << 2 | 2 << 4 | 0 << 6 and packed[0, 1] & 3 == 2
