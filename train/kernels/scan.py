"""Computes the recurrence of the MLGRU with its gates in Triton kernels.

``plain.py`` has the formulas and explains the names. The sequence is divided into segments of tokens. A program scans
one segment of a stream, for some channels:

    launch 1: scan each segment from state zero ─► the decay and the last state of each segment
    launch 2: combine all earlier segments ─► the first state of the segment ─► scan again, and write the states

In this way, even a few streams use the whole GPU. Backward does the same from the last token to the first. Each launch
computes the gates from the sums of i and f. A thread loads several tokens together. For each element, i and f are read
twice (8 bytes), and the state is written (4 bytes).
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import Product
from lutern.train.kernels.rows import column_sums

SEGMENT = 32  # number of tokens in a segment, a multiple of 4
TILE = {"BLOCK": 128, "num_warps": 2}  # number of channels of a program, two for each thread


@triton.jit
def _value(sums, factors, scale, n, channel, channels, inside):  # type: ignore[no-untyped-def]
    factor = tl.load(factors + n + 0 * channel, mask=inside, other=1.0)
    return tl.load(sums + n * channels + channel, mask=inside, other=0.0).to(tl.float32) * (scale / factor)


@triton.jit
def _pair(decays, ends, at, inside):  # type: ignore[no-untyped-def]
    return tl.load(decays + at, mask=inside, other=1.0), tl.load(ends + at, mask=inside, other=0.0)


@triton.jit
def _walked(carried, decays, ends, first, segment, channel, channels):  # type: ignore[no-untyped-def]
    """Return the state after all earlier segments. ``first`` is the first segment of the stream."""
    for before in range(0, segment, 4):
        at = (first + before) * channels + channel
        inside = channel < channels
        decay0, end0 = _pair(decays, ends, at, inside)
        decay1, end1 = _pair(decays, ends, at + channels, inside & (before + 1 < segment))
        decay2, end2 = _pair(decays, ends, at + 2 * channels, inside & (before + 2 < segment))
        decay3, end3 = _pair(decays, ends, at + 3 * channels, inside & (before + 3 < segment))
        carried = decay1 * (decay0 * carried + end0) + end1
        carried = decay3 * (decay2 * carried + end2) + end3
    return carried


@triton.jit
def _step(  # type: ignore[no-untyped-def]
    i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, bound, stream, t, length, channel, channels
):
    """Return the forget gate and the addend of token t. After the end, return 1 and 0."""
    inside = (channel < channels) & (t < length)
    n = stream * length + t
    forget = bound + (1.0 - bound) * tl.sigmoid(_value(f_sums, f_factors, f_scale, n, channel, channels, inside))
    candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, inside)
    x = (1.0 - forget) * candidate * tl.sigmoid(candidate)
    return tl.where(inside, forget, 1.0), tl.where(inside, x, 0.0)


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
    start,
    decays,
    ends,
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
    if FINAL:
        state = tl.load(start + stream * channels + channel, mask=inside, other=0.0)
        state = _walked(state, decays, ends, stream * segments, segment, channel, channels)
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
        at = (stream * segments + segment) * channels + channel
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
    """Return the values of token t for backward: the sigmoid of f, the candidate, the previous state, and the gradient
    of the state."""
    inside = (channel < channels) & (t >= 0)
    n = stream * length + t
    opened = tl.sigmoid(_value(f_sums, f_factors, f_scale, n, channel, channels, inside))
    d = tl.load(dstates + n * channels + channel, mask=inside, other=0.0)
    candidate = opened
    before = opened
    if FINAL:
        candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, inside)
        before = tl.load(states + (n - 1) * channels + channel, mask=inside & (t > 0), other=0.0)
    return opened, candidate, before, d


@triton.jit
def _put_back(  # type: ignore[no-untyped-def]
    di, df, i_factors, f_factors, g, opened, candidate, before, first, bound, stream, t, length, channel, channels
):
    """Write the scaled gradients of i and f for token t. Return the token's contribution to the bound's gradient."""
    inside = (channel < channels) & (t >= 0)
    n = stream * length + t
    s = tl.sigmoid(candidate)
    dforget = g * (tl.where(t == 0, first, before) - candidate * s)
    dvalue = dforget * (1.0 - bound) * opened * (1.0 - opened)
    dcandidate = g * (1.0 - bound) * (1.0 - opened) * s * (1.0 + candidate * (1.0 - s))
    f_factor = tl.load(f_factors + n + 0 * channel, mask=inside, other=1.0)
    i_factor = tl.load(i_factors + n + 0 * channel, mask=inside, other=1.0)
    tl.store(df + n * channels + channel, (dvalue / f_factor).to(df.dtype.element_ty), mask=inside)
    tl.store(di + n * channels + channel, (dcandidate / i_factor).to(di.dtype.element_ty), mask=inside)
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
    n = stream * length + last + 1
    later = inside & (segment > 0)
    after = bound + (1.0 - bound) * tl.sigmoid(_value(f_sums, f_factors, f_scale, n, channel, channels, later))
    after = tl.where(later, after, 1.0)  # g is zero after the end
    decay = tl.full((BLOCK,), 1.0, tl.float32)
    g = tl.zeros((BLOCK,), tl.float32)
    first = tl.zeros((BLOCK,), tl.float32)
    dbound = tl.zeros((BLOCK,), tl.float32)
    if FINAL:
        g = _walked(g, decays, ends, stream * segments, segment, channel, channels)
        first = tl.load(start + stream * channels + channel, mask=inside, other=0.0)
    for begin in range(0, SEGMENT, 2):
        t = last - begin
        opened0, candidate0, before0, d0 = _load_back(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, states, dstates, stream, t, length, channel,
            channels, FINAL
        )  # fmt: skip
        opened1, candidate1, before1, d1 = _load_back(
            i_sums, i_factors, i_scale, f_sums, f_factors, f_scale, states, dstates, stream, t - 1, length, channel,
            channels, FINAL
        )  # fmt: skip
        forget0 = bound + (1.0 - bound) * opened0
        g0 = after * g + d0
        g = forget0 * g0 + d1
        if FINAL:
            dbound += _put_back(
                di, df, i_factors, f_factors, g0, opened0, candidate0, before0, first, bound, stream, t, length,
                channel, channels
            )  # fmt: skip
            dbound += _put_back(
                di, df, i_factors, f_factors, g, opened1, candidate1, before1, first, bound, stream, t - 1, length,
                channel, channels
            )  # fmt: skip
        else:
            decay *= after * forget0
        after = bound + (1.0 - bound) * opened1
    at = (stream * segments + segment) * channels + channel
    if FINAL:
        tl.store(dbounds + at, dbound, mask=inside)
    else:
        tl.store(decays + at, decay, mask=inside)
        tl.store(ends + at, g, mask=inside)


def gated_scan(i: Product, f: Product, bound: Tensor, start: Tensor, states: Tensor | None = None) -> Tensor:
    """Compute ``plain.gated_scan`` on a GPU. For a single token, ``states`` may be ``start`` itself."""
    streams, d = start.shape
    length = len(i[0]) // streams
    segments = triton.cdiv(length, SEGMENT)
    pair = start.new_empty(2, streams, segments, d)
    states = start.new_empty(streams, length, d) if states is None else states
    grid = (streams * segments, triton.cdiv(d, TILE["BLOCK"]))
    for final in (False, True)[segments == 1 :]:
        _forward[grid](*i, *f, bound, start, *pair, states, length, d, segments, FINAL=final, SEGMENT=SEGMENT, **TILE)
    return states


def gated_scan_backward(
    i: Product, f: Product, bound: Tensor, start: Tensor, states: Tensor, dstates: Tensor, di: Tensor, df: Tensor
) -> Tensor:
    """Compute ``plain.gated_scan_backward`` on a GPU."""
    streams, length, d = states.shape
    segments = triton.cdiv(length, SEGMENT)
    pair, dbounds = start.new_empty(2, streams, segments, d), start.new_empty(streams * segments, d)
    tensors = (*i, *f, bound, start, *pair, states, dstates, di, df, dbounds)
    grid = (streams * segments, triton.cdiv(d, TILE["BLOCK"]))
    for final in (False, True)[segments == 1 :]:
        _backward[grid](*tensors, length, d, segments, FINAL=final, SEGMENT=SEGMENT, **TILE)
    return column_sums(dbounds)
