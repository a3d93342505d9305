"""The MLGRU's recurrence with its gates as Triton kernels.

Formulas and names: ``plain.py``.  Time is cut in segments, and a program takes one segment of some channels of a stream:

    pass 1: each segment scanned from zero ─► its decay and its last state
    pass 2: the segments before, walked ─► the state it starts from ─► scanned again, written

so that few streams fill a GPU, too.  Backward, the same walk from the last time to the first.  Gates are computed where
they are used, from the sums of i and f.  Cost: i and f read twice (8 bytes), the state written (4 bytes).
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from lutern.train.kernels.plain import Product

SEGMENT = 64  # times a scan combines at once
BLOCK = 64  # channels of a program: 128 bytes of a row of sums


@triton.jit
def _combine(f1, x1, f2, x2):  # type: ignore[no-untyped-def]
    return f1 * f2, f2 * x1 + x2


@triton.jit
def _value(sums, factors, scale, n, channel, channels, inside):  # type: ignore[no-untyped-def]
    factor = tl.load(factors + n, mask=inside, other=1.0)
    return tl.load(sums + n * channels + channel, mask=inside, other=0.0).to(tl.float32) * (tl.load(scale) / factor)


@triton.jit
def _walked(carried, decays, ends, stream, segment, segments, channel, channels):  # type: ignore[no-untyped-def]
    """The state after the segments before this one."""
    for before in range(segment):
        at = (stream * segments + before) * channels + channel
        decay = tl.load(decays + at, mask=channel < channels, other=0.0)
        carried = decay * carried + tl.load(ends + at, mask=channel < channels, other=0.0)
    return carried


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    i_sums,
    i_factors,
    i_scale,
    f_sums,
    f_factors,
    f_scale,
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
    row = tl.arange(0, SEGMENT)[:, None]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    t = segment * SEGMENT + row
    inside = (t < length) & (channel < channels)
    n = stream * length + t
    bound = tl.load(bounds + channel, mask=channel < channels, other=0.0)
    forget = bound + (1.0 - bound) * tl.sigmoid(_value(f_sums, f_factors, f_scale, n, channel, channels, inside))
    candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, inside)
    # Beyond the end f is 1 and x is 0, so that the last row still carries the state.
    x = tl.where(inside, (1.0 - forget) * candidate * tl.sigmoid(candidate), 0.0)
    decay, state = tl.associative_scan((tl.where(inside, forget, 1.0), x), 0, _combine)
    if FINAL:
        carried = tl.load(start + stream * channels + channel, mask=channel < channels, other=0.0)
        carried = _walked(carried, decays, ends, stream, segment, segments, channel, channels)
        tl.store(states + n * channels + channel, decay * carried + state, mask=inside)
    else:
        at = (stream * segments + segment) * channels + channel
        last = row == SEGMENT - 1
        tl.store(decays + at, tl.sum(tl.where(last, decay, 0.0), axis=0, keep_dims=True), mask=channel < channels)
        tl.store(ends + at, tl.sum(tl.where(last, state, 0.0), axis=0, keep_dims=True), mask=channel < channels)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    i_sums,
    i_factors,
    i_scale,
    f_sums,
    f_factors,
    f_scale,
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
    row = tl.arange(0, SEGMENT)[:, None]
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    t = length - 1 - segment * SEGMENT - row
    inside = (t >= 0) & (channel < channels)
    n = stream * length + t
    bound = tl.load(bounds + channel, mask=channel < channels, other=0.0)
    later = inside & (t + 1 < length)
    value = _value(f_sums, f_factors, f_scale, n + 1, channel, channels, later)
    after = tl.where(later, bound + (1.0 - bound) * tl.sigmoid(value), 1.0)
    x = tl.load(dstates + n * channels + channel, mask=inside, other=0.0)
    decay, g = tl.associative_scan((after, x), 0, _combine)
    at = (stream * segments + segment) * channels + channel
    if FINAL:
        carried = tl.zeros((1, BLOCK), tl.float32)
        g += decay * _walked(carried, decays, ends, stream, segment, segments, channel, channels)
        opened = tl.sigmoid(_value(f_sums, f_factors, f_scale, n, channel, channels, inside))
        candidate = _value(i_sums, i_factors, i_scale, n, channel, channels, inside)
        s = tl.sigmoid(candidate)
        before = tl.load(states + (n - 1) * channels + channel, mask=inside & (t > 0), other=0.0)
        before += tl.load(start + stream * channels + channel + 0 * t, mask=inside & (t == 0), other=0.0)
        dforget = g * (before - candidate * s)
        dvalue = dforget * (1.0 - bound) * opened * (1.0 - opened)
        f_factor = tl.load(f_factors + n, mask=inside, other=1.0)
        tl.store(df + n * channels + channel, (dvalue / f_factor).to(df.dtype.element_ty), mask=inside)
        dcandidate = g * (1.0 - bound) * (1.0 - opened) * s * (1.0 + candidate * (1.0 - s))
        i_factor = tl.load(i_factors + n, mask=inside, other=1.0)
        tl.store(di + n * channels + channel, (dcandidate / i_factor).to(di.dtype.element_ty), mask=inside)
        part = tl.sum(tl.where(inside, dforget * (1.0 - opened), 0.0), axis=0, keep_dims=True)
        tl.store(dbounds + at, part, mask=channel < channels)
    else:
        last = row == SEGMENT - 1
        tl.store(decays + at, tl.sum(tl.where(last, decay, 0.0), axis=0, keep_dims=True), mask=channel < channels)
        tl.store(ends + at, tl.sum(tl.where(last, g, 0.0), axis=0, keep_dims=True), mask=channel < channels)


def gated_scan(i: Product, f: Product, bound: Tensor, start: Tensor) -> Tensor:
    """See ``plain.gated_scan``."""
    streams, d = start.shape
    length = len(i[0]) // streams
    segments = triton.cdiv(length, SEGMENT)
    states, pair = start.new_empty(streams, length, d), start.new_empty(2, streams, segments, d)
    grid = (streams * segments, triton.cdiv(d, BLOCK))
    for final in (False, True)[segments == 1 :]:
        _forward[grid](
            *i, *f, bound, start, *pair, states, length, d, segments, FINAL=final, SEGMENT=SEGMENT, BLOCK=BLOCK
        )
    return states


def gated_scan_backward(
    i: Product, f: Product, bound: Tensor, start: Tensor, states: Tensor, dstates: Tensor, di: Tensor, df: Tensor
) -> Tensor:
    """See ``plain.gated_scan_backward``."""
    streams, length, d = states.shape
    segments = triton.cdiv(length, SEGMENT)
    pair, dbounds = start.new_empty(2, streams, segments, d), start.new_empty(streams * segments, d)
    tensors = (*i, *f, bound, start, *pair, states, dstates, di, df, dbounds)
    grid = (streams * segments, triton.cdiv(d, BLOCK))
    for final in (False, True)[segments == 1 :]:
        _backward[grid](*tensors, length, d, segments, FINAL=final, SEGMENT=SEGMENT, BLOCK=BLOCK)
    return dbounds.sum(0)
