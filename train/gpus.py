"""What GPUs can do at most, from their makers' data sheets: dense bfloat16 products with float32 sums."""

from __future__ import annotations

import re

# The name is looked for as words of what the driver says; the first that is there counts.
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
    """Operations a second of a GPU as its driver calls it; None for one that is not in the table."""
    return next((1e12 * tflops for part, tflops in PEAK_TFLOPS if re.search(rf"\b{part}\b", name)), None)


def training_flops(weights: int) -> int:
    """Operations that training takes a token: two a weight forward, four for the gradients.  What is computed again to
    save memory is no work."""
    return 6 * weights


__all__ = ["PEAK_TFLOPS", "peak_flops", "training_flops"]
