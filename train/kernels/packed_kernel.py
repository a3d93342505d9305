"""Multiplies packed trits by one vector of codes in a Triton kernel. ``packed.py`` explains the layout of the trits.

A program processes some rows, one block of words after another. Each digit needs a mask, a shift and dp4a. The digits
are trits plus 1, so the sum of the codes is also computed with dp4a, and subtracted. A trit needs 0.25 bytes and 0.75
instructions with 2 bits per trit, or 0.2 bytes and 2.75 instructions with 1.6 bits per trit.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE_WORDS = 512  # number of words in the registers of a program
NATIVE = os.environ.get("TRITON_INTERPRET") != "1"  # Triton's interpreter cannot run inline instructions


@triton.jit
def _dot4(digits, codes, total, NATIVE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return ``total`` plus the four products of unsigned bytes (``digits``) and signed bytes (``codes``)."""
    if NATIVE:
        out = tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, $3;", "=r,r,r,r", [digits, codes, total], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        out = total
        for byte in tl.static_range(4):
            out += ((digits >> (8 * byte)) & 255) * ((codes << (24 - 8 * byte)) >> 24)
    return out


@triton.jit
def _products(  # type: ignore[no-untyped-def]
    words, codes, out, rows, width, quads, DIGITS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    NATIVE: tl.constexpr
):  # fmt: skip
    matrix = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    words += matrix * rows * width + row.to(tl.int64) * width
    codes += matrix * quads
    total = tl.zeros((ROWS, BLOCK), tl.int32)
    excess = tl.zeros((1, BLOCK), tl.int32)
    ones = tl.full((1, BLOCK), 0x01010101, tl.int32)
    for begin in range(0, width, BLOCK):
        at = begin + column
        inside = at < width
        word = tl.load(words + at, mask=inside & (row < rows), other=0)
        even = word & 0x00FF00FF
        odd = (word >> 8) & 0x00FF00FF
        for k in tl.static_range(DIGITS):
            code = tl.load(codes + k * width + at, mask=inside & (k * width + at < quads), other=0)
            if DIGITS == 4:
                digit = (word >> (2 * k)) & 0x03030303
            else:
                even *= 3
                odd *= 3
                digit = ((even >> 8) & 0x00030003) | (odd & 0x03000300)
                even &= 0x00FF00FF
                odd &= 0x00FF00FF
            total = _dot4(digit, tl.broadcast_to(code, (ROWS, BLOCK)), total, NATIVE)
            excess = _dot4(ones, code, excess, NATIVE)
    sums = tl.sum(total - excess, axis=1, keep_dims=True)
    tl.store(out + matrix * rows + row, sums.to(tl.float32), mask=row < rows)


def products_of(words: Tensor, codes: Tensor, digits: int) -> Tensor:
    """Return float32 sums [J, rows] of words [J, rows, W] and int8 codes [J, columns], for J matrices. The number of
    columns must be a multiple of 4."""
    matrices, rows, width = words.shape
    out = torch.empty(matrices, rows, device=words.device)
    block = min(256, triton.next_power_of_2(width))
    tall = max(1, TILE_WORDS // block)
    grid = (triton.cdiv(rows, tall), matrices)
    quads = codes.view(torch.int32)
    _products[grid](
        words, quads, out, rows, width, quads.shape[-1], DIGITS=digits, ROWS=tall, BLOCK=block, NATIVE=NATIVE,
        num_warps=2
    )  # fmt: skip
    return out
