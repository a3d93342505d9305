"""Computes norms, codes and residual sums in Triton kernels. A program computes one row, or every n-th row.

``plain.py`` has the formulas and explains the names. A row stays in registers between its loads and its stores, so each
kernel reads or writes every tensor once. Each program has its own sums over rows (gradients of gains), which
``column_sums`` adds afterwards. There are no atomic operations, so the result is the same in every run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import SMALLEST_ABSMAX, Added, Dropout

NARROW, WIDE = 16, 32  # elements of a row that a thread holds; measured on an H200
PROGRAMS = 132  # number of multiprocessors of an H200; more programs would only compute more partial sums
TINY = tl.constexpr(SMALLEST_ABSMAX)


@triton.jit
def code_of(x, WHOLE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Round to a code. If ``WHOLE``, the result is an integer, which saves a slow instruction before int8. The largest
    magnitude of a row is 127, so nothing needs to be clamped."""
    if WHOLE:
        code = (x + tl.where(x < 0, -0.5, 0.5)).to(tl.int32)
    else:
        magnitude = tl.floor(tl.abs(x) + 0.5)
        code = tl.where(x < 0, -magnitude, magnitude)
    return code


@triton.jit
def put_codes(codes, x, inside):  # type: ignore[no-untyped-def]
    code = code_of(x, codes.dtype.element_ty == tl.int8)
    tl.store(codes, code.to(codes.dtype.element_ty), mask=inside)


@triton.jit
def kept(offset, seed, use, SHARE: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.where(tl.rand(2 * tl.load(seed) + use, offset) >= SHARE, 1.0 / (1.0 - SHARE), 0.0)


@triton.jit
def two_sums(a0, b0, a1, b1):  # type: ignore[no-untyped-def]
    return a0 + a1, b0 + b1


@triton.jit
def three_sums(a0, b0, c0, a1, b1, c1):  # type: ignore[no-untyped-def]
    return a0 + a1, b0 + b1, c0 + c1


@triton.jit
def _added(sums, factors, scale, n, d, column, seed, use, SHARE: tl.constexpr):  # type: ignore[no-untyped-def]
    value = tl.load(sums + n * d + column, mask=column < d, other=0.0).to(tl.float32)
    value *= tl.load(scale) / tl.load(factors + n)
    if SHARE > 0:
        value *= kept((n * d + column).to(tl.int32), seed, use, SHARE)
    return value


@triton.jit
def _norm_codes(  # type: ignore[no-untyped-def]
    h,
    sums,
    sums_factors,
    sums_scale,
    seed,
    use,
    outer,
    gains,
    codes,
    factors,
    rows,
    d,
    outer_eps,
    eps,
    J: tl.constexpr,
    ADDED: tl.constexpr,
    SHARE: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    column = tl.arange(0, BLOCK)
    inside = column < d
    outer_gain = tl.load(outer + column, mask=inside, other=0.0)
    gain = ()
    for j in tl.static_range(J):
        gain += (tl.load(gains + j * d + column, mask=inside, other=0.0),)  # type: ignore[assignment]
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=STAGES):
        n = tl.cast(row, tl.int64)
        x = tl.load(h + n * d + column, mask=inside, other=0.0)
        if ADDED:
            x += _added(sums, sums_factors, sums_scale, n, d, column, seed, use, SHARE)
        v = x * outer_gain
        square_x, square_v = tl.reduce((x * x, v * v), 0, two_sums)
        root = tl.rsqrt(square_x / d + outer_eps)
        root *= tl.rsqrt(square_v / d * root * root + eps)
        for j in tl.static_range(J):
            y = v * gain[j]
            factor = 127.0 / tl.maximum(tl.max(tl.abs(y)) * root, TINY)
            at = j * rows + n
            put_codes(codes + at * d + column, y * (root * factor), inside)
            tl.store(factors + at, factor)


@triton.jit
def _norm_codes_backward(  # type: ignore[no-untyped-def]
    h,
    sums,
    sums_factors,
    sums_scale,
    seed,
    use,
    outer,
    gains,
    factors,
    scales,
    dcodes,
    dh,
    codes,
    dx_out,
    parts,
    rows,
    d,
    outer_eps,
    eps,
    J: tl.constexpr,
    JP: tl.constexpr,
    DH: tl.constexpr,
    ADDED: tl.constexpr,
    SHARE: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
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
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=STAGES):
        n = tl.cast(row, tl.int64)
        x = tl.load(h + n * d + column, mask=inside, other=0.0)
        dy = tl.load(dcodes + (j * rows + n) * d + column, mask=each, other=0.0).to(tl.float32)
        if ADDED:
            x += _added(sums, sums_factors, sums_scale, n, d, column, seed, use, SHARE)
        if DH:
            later = tl.load(dh + n * d + column, mask=inside, other=0.0)
        factor = tl.load(factors + j * rows + n, mask=j < J, other=1.0)
        dy *= scale * factor
        t = tl.sum(dy * gain, axis=0, keep_dims=True)
        v = x * outer_gain
        square_x, square_v, along = tl.reduce((x * x, v * v, t * v), 1, three_sums, keep_dims=True)
        root_outer = tl.rsqrt(square_x / d + outer_eps)
        square = square_v / d * root_outer * root_outer
        root = tl.rsqrt(square + eps)
        along *= root * root_outer / d
        u = v * (root * root_outer)
        put_codes(codes + (j * rows + n) * d + column, u * gain * factor, each)
        sum_gains += dy * u
        unit = x * root_outer
        du = root * t - u * (root * along)
        sum_outer += du * unit
        # mean(du * outer * unit) follows by algebra, and is small: the inner norm removes most of this direction.
        dx = root_outer * (du * outer_gain) - unit * (root_outer * along * (1.0 - square * root * root))
        if DH:
            dx += later
        tl.store(dx_out + n * d + column, dx, mask=inside)
        if ADDED:
            dx *= 1.0 / tl.load(sums_factors + n)
            if SHARE > 0:
                dx *= kept((n * d + column).to(tl.int32), seed, use, SHARE)
            tl.store(sums + n * d + column, dx.to(sums.dtype.element_ty), mask=inside)
    part = parts + program * (J + 1) * d + column
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
def _add_products(  # type: ignore[no-untyped-def]
    h,
    sums0,
    factors0,
    scale0,
    seed0,
    use0,
    sums1,
    factors1,
    scale1,
    seed1,
    use1,
    out,
    d,
    TWO: tl.constexpr,
    SHARE0: tl.constexpr,
    SHARE1: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    value = tl.load(h + n * d + column, mask=inside, other=0.0)
    value += _added(sums0, factors0, scale0, n, d, column, seed0, use0, SHARE0)
    if TWO:
        value += _added(sums1, factors1, scale1, n, d, column, seed1, use1, SHARE1)
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


def loop_of(rows: int, settings: dict[str, int], warps: int = 8) -> tuple[int, dict[str, int]]:
    """Return the number of programs that each compute many rows, and their settings. A multiprocessor has ``warps``
    warps. A row is loaded while the previous row is computed."""
    return min(rows, PROGRAMS * max(1, warps // settings["num_warps"])), {**settings, "STAGES": 3}


def pieces_of(width: int) -> dict[str, int]:
    """Return the settings of a program that stores a wide row as PIECES blocks of BLOCK columns. One block would have a
    power of two of columns, and many of them would be empty."""
    block = max(32, triton.next_power_of_2(width) // 4)
    return {"BLOCK": block, "PIECES": triton.cdiv(width, block), "num_warps": max(1, min(8, block // 256))}


def column_sums(parts: Tensor) -> Tensor:
    """Sum [programs, columns] to [columns]. PyTorch's own sum is slower for so few columns."""
    rows, columns = parts.shape
    out = parts.new_empty(columns)
    _column_sums[(triton.cdiv(columns, 32),)](parts, out, rows, columns, ROWS=64, BLOCK=32, num_warps=4)
    return out


def _of(added: Added | None, h: Tensor) -> tuple[tuple[Any, ...], float]:
    """Return a kernel's arguments for ``added``, and the share of its dropout. If ``added`` is None, ``h`` takes the
    place of all tensors."""
    if added is None:
        return (h, h, h, h, 0), 0.0
    product, (seed, use, share) = added
    return (*product, h if seed is None else seed, use), share


def norm_codes(
    h: Tensor,
    outer: Tensor,
    outer_eps: float,
    gains: Tensor,
    eps: float,
    dtype: torch.dtype,
    added: Added | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.norm_codes`` on a GPU."""
    (rows, d), j, (more, share) = h.shape, len(gains), _of(added, h)
    codes = torch.empty(j, rows, d, dtype=dtype, device=h.device)
    factors = torch.empty(j, rows, device=h.device)
    tensors, numbers = (h, *more, outer, gains, codes, factors), (rows, d, outer_eps, eps)
    programs, settings = loop_of(rows, block_of(d), 16)
    _norm_codes[(programs,)](*tensors, *numbers, J=j, ADDED=added is not None, SHARE=share, **settings)
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
    added: Added | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Compute ``plain.norm_codes_backward``, and write the results over ``dcodes`` and over the sums of ``added``."""
    (rows, d), j, (more, share) = h.shape, len(gains), _of(added, h)
    jp = triton.next_power_of_2(j)
    programs, settings = loop_of(rows, block_of(d, jp))
    dx, parts = torch.empty_like(h), h.new_empty(programs, (j + 1) * d)
    tensors = (h, *more, outer, gains, factor, scale, dcodes, h if dh is None else dh, dcodes, dx, parts)
    flags = {"J": j, "JP": jp, "DH": dh is not None, "ADDED": added is not None, "SHARE": share}
    _norm_codes_backward[(programs,)](*tensors, rows, d, outer_eps, eps, **flags, **settings)
    total = column_sums(parts).view(j + 1, d)
    return dcodes, dx, total[:j], total[j], None if added is None else added[0][0]


def add_products(h: Tensor, *added: Added) -> Tensor:
    """Compute ``plain.add_products`` on a GPU."""
    (rows, d), out = h.shape, torch.empty_like(h)
    two = len(added) == 2
    first, share0 = _of(added[0], h)
    second, share1 = _of(added[1] if two else None, h)
    flags = {"TWO": two, "SHARE0": share0, "SHARE1": share1}
    _add_products[(rows,)](h, *first, *second, out, d, **flags, **block_of(d))
    return out


def add_product_backward(dh: Tensor, factor: Tensor, dropout: Dropout, dtype: torch.dtype) -> Tensor:
    """Compute ``plain.add_product_backward`` on a GPU."""
    (rows, d), (seed, use, share), out = dh.shape, dropout, torch.empty_like(dh, dtype=dtype)
    _add_product_backward[(rows,)](dh, factor, out, d, dh if seed is None else seed, use, SHARE=share, **block_of(d))
    return out
