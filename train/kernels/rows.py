"""Computes norms, codes and residual sums in Triton kernels. A program processes one row, or in backward several rows.

``plain.py`` has the formulas and explains the names. A row stays in registers between its loads and its stores, so each
kernel reads or writes every tensor once. Each program has its own sums over rows (gradients of gains), which
``column_sums`` adds afterwards. There are no atomic operations, so the result is the same in every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import SMALLEST_ABSMAX, Dropout, Product

NARROW, WIDE = 16, 32  # elements of a row per thread, chosen by measurements on an H200
PROGRAMS = 528  # four for each multiprocessor of an H200, since more programs would only make more partial sums
TINY = tl.constexpr(SMALLEST_ABSMAX)


@triton.jit
def round_code(x):  # type: ignore[no-untyped-def]
    magnitude = tl.minimum(tl.floor(tl.abs(x) + 0.5), 127.0)
    return tl.where(x < 0, -magnitude, magnitude)


@triton.jit
def kept(offset, seed, use, SHARE: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.where(tl.rand(2 * tl.load(seed) + use, offset) >= SHARE, 1.0 / (1.0 - SHARE), 0.0)


@triton.jit
def _norm_codes(  # type: ignore[no-untyped-def]
    h, outer, gains, codes, factors, rows, d, outer_eps, eps, J: tl.constexpr, JP: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, JP)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = column < d
    x = tl.load(h + n * d + column, mask=inside, other=0.0)
    x *= tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / d + outer_eps)
    x *= tl.load(outer + column, mask=inside, other=0.0)
    x *= tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / d + eps)
    y = x * tl.load(gains + j * d + column, mask=inside & (j < J), other=0.0)
    factor = 127.0 / tl.maximum(tl.max(tl.abs(y), axis=1, keep_dims=True), TINY)
    code = round_code(y * factor).to(codes.dtype.element_ty)
    tl.store(codes + (j * rows + n) * d + column, code, mask=inside & (j < J))
    tl.store(factors + j * rows + n, factor, mask=j < J)


@triton.jit
def _norm_codes_backward(  # type: ignore[no-untyped-def]
    h,
    outer,
    gains,
    factors,
    scales,
    dcodes,
    dh,
    codes,
    dx_out,
    sums,
    rows,
    d,
    outer_eps,
    eps,
    J: tl.constexpr,
    JP: tl.constexpr,
    BLOCK: tl.constexpr,
    ADD: tl.constexpr,
):
    program = tl.program_id(0)
    j = tl.arange(0, JP)[:, None].to(tl.int64)
    column = tl.arange(0, BLOCK)[None, :]
    inside = column < d
    each = inside & (j < J)
    outer_gain = tl.load(outer + column, mask=inside, other=0.0)
    gain = tl.load(gains + j * d + column, mask=each, other=0.0)
    scale = tl.load(scales + j, mask=j < J, other=0.0)
    sum_gains = tl.zeros((JP, BLOCK), tl.float32)
    sum_outer = tl.zeros((1, BLOCK), tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        n = tl.cast(row, tl.int64)
        x = tl.load(h + n * d + column, mask=inside, other=0.0)
        factor = tl.load(factors + j * rows + n, mask=j < J, other=1.0)
        dy = tl.load(dcodes + (j * rows + n) * d + column, mask=each, other=0.0).to(tl.float32) * (scale * factor)
        v = x * outer_gain
        root_outer = tl.rsqrt(tl.sum(x * x, axis=1, keep_dims=True) / d + outer_eps)
        square = tl.sum(v * v, axis=1, keep_dims=True) / d * root_outer * root_outer
        root = tl.rsqrt(square + eps)
        u = v * (root_outer * root)
        tl.store(
            codes + (j * rows + n) * d + column, round_code(u * gain * factor).to(codes.dtype.element_ty), mask=each
        )
        sum_gains += dy * u
        t = tl.sum(dy * gain, axis=0, keep_dims=True)
        along = tl.sum(t * u, axis=1, keep_dims=True) / d
        unit = x * root_outer
        du = root * (t - u * along)
        sum_outer += du * unit
        # By algebra, mean(du * outer * unit) is along * (1 - square * root^2), which is almost zero.
        dx = root_outer * (du * outer_gain - unit * (along * (1.0 - square * root * root)))
        if ADD:
            dx += tl.load(dh + n * d + column, mask=inside, other=0.0)
        tl.store(dx_out + n * d + column, dx, mask=inside)
    part = sums + program * (J + 1) * d + column
    tl.store(part + j * d, sum_gains, mask=each)
    tl.store(part + J * d, sum_outer, mask=inside)


@triton.jit
def _column_sums(parts, out, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    row = tl.arange(0, ROWS)[:, None]
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for begin in range(0, rows, ROWS):
        inside = (begin + row < rows) & (column < columns)
        total += tl.load(parts + (begin + row) * columns + column, mask=inside, other=0.0)
    tl.store(out + column, tl.sum(total, axis=0, keep_dims=True), mask=column < columns)


@triton.jit
def _add_product(  # type: ignore[no-untyped-def]
    h, sums, factors, scales, out, d, seed, use, SHARE: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    value = tl.load(sums + n * d + column, mask=inside, other=0.0).to(tl.float32)
    value *= tl.load(scales) / tl.load(factors + n)
    if SHARE > 0:
        value *= kept((n * d + column).to(tl.int32), seed, use, SHARE)
    value += tl.load(h + n * d + column, mask=inside, other=0.0)
    tl.store(out + n * d + column, value, mask=inside)


@triton.jit
def _add_product_backward(  # type: ignore[no-untyped-def]
    dh, factors, out, d, seed, use, SHARE: tl.constexpr, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    value = tl.load(dh + n * d + column, mask=inside, other=0.0) / tl.load(factors + n)
    if SHARE > 0:
        value *= kept((n * d + column).to(tl.int32), seed, use, SHARE)
    tl.store(out + n * d + column, value.to(out.dtype.element_ty), mask=inside)


def block_of(width: int, copies: int = 1) -> dict[str, int]:
    """Return BLOCK and the number of warps for a row. A thread has few elements of a short row. If ``copies`` rows are
    long, a thread has more elements, to save reductions."""
    block = triton.next_power_of_2(width)
    elements = WIDE if copies * block > 2048 else NARROW
    return {"BLOCK": block, "num_warps": max(1, min(16, copies * block // (32 * elements)))}


def column_sums(parts: Tensor) -> Tensor:
    """Sum [programs, columns] to [columns]. PyTorch's own sum is slower for so few columns."""
    rows, columns = parts.shape
    out = parts.new_empty(columns)
    _column_sums[(triton.cdiv(columns, 32),)](parts, out, rows, columns, ROWS=64, BLOCK=32, num_warps=4)
    return out


def norm_codes(
    h: Tensor, outer: Tensor, outer_eps: float, gains: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.norm_codes`` on a GPU."""
    (rows, d), j = h.shape, len(gains)
    codes = torch.empty(j, rows, d, dtype=dtype, device=h.device)
    factors = torch.empty(j, rows, device=h.device)
    jp = triton.next_power_of_2(j)
    _norm_codes[(rows,)](h, outer, gains, codes, factors, rows, d, outer_eps, eps, J=j, JP=jp, **block_of(d, jp))
    return codes, factors


def norm_codes_backward(
    h: Tensor,
    outer: Tensor,
    outer_eps: float,
    gains: Tensor,
    eps: float,
    factor: Tensor,
    scale: Tensor,
    dcodes: Tensor,
    dh: Tensor | None,
    narrow: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute ``plain.norm_codes_backward`` on a GPU."""
    (rows, d), j = h.shape, len(gains)
    programs, jp = min(rows, PROGRAMS), triton.next_power_of_2(j)
    codes, dx = torch.empty(j, rows, d, dtype=narrow, device=h.device), torch.empty_like(h)
    parts = h.new_empty(programs, (j + 1) * d)
    tensors = (h, outer, gains, factor, scale, dcodes, h if dh is None else dh, codes, dx, parts)
    numbers = (rows, d, outer_eps, eps)
    _norm_codes_backward[(programs,)](*tensors, *numbers, J=j, JP=jp, ADD=dh is not None, **block_of(d, jp))
    total = column_sums(parts).view(j + 1, d)
    return codes, dx, total[:j], total[j]


def add_product(h: Tensor, added: Product, dropout: Dropout) -> Tensor:
    """Compute ``plain.add_product`` on a GPU."""
    (rows, d), (seed, use, share), out = h.shape, dropout, torch.empty_like(h)
    _add_product[(rows,)](h, *added, out, d, h if seed is None else seed, use, SHARE=share, **block_of(d))
    return out


def add_product_backward(dh: Tensor, factor: Tensor, dropout: Dropout, dtype: torch.dtype) -> Tensor:
    """Compute ``plain.add_product_backward`` on a GPU."""
    (rows, d), (seed, use, share), out = dh.shape, dropout, torch.empty_like(dh, dtype=dtype)
    _add_product_backward[(rows,)](dh, factor, out, d, dh if seed is None else seed, use, SHARE=share, **block_of(d))
    return out
