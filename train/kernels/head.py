"""Computes the head and its loss in chunks of rows, so that only the logits of one chunk are in memory.

    h ─► norm, codes ─► for each chunk: logits = codes @ trits^T ─► losses and their gradient ─► dcodes, dW += ...

The gradient is computed in forward, where the chunk's logits exist; backward multiplies it by the gradient of the loss.
The cost is three products. The memory holds the logits of one chunk, dW, and 2 d bytes for each token: first its codes,
then their gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lutern.train.kernels.layer import forms, narrow

CHUNK_LOGITS = 3 << 24
"""Number of logits of a chunk, 192 MiB of float32. The rows of a chunk then fill the tiles of every product."""


def head_loss(h: Tensor, norm: Tensor, eps: float, head: Any, bit_eps: float, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of h [B, T, d] for targets [B, T]. ``head`` is a BitLinear, and ``norm`` is
    a gain [d]."""
    loss: Tensor = _HeadLoss.apply(
        h.reshape(-1, h.shape[-1]), norm, eps, head.weight, head.norm.weight, bit_eps, targets.flatten()
    )
    return loss


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, h: Tensor, norm: Tensor, eps: float, weight: Tensor, gain: Tensor, bit_eps: float, targets: Tensor
    ) -> Tensor:
        k, thin, wide, count = forms(h), narrow(h), h.dtype, len(h)
        learns = any(ctx.needs_input_grad)
        scales = k.scales_of([weight])
        trits = k.ternarise([weight], scales, thin)[0][0]
        codes, factor = k.norm_codes(h, norm, eps, gain[None], bit_eps, thin)
        codes, factor = codes[0], factor[0]
        rows = max(128, CHUNK_LOGITS // len(weight) // 128 * 128)
        losses = torch.empty(count, dtype=wide, device=h.device)
        dweight: Tensor | None = None
        for begin in range(0, count, rows):
            part = slice(begin, min(begin + rows, count))
            sums = k.product(codes[part], trits, wide)
            losses[part], d = k.cross_entropy(sums, factor[part], scales[0], targets[part], 1 / count, thin)
            del sums
            if learns:
                dweight = k.weight_gradient(d, codes[part], wide, dweight)
                torch.mm(d, trits, out=codes[part])  # replaces the codes by their gradient
            del d  # frees the memory for the next chunk
        ctx.eps, ctx.bit_eps = eps, bit_eps
        ctx.save_for_backward(h, norm, gain, scales, factor, codes, dweight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        h, norm, gain, scales, factor, dcodes, dweight = ctx.saved_tensors
        _, dh, dgain, dnorm, _ = forms(h).norm_codes_backward(
            h, norm, ctx.eps, gain[None], ctx.bit_eps, factor[None], scales * dloss, dcodes[None], None
        )
        # The multiplication is in place, so that PyTorch refuses a second backward, whose result would be wrong.
        return dh, dnorm, None, dweight.mul_(dloss), dgain[0], None, None
