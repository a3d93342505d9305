"""Converts latent weights into trits once per step: in the type of the products, and packed in 2 bits for backward.

``plain.py`` has the formulas and explains the names. For each weight, 4 bytes are read and 2.25 bytes are written. To
unpack a trit, 0.25 bytes are read and 2 bytes are written.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import matrices_of, padded

BLOCK = 1024  # number of bytes of packed trits that a program writes


@triton.jit
def _ternarise(weight, scale, trits, packed, elements, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    digit = tl.arange(0, 4)[None, :]
    at = byte[:, None] * 4 + digit
    latent = tl.load(weight + at, mask=at < elements, other=0.0)
    # torch.round rounds halves to even: 0.5 becomes 0, and the only other half, 1.5, is clamped to 1. No division is
    # needed, because the quotient of the next float above scale / 2 is rounded to more than 0.5.
    half = 0.5 * tl.load(scale)
    trit = tl.where(latent > half, 1, 0) - tl.where(latent < -half, 1, 0)
    tl.store(trits + at, trit.to(trits.dtype.element_ty), mask=at < elements)
    tl.store(packed + byte, tl.sum((trit + 1) << (2 * digit), axis=1).to(tl.uint8), mask=byte * 4 < elements)


@triton.jit
def _unpack(packed, trits, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    byte = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    digit = tl.arange(0, 4)[None, :]
    value = tl.load(packed + byte, mask=byte < count, other=0).to(tl.int32)
    trit = ((value[:, None] >> (2 * digit)) & 3) - 1
    tl.store(trits + byte[:, None] * 4 + digit, trit.to(trits.dtype.element_ty), mask=byte[:, None] < count)


def ternarise(weights: list[Tensor], scales: Tensor, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Compute ``plain.ternarise`` on a GPU."""
    total = sum(padded(weight.numel()) for weight in weights)
    trits = torch.empty(total, dtype=dtype, device=scales.device)
    packed = torch.empty(total // 4, dtype=torch.uint8, device=scales.device)
    begin = 0
    for index, weight in enumerate(weights):
        grid = (triton.cdiv(weight.numel(), 4 * BLOCK),)
        out, bits = trits[begin:], packed[begin // 4 :]
        _ternarise[grid](weight.contiguous(), scales[index:], out, bits, weight.numel(), BLOCK=BLOCK)
        begin += padded(weight.numel())
    return matrices_of(trits, [weight.shape for weight in weights]), packed


def unpack(packed: Tensor, shapes: list[torch.Size], dtype: torch.dtype) -> list[Tensor]:
    """Compute ``plain.unpack`` on a GPU."""
    trits = torch.empty(4 * len(packed), dtype=dtype, device=packed.device)
    _unpack[(triton.cdiv(len(packed), BLOCK),)](packed, trits, len(packed), BLOCK=BLOCK)
    return matrices_of(trits, shapes)
