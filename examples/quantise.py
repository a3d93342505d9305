"""Quantises one matrix as a chip stores it (trits and a scale), and multiplies the matrix exactly by 8-bit codes.

    .venv/bin/python examples/quantise.py [ROWS COLUMNS]    default: 256 and 512

    weight ─► ternarise ─► trits, scale ─► pack_canonical ─► bytes with five trits each
    x ─────► codes, step ─► ternary_sums (integers, exact) ─► times scale and step ─► y

ROWS and COLUMNS are the shape of the matrix. A code times the step is approximately an element of x.
"""

import sys

import numpy as np

from lutern.firmware.packing import pack_canonical, unpack_canonical
from lutern.model_ref.ternarise import ternarise
from lutern.model_ref.ternary import ternary_sums

SEED = 7
rows, columns = (int(argument) for argument in sys.argv[1:3]) if len(sys.argv) > 2 else (256, 512)
generator = np.random.default_rng(SEED)
weight = generator.normal(size=(rows, columns)).astype(np.float32)
x = generator.normal(size=columns).astype(np.float32)

trits, scale = ternarise(weight)  # scale: the mean of |weight|
packed = pack_canonical(trits)
assert np.array_equal(unpack_canonical(packed, rows, columns), trits)
print(f"{weight.nbytes:,} bytes of float32 are {packed.nbytes:,} bytes of trits; {np.mean(trits == 0):.1%} are zero")

step = np.abs(x).max() / 127
codes = np.rint(x / step).astype(np.int64)  # -127 to 127: the largest magnitude becomes 127
sums = ternary_sums(codes[None], trits.astype(np.float32))[0]
assert np.array_equal(sums, trits.astype(np.int64) @ codes), f"seed {SEED}"
print(f"{rows} sums, the largest {np.abs(sums).max():,}, are exact: no multiplier takes part")


def error(computed: np.ndarray, exact: np.ndarray) -> float:
    """Return the relative RMS error."""
    return float(np.sqrt(((computed - exact) ** 2).sum() / (exact**2).sum()))


y = sums * scale * step
print(f"the codes cost {error(y, scale * (trits @ x)):.4f} of relative RMS error")
print(f"the trits cost {error(scale * (trits @ x), weight @ x):.4f}, because this matrix was not trained to be ternary")
