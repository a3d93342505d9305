"""Triton kernels for the inputs of the output and down projections: gate, product, norm and codes.

``plain.py`` has the formulas and explains the names. ``rows.py`` explains how programs process rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import Product
from lutern.train.kernels.rows import PROGRAMS, TINY, block_of, column_sums, round_code


@triton.jit
def _swish_and_slope(x):  # type: ignore[no-untyped-def]
    s = tl.sigmoid(x)
    return x * s, s * (1.0 + x * (1.0 - s))


@triton.jit
def _gated_codes(  # type: ignore[no-untyped-def]
    g, g_factors, g_scale, states, norm, gain, codes, factors, d, norm_eps, eps, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < d
    x = tl.load(g + n * d + column, mask=inside, other=0.0).to(tl.float32)
    x *= tl.load(g_scale) / tl.load(g_factors + n)
    x *= tl.rsqrt(tl.sum(x * x) / d + norm_eps)
    state = tl.load(states + n * d + column, mask=inside, other=0.0)
    z = x * tl.load(norm + column, mask=inside, other=0.0) * (state * tl.sigmoid(state))
    y = z * tl.rsqrt(tl.sum(z * z) / d + eps) * tl.load(gain + column, mask=inside, other=0.0)
    factor = 127.0 / tl.maximum(tl.max(tl.abs(y)), TINY)
    tl.store(codes + n * d + column, round_code(y * factor).to(codes.dtype.element_ty), mask=inside)
    tl.store(factors + n, factor)


@triton.jit
def _gated_codes_backward(  # type: ignore[no-untyped-def]
    g,
    g_factors,
    g_scale,
    states,
    norm,
    gain,
    factors,
    scale,
    dcodes,
    codes,
    dg,
    dstates,
    sums,
    rows,
    d,
    norm_eps,
    eps,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < d
    norm_gain = tl.load(norm + column, mask=inside, other=0.0)
    bit_gain = tl.load(gain + column, mask=inside, other=0.0)
    weight_scale = tl.load(scale)
    sum_gain = tl.zeros((BLOCK,), tl.float32)
    sum_norm = tl.zeros((BLOCK,), tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        n = tl.cast(row, tl.int64)
        g_factor = tl.load(g_factors + n)
        factor = tl.load(factors + n)
        x = tl.load(g + n * d + column, mask=inside, other=0.0).to(tl.float32)
        x *= tl.load(g_scale) / g_factor
        swish, slope = _swish_and_slope(tl.load(states + n * d + column, mask=inside, other=0.0))
        root_g = tl.rsqrt(tl.sum(x * x) / d + norm_eps)
        unit_g = x * root_g
        z = unit_g * norm_gain * swish
        root = tl.rsqrt(tl.sum(z * z) / d + eps)
        u = z * root
        tl.store(codes + n * d + column, round_code(u * bit_gain * factor).to(codes.dtype.element_ty), mask=inside)
        dy = tl.load(dcodes + n * d + column, mask=inside, other=0.0).to(tl.float32) * (weight_scale * factor)
        sum_gain += dy * u
        dy *= bit_gain
        dz = root * (dy - u * (tl.sum(dy * u) / d))
        tl.store(dstates + n * d + column, dz * unit_g * norm_gain * slope, mask=inside)
        dn = dz * swish
        sum_norm += dn * unit_g
        dn *= norm_gain
        dx = root_g * (dn - unit_g * (tl.sum(dn * unit_g) / d))
        tl.store(dg + n * d + column, (dx / g_factor).to(dg.dtype.element_ty), mask=inside)
    tl.store(sums + program * 2 * d + column, sum_gain, mask=inside)
    tl.store(sums + program * 2 * d + d + column, sum_norm, mask=inside)


@triton.jit
def _swish_codes(  # type: ignore[no-untyped-def]
    p, p_factors, p_scale, gain, codes, factors, m, eps, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < m
    times = tl.load(p_scale) / tl.load(p_factors + n)
    gate = tl.load(p + n * 2 * m + column, mask=inside, other=0.0).to(tl.float32) * times
    up = tl.load(p + n * 2 * m + m + column, mask=inside, other=0.0).to(tl.float32) * times
    z = gate * tl.sigmoid(gate) * up
    y = z * tl.rsqrt(tl.sum(z * z) / m + eps) * tl.load(gain + column, mask=inside, other=0.0)
    factor = 127.0 / tl.maximum(tl.max(tl.abs(y)), TINY)
    tl.store(codes + n * m + column, round_code(y * factor).to(codes.dtype.element_ty), mask=inside)
    tl.store(factors + n, factor)


@triton.jit
def _swish_codes_backward(  # type: ignore[no-untyped-def]
    p, p_factors, p_scale, gain, factors, scale, dcodes, codes, dp, sums, rows, m, eps, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < m
    bit_gain = tl.load(gain + column, mask=inside, other=0.0)
    sum_gain = tl.zeros((BLOCK,), tl.float32)
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=2):
        n = tl.cast(row, tl.int64)
        p_factor = tl.load(p_factors + n)
        factor = tl.load(factors + n)
        times = tl.load(p_scale) / p_factor
        gate = tl.load(p + n * 2 * m + column, mask=inside, other=0.0).to(tl.float32) * times
        up = tl.load(p + n * 2 * m + m + column, mask=inside, other=0.0).to(tl.float32) * times
        swish, slope = _swish_and_slope(gate)
        z = swish * up
        root = tl.rsqrt(tl.sum(z * z) / m + eps)
        u = z * root
        tl.store(codes + n * m + column, round_code(u * bit_gain * factor).to(codes.dtype.element_ty), mask=inside)
        dy = tl.load(dcodes + n * m + column, mask=inside, other=0.0).to(tl.float32) * (tl.load(scale) * factor)
        sum_gain += dy * u
        dy *= bit_gain
        dz = root * (dy - u * (tl.sum(dy * u) / m)) / p_factor
        tl.store(dp + n * 2 * m + column, (dz * up * slope).to(dp.dtype.element_ty), mask=inside)
        tl.store(dp + n * 2 * m + m + column, (dz * swish).to(dp.dtype.element_ty), mask=inside)
    tl.store(sums + program * m + column, sum_gain, mask=inside)


def gated_codes(
    g: Product, states: Tensor, norm: Tensor, norm_eps: float, gain: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.gated_codes`` on a GPU."""
    (rows, d), device = states.shape, states.device
    codes, factors = torch.empty(rows, d, dtype=dtype, device=device), torch.empty(rows, device=device)
    _gated_codes[(rows,)](*g, states, norm, gain, codes, factors, d, norm_eps, eps, **block_of(d))
    return codes, factors


def gated_codes_backward(
    g: Product,
    states: Tensor,
    norm: Tensor,
    norm_eps: float,
    gain: Tensor,
    eps: float,
    factor: Tensor,
    scale: Tensor,
    dcodes: Tensor,
    out: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute ``plain.gated_codes_backward`` on a GPU."""
    rows, d = states.shape
    programs = min(rows, PROGRAMS)
    codes, dstates = torch.empty_like(out), torch.empty_like(states)
    parts = states.new_empty(programs, 2 * d)
    tensors = (*g, states, norm, gain, factor, scale, dcodes, codes, out, dstates, parts)
    _gated_codes_backward[(programs,)](*tensors, rows, d, norm_eps, eps, **block_of(d))
    dgain, dnorm = column_sums(parts).view(2, d)
    return codes, dstates, dgain, dnorm


def swish_codes(p: Product, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute ``plain.swish_codes`` on a GPU."""
    rows, m, device = len(p[0]), len(gain), gain.device
    codes, factors = torch.empty(rows, m, dtype=dtype, device=device), torch.empty(rows, device=device)
    _swish_codes[(rows,)](*p, gain, codes, factors, m, eps, **block_of(m))
    return codes, factors


def swish_codes_backward(
    p: Product, gain: Tensor, eps: float, factor: Tensor, scale: Tensor, dcodes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``plain.swish_codes_backward`` on a GPU."""
    rows, m = len(p[0]), len(gain)
    programs = min(rows, PROGRAMS)
    codes, dp, parts = torch.empty_like(dcodes), torch.empty_like(p[0]), gain.new_empty(programs, m)
    _swish_codes_backward[(programs,)](*p, gain, factor, scale, dcodes, codes, dp, parts, rows, m, eps, **block_of(m))
    return codes, dp, column_sums(parts)
