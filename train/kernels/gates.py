"""Triton kernels ahead of the output and down projections: gate, product, norm and codes.

``plain.py`` has the formulas and explains the names. ``rows.py`` explains how programs process rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import Product
from lutern.train.kernels.rows import TINY, block_of, column_sums, loop_of, pieces_of, put_codes, three_sums, two_sums


@triton.jit
def _swish_and_slope(x):  # type: ignore[no-untyped-def]
    s = tl.sigmoid(x)
    return x * s, s * (1.0 + x * (1.0 - s))


@triton.jit
def _gated_codes(  # type: ignore[no-untyped-def]
    g,
    g_factors,
    g_scale,
    states,
    norm,
    gain,
    codes,
    factors,
    rows,
    d,
    norm_eps,
    eps,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    column = tl.arange(0, BLOCK)
    inside = column < d
    norm_gain = tl.load(norm + column, mask=inside, other=0.0)
    bit_gain = tl.load(gain + column, mask=inside, other=0.0)
    times = tl.load(g_scale)
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=STAGES):
        n = tl.cast(row, tl.int64)
        x = tl.load(g + n * d + column, mask=inside, other=0.0).to(tl.float32)
        state = tl.load(states + n * d + column, mask=inside, other=0.0)
        x *= times / tl.load(g_factors + n)
        z = x * norm_gain * (state * tl.sigmoid(state))
        y = z * bit_gain
        square_x, square_z = tl.reduce((x * x, z * z), 0, two_sums)
        root = tl.rsqrt(square_x / d + norm_eps)
        root *= tl.rsqrt(square_z / d * root * root + eps)
        factor = 127.0 / tl.maximum(tl.max(tl.abs(y)) * root, TINY)
        put_codes(codes + n * d + column, y * (root * factor), inside)
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
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < d
    norm_gain = tl.load(norm + column, mask=inside, other=0.0)
    bit_gain = tl.load(gain + column, mask=inside, other=0.0)
    weight_scale, times = tl.load(scale), tl.load(g_scale)
    sum_gain = tl.zeros((BLOCK,), tl.float32)
    sum_norm = tl.zeros((BLOCK,), tl.float32)
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=STAGES):
        n = tl.cast(row, tl.int64)
        x = tl.load(g + n * d + column, mask=inside, other=0.0).to(tl.float32)
        state = tl.load(states + n * d + column, mask=inside, other=0.0)
        dy = tl.load(dcodes + n * d + column, mask=inside, other=0.0).to(tl.float32)
        g_factor = tl.load(g_factors + n)
        factor = tl.load(factors + n)
        x *= times / g_factor
        swish, slope = _swish_and_slope(state)
        z = x * norm_gain * swish
        t = dy * bit_gain
        square_x, square_z, along = tl.reduce((x * x, z * z, t * z), 0, three_sums)
        root_g = tl.rsqrt(square_x / d + norm_eps)
        square = square_z / d * root_g * root_g
        root = tl.rsqrt(square + eps)
        both, to_y = root * root_g, weight_scale * factor
        along *= both * to_y / d
        u = z * both
        put_codes(codes + n * d + column, u * bit_gain * factor, inside)
        sum_gain += dy * u * to_y
        dz = t * (root * to_y) - u * (root * along)
        unit = x * root_g
        tl.store(dstates + n * d + column, dz * unit * norm_gain * slope, mask=inside)
        dn = dz * swish
        sum_norm += dn * unit
        # What the norm of g leaves along its own direction, mean(dz * z), follows from the sums above.
        dx = dn * norm_gain * (root_g / g_factor) - unit * (root_g * along * (1.0 - square * root * root) / g_factor)
        tl.store(dg + n * d + column, dx.to(dg.dtype.element_ty), mask=inside)
    tl.store(sums + program * 2 * d + column, sum_gain, mask=inside)
    tl.store(sums + program * 2 * d + d + column, sum_norm, mask=inside)


@triton.jit
def _gate_and_up(p, n, m, column):  # type: ignore[no-untyped-def]
    at = p + n * 2 * m + column
    gate = tl.load(at, mask=column < m, other=0.0).to(tl.float32)
    return gate, tl.load(at + m, mask=column < m, other=0.0).to(tl.float32)


@triton.jit
def _swish_codes(  # type: ignore[no-untyped-def]
    p, p_factors, p_scale, gain, codes, factors, m, eps, BLOCK: tl.constexpr, PIECES: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    times = tl.load(p_scale) / tl.load(p_factors + n)
    square = tl.zeros((BLOCK,), tl.float32)
    largest = tl.zeros((BLOCK,), tl.float32)
    y = ()
    for piece in tl.static_range(PIECES):
        column = piece * BLOCK + tl.arange(0, BLOCK)
        gate, up = _gate_and_up(p, n, m, column)
        gate *= times
        z = gate * tl.sigmoid(gate) * (up * times)
        square += z * z
        z *= tl.load(gain + column, mask=column < m, other=0.0)
        largest = tl.maximum(largest, tl.abs(z))
        y += (z,)  # type: ignore[assignment]
    root = tl.rsqrt(tl.sum(square) / m + eps)
    factor = 127.0 / tl.maximum(tl.max(largest) * root, TINY)
    for piece in tl.static_range(PIECES):
        column = piece * BLOCK + tl.arange(0, BLOCK)
        put_codes(codes + n * m + column, y[piece] * (root * factor), column < m)
    tl.store(factors + n, factor)


@triton.jit
def _swish_codes_backward(  # type: ignore[no-untyped-def]
    p,
    p_factors,
    p_scale,
    gain,
    factors,
    scale,
    dcodes,
    codes,
    dp,
    sums,
    rows,
    m,
    eps,
    BLOCK: tl.constexpr,
    PIECES: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    weight_scale, gate_scale = tl.load(scale), tl.load(p_scale)
    gains = ()
    sum_gain = ()
    for piece in tl.static_range(PIECES):
        column = piece * BLOCK + tl.arange(0, BLOCK)
        gains += (tl.load(gain + column, mask=column < m, other=0.0),)  # type: ignore[assignment]
        sum_gain += (tl.zeros((BLOCK,), tl.float32),)  # type: ignore[assignment]
    for row in tl.range(program, rows, tl.num_programs(0), num_stages=STAGES):
        n = tl.cast(row, tl.int64)
        p_factor = tl.load(p_factors + n)
        factor = tl.load(factors + n)
        times = gate_scale / p_factor
        gates, ups, dys = (), (), ()
        square = tl.zeros((BLOCK,), tl.float32)
        along = tl.zeros((BLOCK,), tl.float32)
        for piece in tl.static_range(PIECES):
            column = piece * BLOCK + tl.arange(0, BLOCK)
            gate, up = _gate_and_up(p, n, m, column)
            gate *= times
            up *= times
            dy = tl.load(dcodes + n * m + column, mask=column < m, other=0.0).to(tl.float32)
            z = gate * tl.sigmoid(gate) * up
            square += z * z
            along += dy * gains[piece] * z
            gates += (gate,)  # type: ignore[assignment]
            ups += (up,)  # type: ignore[assignment]
            dys += (dy,)  # type: ignore[assignment]
        square, along = tl.reduce((square, along), 0, two_sums)
        root = tl.rsqrt(square / m + eps)
        to_y = weight_scale * factor * root
        by_t, by_z = to_y / p_factor, root * root * to_y * along / m / p_factor
        totals = ()
        for piece in tl.static_range(PIECES):
            column = piece * BLOCK + tl.arange(0, BLOCK)
            swish, slope = _swish_and_slope(gates[piece])
            up = ups[piece]
            z = swish * up
            put_codes(codes + n * m + column, z * gains[piece] * (root * factor), column < m)
            totals += (sum_gain[piece] + dys[piece] * z * to_y,)  # type: ignore[assignment]
            dz = dys[piece] * gains[piece] * by_t - z * by_z
            at = dp + n * 2 * m + column
            tl.store(at, (dz * up * slope).to(dp.dtype.element_ty), mask=column < m)
            tl.store(at + m, (dz * swish).to(dp.dtype.element_ty), mask=column < m)
        sum_gain = totals
    for piece in tl.static_range(PIECES):
        column = piece * BLOCK + tl.arange(0, BLOCK)
        tl.store(sums + program * m + column, sum_gain[piece], mask=column < m)


def gated_codes(
    g: Product, states: Tensor, norm: Tensor, norm_eps: float, gain: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.gated_codes`` on a GPU."""
    (rows, d), device = states.shape, states.device
    codes, factors = torch.empty(rows, d, dtype=dtype, device=device), torch.empty(rows, device=device)
    programs, settings = loop_of(rows, block_of(d), 16)
    _gated_codes[(programs,)](*g, states, norm, gain, codes, factors, rows, d, norm_eps, eps, **settings)
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute ``plain.gated_codes_backward``, and write the results over ``dcodes`` and over the sums of g."""
    rows, d = states.shape
    programs, settings = loop_of(rows, block_of(d))
    dstates, parts = torch.empty_like(states), states.new_empty(programs, 2 * d)
    tensors = (*g, states, norm, gain, factor, scale, dcodes, dcodes, g[0], dstates, parts)
    _gated_codes_backward[(programs,)](*tensors, rows, d, norm_eps, eps, **settings)
    dgain, dnorm = column_sums(parts).view(2, d)
    return dcodes, g[0], dstates, dgain, dnorm


def swish_codes(p: Product, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute ``plain.swish_codes`` on a GPU."""
    rows, m, device = len(p[0]), len(gain), gain.device
    codes, factors = torch.empty(rows, m, dtype=dtype, device=device), torch.empty(rows, device=device)
    _swish_codes[(rows,)](*p, gain, codes, factors, m, eps, **pieces_of(m))
    return codes, factors


def swish_codes_backward(
    p: Product, gain: Tensor, eps: float, factor: Tensor, scale: Tensor, dcodes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``plain.swish_codes_backward``, and write the results over ``dcodes`` and over the sums of p."""
    rows, m = len(p[0]), len(gain)
    programs, settings = loop_of(rows, pieces_of(m))
    parts = gain.new_empty(programs, m)
    tensors = (*p, gain, factor, scale, dcodes, dcodes, p[0], parts)
    _swish_codes_backward[(programs,)](*tensors, rows, m, eps, **settings)
    return dcodes, p[0], column_sums(parts)
