"""Computes the scan of recurrence.py in one Triton kernel. A program processes one stream and a block of channels.

The sequence is divided into chunks of tokens. Inside a chunk, an associative scan combines the pairs (f, x). From chunk
to chunk, one row of states is passed on. In reverse, this kernel scans from the last token to the first, and reads f of
the next token.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 64  # number of tokens in one associative scan
BLOCK = 32  # number of channels of a program, so that a row is one memory transaction of 128 bytes


@triton.jit
def combine(f1, x1, f2, x2):  # type: ignore[no-untyped-def]
    """Combine two steps S <- f S + x into one."""
    return f1 * f2, f2 * x1 + x2


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    f_ptr, x_ptr, start_ptr, out_ptr, length, channels, REVERSE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr
):
    stream = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    row = tl.arange(0, CHUNK)[:, None]
    carried = tl.load(start_ptr + stream * channels + channel, mask=channel < channels, other=0.0)
    for begin in range(0, length, CHUNK):
        position = begin + row
        inside = (position < length) & (channel < channels)
        if REVERSE:
            t = length - 1 - position
            f_inside = inside & (t + 1 < length)
            f_at = (stream * length + t + 1) * channels + channel
        else:
            t = position
            f_inside = inside
            f_at = (stream * length + t) * channels + channel
        at = (stream * length + t) * channels + channel
        # After the end of the sequence, f is 1 and x is 0, so that the last row contains the last state.
        f = tl.load(f_ptr + f_at, mask=f_inside, other=1.0)
        x = tl.load(x_ptr + at, mask=inside, other=0.0)
        decay, states = tl.associative_scan((f, x), 0, combine)
        states = decay * carried + states
        tl.store(out_ptr + at, states, mask=inside)
        carried = tl.sum(tl.where(row == CHUNK - 1, states, 0.0), axis=0, keep_dims=True)


def scan_on_gpu(f: Tensor, x: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """Return states [B, T, d] of the recurrence, from contiguous float32: f and x [B, T, d], and start [B, d] (B:
    streams, T: tokens, d: channels). ``reverse`` is as in recurrence.py."""
    streams, length, channels = x.shape
    out = torch.empty_like(x)
    grid = (streams, triton.cdiv(channels, BLOCK))
    _kernel[grid](f, x, start, out, length, channels, REVERSE=reverse, CHUNK=CHUNK, BLOCK=BLOCK, num_warps=4)
    return out
