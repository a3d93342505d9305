"""Computes the bounds of a network's numbers, and the binary points of the words that store these numbers.

    |BL(x)_r| <= s sqrt(n) |T_r * w2|_2 + rounding of the codes            (``quantise.py`` explains the symbols)

The bounds are valid for every text. If a bound is too loose for its word, it is replaced by the largest measured value
(``Activation``) times a margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.fixed import MANTISSA_BITS
from lutern.model_ref.norm import CODE_MAX
from lutern.model_ref.ternarise import CHUNK


def row_bounds(trits: NDArray[np.int8], scale: float, gains: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest magnitude of each output row [rows] of a BitLinear for any input.

    The bound has three parts: the inequality of Cauchy and Schwarz for ``T_r * w2``, half a code step for each nonzero
    trit, and 0.1 % for rounded scalars.
    """
    rows, columns = trits.shape
    w2 = gains.astype(np.float64)
    squares, largest = w2**2, np.abs(w2).max()
    bounds = np.empty(rows)
    step = max(1, 16 * CHUNK // columns)
    for start in range(0, rows, step):
        part = np.abs(trits[start : start + step])
        exact = np.sqrt(columns) * np.sqrt(part.astype(np.float64) @ squares)
        rounding = np.count_nonzero(part, axis=1) * (0.5 / CODE_MAX) * np.sqrt(columns) * largest
        bounds[start : start + step] = 1.001 * scale * (exact + rounding)
    return bounds


def pre_activation_frac_bits(bound: float) -> int:
    """Return the number of fraction bits (0 to 16) with which 18 bits can represent a, silu(a) and differences of silu
    values, for |a| <= bound. silu is at least -0.2785."""
    integer_bits = max(0, int(np.ceil(np.log2(bound + 0.29))))
    return int(np.clip(MANTISSA_BITS - integer_bits, 0, 16))


CALIBRATION_MARGIN = 16.0
"""The factor by which the largest value on the calibration tokens is multiplied. It leaves four bits for larger values
in other texts."""
LOOSE_FRAC_BITS = 8
"""The least number of fraction bits of i and gate. With fewer bits, the bound is too loose, because steps larger than
2^-8 change the sigmoid visibly."""
LOOSE_H_STEPS = 2.0**11
"""The bound of h is too loose if the median RMS of the embedding's channels is less than this number of steps (units of
the lowest bit) of h."""


@dataclass(frozen=True)
class Activation:
    """The largest magnitude and the root mean square of one tensor on the calibration tokens."""

    largest: float
    rms: float

    def rounded(self) -> Activation:
        """Return both values with three digits, as the image stores them. Further digits depend on the order of
        additions on a computer."""
        return Activation(float(f"{self.largest:.3g}"), float(f"{self.rms:.3g}"))


def residual_frac_bits(bound: float) -> int:
    """Return the number of fraction bits (at most 30) with which 32 bits can represent h, for |h| <= bound."""
    return min(30, 31 - int(np.ceil(np.log2(max(bound, 2.0**-30)))))


def calibrated_frac_bits(bound: float, observed: float) -> tuple[int, bool]:
    """Return the number of fraction bits of i or gate, and whether it is calibrated. The number is calibrated only if
    the proved bound is too loose."""
    proved = pre_activation_frac_bits(bound)
    if proved >= LOOSE_FRAC_BITS:
        return proved, False
    chosen = pre_activation_frac_bits(calibrated_bound(bound, observed))
    return chosen, chosen > proved or bound + 0.29 > 2.0**MANTISSA_BITS


def calibrated_bound(bound: float, observed: float) -> float:
    """Return the smaller of the bound and the observed value times the margin. If all observed values were 0, return
    the bound."""
    return min(bound, CALIBRATION_MARGIN * observed) if observed > 0 else bound
