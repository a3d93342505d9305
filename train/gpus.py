"""Peak rates of GPUs from their makers' data sheets: dense bfloat16 products with float32 sums."""

from __future__ import annotations

import re

# A name is searched as whole words in the driver's name of the GPU; the first that is found counts.
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
    """Return peak operations a second of a GPU, by its driver's name; None if the table does not have it."""
    return next((1e12 * tflops for part, tflops in PEAK_TFLOPS if re.search(rf"\b{part}\b", name)), None)


def training_flops(weights: int) -> int:
    """Return operations that training needs for a token: two a weight forward, four for the gradients.

    Operations that are repeated to save memory do not count.
    """
    return 6 * weights


__all__ = ["PEAK_TFLOPS", "peak_flops", "training_flops"]
