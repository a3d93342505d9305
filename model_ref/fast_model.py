"""The integer network at full size: the same integers as ``model.py``, with trits that stay int8.

    trits int8 [rows, n] ─► some 64 rows as float32, in the cache ─► BLAS product with the codes ─► sums, exact

``model.py`` keeps every trit as float32, 1.4 GB for a 370M model. Here a block is widened, used, forgotten: memory is
one byte a trit, time that of widening, some 0.3 s a token for 370M on two cores. Several streams share the widening.
Every partial sum is an integer below 127 * 8192 < 2^24, so float32 is exact in whatever order BLAS adds.
"""

from __future__ import annotations

import numpy as np

from lutern.model_ref.fixed import Int
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantize import Matrix

BLOCK_ELEMENTS = 1 << 16
"""256 KiB of float32: stays in the second-level cache between widening and product."""
MANY_STREAMS = 8
"""From here on the product costs more than the widening, and BLAS wants larger blocks."""


class FastModel(IntegerModel):
    """``IntegerModel`` with another product and nothing else; equal to it bit for bit."""

    def multiply(self, codes: Int, matrix: Matrix) -> Int:
        """Sums ``[B, rows]`` of codes ``[B, columns]``, block of rows by block of rows."""
        trits = matrix.trits
        rows, columns = trits.shape
        wide_codes = np.ascontiguousarray(codes.T.astype(np.float32))  # [columns, B]
        elements = BLOCK_ELEMENTS if len(codes) < MANY_STREAMS else 16 * BLOCK_ELEMENTS
        step = max(1, min(rows, elements // columns))
        block = np.empty((step, columns), np.float32)
        sums = np.empty((rows, len(codes)), np.float32)
        for start in range(0, rows, step):
            part = trits[start : start + step]
            wide = block[: len(part)]
            np.copyto(wide, part)
            np.matmul(wide, wide_codes, out=sums[start : start + len(part)])
        return np.rint(sums.T).astype(np.int64)
