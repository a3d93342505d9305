"""How large a network's numbers can become, and the binary points of the words that hold them.

    |BL(x)_r| <= s sqrt(n) |T_r * w2|_2 + rounding of the codes            (Cauchy and Schwarz; |t|_2 <= sqrt(n))

The bounds hold for every text. Where a bound is too loose for its word, the largest ``Activation`` times a margin
replaces it.
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

    It adds three parts: Cauchy and Schwarz on ``T_r * w2``, half a code step for each trit that is not zero, and 0.1 %
    for rounded scalars.
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
    """Return fraction bits (0..16) with which 18 bits hold a, silu(a) and their difference: |a| <= bound, silu >=
    -0.2785."""
    integer_bits = max(0, int(np.ceil(np.log2(bound + 0.29))))
    return int(np.clip(MANTISSA_BITS - integer_bits, 0, 16))


CALIBRATION_MARGIN = 16.0
"""Factor on the largest value of the calibration tokens: four bits of room for other texts."""
LOOSE_FRAC_BITS = 8
"""With fewer fraction bits, steps of i and gate exceed 2^-8 and are visible in the sigmoid: the bound is too loose."""
LOOSE_H_STEPS = 2.0**11
"""The bound of h is too loose if the deviation of the embedding's median channel is fewer steps of h than this."""


@dataclass(frozen=True)
class Activation:
    """Largest magnitude and root mean square of one tensor on the calibration tokens."""

    largest: float
    rms: float

    def rounded(self) -> Activation:
        """Return both values with three digits, as the image keeps them; further digits depend on the order in which a
        machine adds."""
        return Activation(float(f"{self.largest:.3g}"), float(f"{self.rms:.3g}"))


def residual_frac_bits(bound: float) -> int:
    """Return fraction bits (at most 30) with which 32 bits hold h: |h| <= bound."""
    return min(30, 31 - int(np.ceil(np.log2(max(bound, 2.0**-30)))))


def calibrated_frac_bits(bound: float, observed: float) -> tuple[int, bool]:
    """Return fraction bits of i or gate, and whether they are calibrated: only if the proof is too loose."""
    proved = pre_activation_frac_bits(bound)
    if proved >= LOOSE_FRAC_BITS:
        return proved, False
    chosen = pre_activation_frac_bits(calibrated_bound(bound, observed))
    return chosen, chosen > proved or bound + 0.29 > 2.0**MANTISSA_BITS


def calibrated_bound(bound: float, observed: float) -> float:
    """Return the smaller of the bound and the observed value with margin; a tensor that was always 0 keeps its
    bound."""
    return min(bound, CALIBRATION_MARGIN * observed) if observed > 0 else bound
