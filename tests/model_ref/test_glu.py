"""The gate of the channel mixer: its ranges, and the comparison with float64."""

import numpy as np

from lutern.model_ref.fixed import S18_MAX
from lutern.model_ref.glu import gate, mix


def test_v_fits_35_bits() -> None:
    ends = np.array([S18_MAX, -S18_MAX, 0, 1, -1])
    for frac in range(18):
        gated = gate(ends, frac)
        assert np.abs(gated).max() <= S18_MAX
        assert np.abs(mix(gated[:, None], ends[None, :])).max() < 1 << 34


def test_follows_its_float_twin() -> None:
    generator = np.random.default_rng(3)
    for frac in (8, 13, 17):
        a, up = (generator.integers(-S18_MAX, S18_MAX + 1, 5000) for _ in range(2))
        real = a / 2.0**frac
        with np.errstate(over="ignore"):
            wanted = real / (1.0 + np.exp(-real)) * up
        error = np.abs(mix(gate(a, frac), up) / 2.0**frac - wanted)
        assert (error <= np.abs(up) * (0.5 / 2**frac + np.abs(real) * 2.0**-16.25)).all()
