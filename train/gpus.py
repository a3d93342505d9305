"""Lists peak rates of GPUs from the manufacturers' data sheets, for dense bfloat16 products with float32 sums."""

from __future__ import annotations

import re

# Each name is searched as whole words in the driver's name of the GPU. The first name that is found is used.
PEAK_TFLOPS: tuple[tuple[str, float], ...] = (
    ("GH200", 989),
    ("H200", 989),
    ("H100 NVL", 835),
    ("H100 PCIe", 756),
    ("H100", 989),
    ("H800", 989),
    ("H20", 148),
    ("B200", 2250),
    ("A100", 312),
    ("A800", 312),
    ("A40", 149.7),
    ("A30", 165),
    ("A10G", 70),
    ("A10", 125),
    ("L40S", 362),
    ("L40", 181),
    ("L4", 121),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71),
)


def peak_flops(name: str) -> float | None:
    """Return the peak rate of a GPU in operations/s, by the driver's name. Return None if the GPU is not in the
    table."""
    return next((1e12 * tflops for part, tflops in PEAK_TFLOPS if re.search(rf"\b{part}\b", name)), None)


def training_flops(weights: int) -> int:
    """Return the number of operations per token in training: for each weight two in forward, four in backward.

    Operations that are repeated to save memory are not counted.
    """
    return 6 * weights


__all__ = ["PEAK_TFLOPS", "peak_flops", "training_flops"]
