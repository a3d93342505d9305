"""Computes the recurrence of the MLGRU for a whole sequence (arXiv 2406.02528, section 3.3.1).

    forward:    S[t] = f[t] S[t-1] + x[t],  with S[-1] = start

    backward:   dx = G,  df[t] = G[t] S[t-1],  dstart = f[0] G[0],  with G[t] = dS[t] + f[t+1] G[t+1]

All arrays are [B, T, d] (``start`` is [B, d]), for B streams of T tokens and d channels. Streams and channels are
independent, so forward and backward need one scan over t each. On a GPU, a kernel (recurrence_kernel.py) scans chunks
of t in parallel. On a CPU, a plain loop is fast enough. A scan needs 2 operations per element, and its speed is limited
by the memory.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _scan(f: Tensor, x: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """Return S of the formula at the top of this file. If ``reverse`` is set, return G: scan from the last t to the
    first, and read f of the next t."""
    if x.is_cuda:
        from lutern.train.recurrence_kernel import scan_on_gpu

        return scan_on_gpu(f, x, start, reverse)
    out = torch.empty_like(x)
    length = x.shape[1]
    carried = start
    for position in range(length):
        t = length - 1 - position if reverse else position
        if not reverse:
            carried = f[:, t] * carried + x[:, t]
        elif position > 0:
            carried = f[:, t + 1] * carried + x[:, t]
        else:
            carried = x[:, t]
        out[:, t] = carried
    return out


@torch.library.custom_op("lutern::recurrence", mutates_args=())
def recurrence(f: Tensor, x: Tensor, start: Tensor) -> Tensor:
    """Return all states S [B, T, d], from f and x [B, T, d] and start [B, d]. All tensors are float32."""
    return _scan(f.contiguous(), x.contiguous(), start.contiguous(), reverse=False)


@torch.library.custom_op("lutern::recurrence_gradient", mutates_args=())
def recurrence_gradient(f: Tensor, gradient: Tensor) -> Tensor:
    """Return G [B, T, d] of the formula at the top of this file."""
    return _scan(f.contiguous(), gradient.contiguous(), torch.zeros_like(f[:, 0]), reverse=True)


@recurrence.register_fake
def _(f: Tensor, x: Tensor, start: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@recurrence_gradient.register_fake
def _(f: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(gradient, memory_format=torch.contiguous_format)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    f, _, start = inputs
    ctx.save_for_backward(f, start, output)


def _backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    f, start, states = ctx.saved_tensors  # type: ignore[attr-defined]
    g = recurrence_gradient(f, gradient)
    before = torch.cat([start.unsqueeze(1), states[:, :-1]], dim=1)
    return g * before, g, f[:, 0] * g[:, 0]


recurrence.register_autograd(_backward, setup_context=_keep)
