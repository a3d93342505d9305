"""Computes the recurrence of the MLGRU with its gates in Triton kernels.

``plain.py`` has the formulas and explains the names. The sequence is divided into segments of tokens. A program scans
one segment of a stream, for some channels:

    pass 1: scan each segment from state zero ─► its decay and its last state
    carry:  combine all previous segments ─► the state at the start of each segment
    pass 2: scan each segment again from this state, and write the states

Segments run in parallel, so a few streams fill a GPU too. Backward scans in the same way from the last token to the
first. Gates are computed where they are used, from the sums of i and f. A thread loads several tokens at a time. For
each token and channel, i and f are read twice (8 bytes) and the state is written (4 bytes). Pass 2 alone computes the
states again.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import Product
from lutern.train.kernels.rows import column_sums
from lutern.train.recurrence_kernel import combine

SEGMENT = 32  # steps of a segment, a multiple of 4
TILE = {"BLOCK": 256, "num_warps": 2}  # channels of a program, four for each thread
CARRY = {"BLOCK": 32, "SEGMENTS": 64, "num_warps": 4}


@triton.jit
def _value(sums, factors, scale, n, channel, channels, exists):  # type: ignore[no-untyped-def]
    times = scale / tl.load(factors + n, mask=exists, other=1.0)
    return tl.load(sums + n * channels + channel, mask=exists & (channel < channels), other=0.0).to(tl.float32) * times


@triton.jit
def _sigmoids(f, candidate):  # type: ignore[no-untyped-def]
    """Return sigmoid(f), 1 - sigmoid(f) and sigmoid(candidate), with one division. Arguments below -40 are taken as
    -40."""
    below = tl.exp(-tl.maximum(f, -40.0))
    other = tl.exp(-tl.maximum(candidate, -40.0)) + 1.0
    share = 1.0 / ((1.0 + below) * other)
    opened = other * share
    return opened, below * opened, (1.0 + below) * share


@triton.jit
def _carry(  # type: ignore[no-untyped-def]
    decays, ends, start, carried, channels, segments, ZERO: tl.constexpr, SEGMENTS: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the state at the start of each segment."""
    stream = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    segment = tl.arange(0, SEGMENTS)[:, None]
    inside = channel < channels
    state = tl.zeros((1, BLOCK), tl.float32)
    if not ZERO:
        state = tl.load(start + stream * channels + channel, mask=inside, other=0.0)
    tl.store(carried + stream * segments * channels + channel, state, mask=inside)
    for begin in range(0, segments - 1, SEGMENTS):
        at = (stream * segments + begin + segment) * channels + channel
        exists = inside & (begin + segment < segments - 1)
        decay = tl.load(decays + at, mask=exists, other=1.0)
        end = tl.load(ends + at, mask=exists, other=0.0)
        decay, end = tl.associative_scan((decay, end), 0, combine)
        after = decay * state + end
        tl.store(carried + at + channels, after, mask=exists)
        state = tl.sum(tl.where(segment == SEGMENTS - 1, after, 0.0), axis=0, keep_dims=True)


@triton.jit
def _step(  # type: ignore[no-untyped-def]
    i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, t, length, channel, channels
):
    """Forget gate and addend at time t; 1 and 0 after the end."""
    n = stream * length + t
    f = _value(f_sums, f_factors, f_scale, n, channel, channels, t < length)
    candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, t < length)
    opened, closed, s = _sigmoids(f, candidate)
    forget = bound + (1.0 - bound) * opened
    x = (1.0 - bound) * closed * (candidate * s)
    return tl.where(t < length, forget, 1.0), tl.where(t < length, x, 0.0)


@triton.jit
def _put(states, value, stream, t, length, channel, channels):  # type: ignore[no-untyped-def]
    tl.store(states + (stream * length + t) * channels + channel, value, mask=(channel < channels) & (t < length))


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    i_sums,
    i_factors,
    i_scale_at,
    f_sums,
    f_factors,
    f_scale_at,
    bounds,
    decays,
    ends,
    carried,
    states,
    length,
    channels,
    segments,
    FINAL: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    stream = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    bound = tl.load(bounds + channel, mask=inside, other=0.0)
    i_scale = tl.load(i_scale_at)
    f_scale = tl.load(f_scale_at)
    decay = tl.full((BLOCK,), 1.0, tl.float32)
    state = tl.zeros((BLOCK,), tl.float32)
    at = (stream * segments + segment) * channels + channel
    if FINAL:
        state = tl.load(carried + at, mask=inside, other=0.0)
    for begin in range(segment * SEGMENT, segment * SEGMENT + SEGMENT, 4):
        f0, x0 = _step(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, begin, length, channel, channels
        )
        f1, x1 = _step(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, begin + 1, length, channel, channels
        )
        f2, x2 = _step(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, begin + 2, length, channel, channels
        )
        f3, x3 = _step(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, begin + 3, length, channel, channels
        )
        state0 = f0 * state + x0
        state1 = f1 * state0 + x1
        state2 = f2 * state1 + x2
        state = f3 * state2 + x3
        if FINAL:
            _put(states, state0, stream, begin, length, channel, channels)
            _put(states, state1, stream, begin + 1, length, channel, channels)
            _put(states, state2, stream, begin + 2, length, channel, channels)
            _put(states, state, stream, begin + 3, length, channel, channels)
        else:
            decay *= f0 * f1 * f2 * f3
    if not FINAL:
        tl.store(decays + at, decay, mask=inside)
        tl.store(ends + at, state, mask=inside)


@triton.jit
def _load_back(  # type: ignore[no-untyped-def]
    i_sums,
    i_factors,
    i_scale,
    f_sums,
    f_factors,
    f_scale,
    states,
    dstates,
    stream,
    t,
    length,
    channel,
    channels,
    FINAL: tl.constexpr,
):
    """Return sigmoids of f and of the candidate, the candidate, the state before and its gradient at time t, for the
    walk backwards."""
    inside = (channel < channels) & (t >= 0)
    n = stream * length + t
    f = _value(f_sums, f_factors, f_scale, n, channel, channels, t >= 0)
    d = tl.load(dstates + n * channels + channel, mask=inside, other=0.0)
    candidate = f
    before = f
    if not FINAL:
        opened = tl.sigmoid(f)
        s = f
    if FINAL:
        candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, t >= 0)
        opened, _, s = _sigmoids(f, candidate)
        before = tl.load(states + (n - 1) * channels + channel, mask=inside & (t > 0), other=0.0)
    return opened, s, candidate, before, d


@triton.jit
def _put_back(  # type: ignore[no-untyped-def]
    di, df, i_factors, f_factors, g, opened, s, candidate, before, first, bound, stream, t, length, channel, channels
):
    """Write the scaled gradients of i and f for token t. Return the token's contribution to the bound's gradient."""
    inside = (channel < channels) & (t >= 0)
    n = stream * length + t
    dforget = g * (tl.where(t == 0, first, before) - candidate * s)
    dvalue = dforget * (1.0 - bound) * opened * (1.0 - opened)
    dcandidate = g * (1.0 - bound) * (1.0 - opened) * s * (1.0 + candidate * (1.0 - s))
    by_f = 1.0 / tl.load(f_factors + n, mask=t >= 0, other=1.0)
    by_i = 1.0 / tl.load(i_factors + n, mask=t >= 0, other=1.0)
    tl.store(df + n * channels + channel, (dvalue * by_f).to(df.dtype.element_ty), mask=inside)
    tl.store(di + n * channels + channel, (dcandidate * by_i).to(di.dtype.element_ty), mask=inside)
    return tl.where(inside, dforget * (1.0 - opened), 0.0)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    i_sums,
    i_factors,
    i_scale_at,
    f_sums,
    f_factors,
    f_scale_at,
    bounds,
    start,
    decays,
    ends,
    carried,
    states,
    dstates,
    di,
    df,
    dbounds,
    length,
    channels,
    segments,
    FINAL: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    stream = (tl.program_id(0) // segments).to(tl.int64)
    segment = tl.program_id(0) % segments
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = channel < channels
    bound = tl.load(bounds + channel, mask=inside, other=0.0)
    i_scale = tl.load(i_scale_at)
    f_scale = tl.load(f_scale_at)
    last = length - 1 - segment * SEGMENT
    at = (stream * segments + segment) * channels + channel
    decay = tl.full((BLOCK,), 1.0, tl.float32)
    back = tl.zeros((BLOCK,), tl.float32)  # what the later times leave: forget gate times gradient of the state
    first = tl.zeros((BLOCK,), tl.float32)
    dbound = tl.zeros((BLOCK,), tl.float32)
    if FINAL:
        back = tl.load(carried + at, mask=inside, other=0.0)
        first = tl.load(start + stream * channels + channel, mask=inside, other=0.0)
    for begin in range(0, SEGMENT, 2):
        t = last - begin
        opened0, s0, candidate0, before0, d0 = _load_back(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, states, dstates, stream, t, length, channel,
            channels, FINAL
        )  # fmt: skip
        opened1, s1, candidate1, before1, d1 = _load_back(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, states, dstates, stream, t - 1, length, channel,
            channels, FINAL
        )  # fmt: skip
        forget0 = bound + (1.0 - bound) * opened0
        forget1 = bound + (1.0 - bound) * opened1
        g0 = back + d0
        g1 = forget0 * g0 + d1
        back = forget1 * g1
        if FINAL:
            dbound += _put_back(
                di, df, i_factors, f_factors, g0, opened0, s0, candidate0, before0, first, bound, stream, t, length,
                channel, channels
            )  # fmt: skip
            dbound += _put_back(
                di, df, i_factors, f_factors, g1, opened1, s1, candidate1, before1, first, bound, stream, t - 1, length,
                channel, channels
            )  # fmt: skip
        else:
            decay *= forget0 * forget1
    if FINAL:
        tl.store(dbounds + at, dbound, mask=inside)
    else:
        tl.store(decays + at, decay, mask=inside)
        tl.store(ends + at, back, mask=inside)


def gated_scan(
    i: Product, f: Product, bound: Tensor, start: Tensor, carried: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.gated_scan`` on a GPU. ``carried`` is the state at the start of each segment."""
    streams, d = start.shape
    length = len(i[0]) // streams
    segments = triton.cdiv(length, SEGMENT)
    grid, numbers = (streams * segments, triton.cdiv(d, TILE["BLOCK"])), (length, d, segments)
    states = start.new_empty(streams, length, d)
    if carried is None and segments == 1:
        carried = start.unsqueeze(1)
    if carried is None:
        pair, carried = start.new_empty(2, streams, segments, d), start.new_empty(streams, segments, d)
        _forward[grid](*i, *f, bound, *pair, carried, states, *numbers, FINAL=False, SEGMENT=SEGMENT, **TILE)
        _carry[_carry_grid(start)](*pair, start, carried, d, segments, ZERO=False, **CARRY)
    _forward[grid](*i, *f, bound, carried, carried, carried, states, *numbers, FINAL=True, SEGMENT=SEGMENT, **TILE)
    return states, carried


def gated_scan_backward(
    i: Product, f: Product, bound: Tensor, start: Tensor, states: Tensor, dstates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``plain.gated_scan_backward``, and write the results over the sums of i and f."""
    streams, length, d = states.shape
    segments = triton.cdiv(length, SEGMENT)
    pair, carried = start.new_empty(2, streams, segments, d), start.new_empty(streams, segments, d)
    dbounds = start.new_empty(streams * segments, d)
    tensors = (*i, *f, bound, start, *pair, carried, states, dstates, i[0], f[0], dbounds)
    grid, numbers = (streams * segments, triton.cdiv(d, TILE["BLOCK"])), (length, d, segments)
    if segments > 1:
        _backward[grid](*tensors, *numbers, FINAL=False, SEGMENT=SEGMENT, **TILE)
    _carry[_carry_grid(start)](*pair, start, carried, d, segments, ZERO=True, **CARRY)
    _backward[grid](*tensors, *numbers, FINAL=True, SEGMENT=SEGMENT, **TILE)
    return i[0], f[0], column_sums(dbounds)


def _carry_grid(start: Tensor) -> tuple[int, int]:
    return (start.shape[0], triton.cdiv(start.shape[1], CARRY["BLOCK"]))
