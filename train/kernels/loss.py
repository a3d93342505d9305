"""Computes the cross-entropy of one chunk of logits in a Triton kernel. A program reads one row twice.

Formulas and names: ``plain.py``. The second reading finds the row in the cache. The gradient, in half as many bytes, is
written over the part of the row that was read before.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _cross_entropy(  # type: ignore[no-untyped-def]
    sums, factors, scale, targets, losses, d, stride, vocab, weight, BLOCK: tl.constexpr
):
    n = tl.program_id(0).to(tl.int64)
    factor = tl.load(factors + n)
    times = tl.load(scale) / factor
    token = tl.arange(0, BLOCK)
    # Each element of the block has its own largest value and its own total, which are reduced only at the end.
    largest = tl.full((BLOCK,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, vocab, BLOCK):
        inside = begin + token < vocab
        x = tl.load(sums + n * vocab + begin + token, mask=inside, other=-float("inf")) * times
        now = tl.maximum(largest, x)
        total = tl.where(now == -float("inf"), 0.0, total * tl.exp(largest - now) + tl.exp(x - now))
        largest = now
    top = tl.max(largest)
    total = tl.sum(tl.where(largest == -float("inf"), 0.0, total * tl.exp(largest - top)))
    target = tl.load(targets + n)
    tl.store(losses + n, tl.log(total) + top - tl.load(sums + n * vocab + target) * times)
    for begin in range(0, vocab, BLOCK):
        inside = begin + token < vocab
        x = tl.load(sums + n * vocab + begin + token, mask=inside, other=-float("inf")) * times
        share = tl.exp(x - top) / total - tl.where(begin + token == target, 1.0, 0.0)
        tl.debug_barrier()  # the next line may overwrite this block, so all threads must have read it
        tl.store(d + n * stride + begin + token, (share * (weight / factor)).to(d.dtype.element_ty), mask=inside)


def cross_entropy(
    sums: Tensor, factor: Tensor, scale: Tensor, targets: Tensor, weight: float, narrow: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute ``plain.cross_entropy``, and write the gradient over the sums."""
    rows, vocab = sums.shape
    losses, d = torch.empty_like(factor), sums.view(narrow)[:, :vocab]
    block, stride = min(4096, triton.next_power_of_2(vocab)), d.stride(0)
    _cross_entropy[(rows,)](sums, factor, scale, targets, losses, d, stride, vocab, weight, BLOCK=block, num_warps=8)
    return losses, d
