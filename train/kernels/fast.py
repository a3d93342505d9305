"""Collects the kernels for a GPU, with the same names as in ``plain.py``."""

from __future__ import annotations

from lutern.train.kernels.gates import gated_codes, gated_codes_backward, swish_codes, swish_codes_backward
from lutern.train.kernels.loss import cross_entropy
from lutern.train.kernels.plain import scales_of
from lutern.train.kernels.products import product, weight_gradient
from lutern.train.kernels.rows import add_product_backward, add_products, norm_codes, norm_codes_backward
from lutern.train.kernels.scan import gated_scan, gated_scan_backward
from lutern.train.kernels.weights import ternarise, unpack

INT8_FROM = 1024
"""From this hidden size on, forward products are faster on int8 tensor cores than on bfloat16's (docs/training.md)."""

__all__ = [
    "INT8_FROM",
    "add_product_backward",
    "add_products",
    "cross_entropy",
    "gated_codes",
    "gated_codes_backward",
    "gated_scan",
    "gated_scan_backward",
    "norm_codes",
    "norm_codes_backward",
    "product",
    "scales_of",
    "swish_codes",
    "swish_codes_backward",
    "ternarise",
    "unpack",
    "weight_gradient",
]
