"""Computes every kernel of ``fast.py`` in plain PyTorch, with the same names, arguments and results, on any device.

These functions define what the kernels compute. They also run the fused layer if there is no GPU, and are the reference
of the tests in float64.

    BitLinear:         value = sums * (scale / factor),   sums = codes @ trits^T
                       scale: one for each matrix         factor: one for each row of codes
    scaled gradient:   d = dvalue / factor,               dW = d^T @ codes,   dcodes = d @ trits
    before the codes:  dy = dcodes * scale * factor,      codes = round(y * factor), whose rounding passes gradients

Backward forms compute codes again. On a GPU some write their results over the tensors that they are the last to read;
their docstrings say so.

The N rows are the T tokens of B streams. Narrow tensors (sums, codes, scaled gradients) are bfloat16 if the rest is
float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lutern.model_ref import float_model
from lutern.model_ref.ternarise import SMALLEST_SCALE

SMALLEST_ABSMAX = float(float_model.SMALLEST_ABSMAX)

Dropout = tuple[Tensor | None, int, float]  # seed [1] on the device, number of the mixer, share that is zeroed
Product = tuple[Tensor, Tensor, Tensor]  # sums [..., N, rows], factor [..., N] and scale [...] of a BitLinear
Added = tuple[Product, Dropout]  # the output of a mixer, which is added to the residual stream


def value_of(product: Product) -> Tensor:
    """Return the output of a BitLinear, in the type of its factors."""
    sums, factor, scale = product
    return sums.to(factor.dtype) * (scale / factor).unsqueeze(-1)


def rounded(x: Tensor) -> Tensor:
    """Round to integers in the range of int8. Halves are rounded away from zero."""
    return torch.copysign(torch.floor(x.abs() + 0.5), x).clamp(-128, 127)


def kept(shape: tuple[int, int], dropout: Dropout, like: Tensor) -> Tensor:
    """Return the factors of dropout, which are 0 or 1 / (1 - share)."""
    seed, use, share = dropout
    if seed is None or share == 0:
        return torch.ones((), dtype=like.dtype, device=like.device)
    generator = torch.Generator(like.device).manual_seed(2 * int(seed) + use)
    return (torch.rand(shape, generator=generator, device=like.device) >= share).to(like.dtype) / (1 - share)


def scales_of(weights: list[Tensor]) -> Tensor:
    """Return the scale of each matrix, which is its mean magnitude."""
    means = torch._foreach_mul(torch._foreach_norm(weights, 1), [1 / weight.numel() for weight in weights])
    return torch.stack(means).clamp(min=SMALLEST_SCALE)


def ternarise(weights: list[Tensor], scales: Tensor, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Return the trits of each matrix in ``dtype``, and the packed trits of all matrices, four per byte. In the packed
    trits, each matrix begins at a multiple of 16 trits."""
    trits = [(weight / scale).round().clamp(-1, 1) for weight, scale in zip(weights, scales, strict=True)]
    flat = torch.cat([F.pad(t.flatten(), (0, padded(t.numel()) - t.numel())) for t in trits])
    digits = (flat + 1).to(torch.uint8).view(-1, 4) << torch.arange(0, 8, 2, dtype=torch.uint8, device=flat.device)
    return [t.to(dtype) for t in trits], digits.sum(-1, dtype=torch.uint8)


def unpack(packed: Tensor, shapes: list[torch.Size], dtype: torch.dtype) -> list[Tensor]:
    """Unpack the trits of all matrices into ``dtype``."""
    digits = packed[:, None] >> torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device) & 3
    return matrices_of((digits.to(dtype) - 1).flatten(), shapes)


def padded(elements: int) -> int:
    """Return the number of elements for a matrix in a buffer of several matrices."""
    return -(-elements // 16) * 16


def matrices_of(flat: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    """Return the consecutive matrices in a buffer, as views."""
    out, begin = [], 0
    for shape in shapes:
        out.append(flat[begin : begin + shape.numel()].view(shape))
        begin += padded(shape.numel())
    return out


def product(codes: Tensor, trits: Tensor, dtype: torch.dtype) -> Tensor:
    """Return sums [..., N, rows] of codes [..., N, columns] and trits [..., rows, columns]. The exact sums are rounded
    once, to ``dtype``."""
    return (codes @ trits.transpose(-1, -2)).to(dtype)


def weight_gradient(d: Tensor, codes: Tensor, dtype: torch.dtype, onto: Tensor | None = None) -> Tensor:
    """Return dW [..., rows, columns] from scaled gradients [..., N, rows] and codes [..., N, columns]; it is added to
    ``onto`` in place."""
    dweight = (d.transpose(-1, -2) @ codes).to(dtype)
    return dweight if onto is None else onto.add_(dweight)


def _unit(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return x divided by its root mean square, and the reciprocal of the root mean square."""
    root = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x * root, root


def _unit_backward(d: Tensor, unit: Tensor, root: Tensor) -> Tensor:
    return root * (d - unit * (d * unit).mean(-1, keepdim=True))


def _quantised(y: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    factor = 127 / y.abs().amax(-1).clamp(min=SMALLEST_ABSMAX)
    return rounded(y * factor.unsqueeze(-1)).to(dtype), factor


def _before_codes(dcodes: Tensor, scale: Tensor, factor: Tensor) -> Tensor:
    return dcodes.to(factor.dtype) * (scale.unsqueeze(-1) * factor).unsqueeze(-1)


def add_products(h: Tensor, *added: Added) -> Tensor:
    """Return h [N, d] plus one or two products after dropout."""
    for mixed, dropout in added:
        h = h + value_of(mixed) * kept((h.shape[0], h.shape[1]), dropout, h)
    return h


def add_product_backward(dh: Tensor, factor: Tensor, dropout: Dropout, dtype: torch.dtype) -> Tensor:
    """Return the scaled gradient of the sums of a product that was added."""
    return (dh * kept((dh.shape[0], dh.shape[1]), dropout, dh) / factor.unsqueeze(-1)).to(dtype)


def norm_codes(
    h: Tensor,
    outer: Tensor,
    outer_eps: float,
    gains: Tensor,
    eps: float,
    dtype: torch.dtype,
    added: Added | None = None,
) -> tuple[Tensor, Tensor]:
    """Return codes [J, N, d] and factors [J, N] of h [N, d] (plus ``added``) after the norm with gain ``outer`` and J
    norms with ``gains``."""
    h = h if added is None else add_products(h, added)
    u, _ = _unit(_unit(h, outer_eps)[0] * outer, eps)
    return _quantised(u * gains[:, None], dtype)


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
    """Return the codes, which a GPU writes over ``dcodes``; dh plus the gradient of h; gradients of ``gains`` and
    ``outer``; the scaled gradient of the sums of ``added``, which a GPU writes over them. scale [J], factor [J, N]."""
    h = h if added is None else add_products(h, added)
    unit_outer, root_outer = _unit(h, outer_eps)
    u, root = _unit(unit_outer * outer, eps)
    y = u * gains[:, None]
    dy = _before_codes(dcodes, scale, factor)
    dgains = (dy * u).sum(1)
    du = _unit_backward((dy * gains[:, None]).sum(0), u, root)
    dx = _unit_backward(du * outer, unit_outer, root_outer)
    dx = dx if dh is None else dx + dh
    codes = rounded(y * factor.unsqueeze(-1)).to(dcodes.dtype)
    dsums = None if added is None else add_product_backward(dx, added[0][1], added[1], dcodes.dtype)
    return codes, dx, dgains, (du * unit_outer).sum(0), dsums


def gated_codes(
    g: Product, states: Tensor, norm: Tensor, norm_eps: float, gain: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the codes [N, d] and the factor [N] of norm(g) * swish(states)."""
    z = _unit(value_of(g), norm_eps)[0] * norm * F.silu(states)
    return _quantised(_unit(z, eps)[0] * gain, dtype)


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
    """Return the codes, which a GPU writes over ``dcodes``; the scaled gradient of g, over its sums; gradients of
    ``states``, ``gain`` and ``norm``."""
    unit_g, root_g = _unit(value_of(g), norm_eps)
    swish = F.silu(states)
    u, root = _unit(unit_g * norm * swish, eps)
    dy = _before_codes(dcodes, scale, factor)
    dz = _unit_backward(dy * gain, u, root)
    dn = dz * swish
    dg = (_unit_backward(dn * norm, unit_g, root_g) / g[1].unsqueeze(-1)).to(dcodes.dtype)
    dstates = dz * unit_g * norm * _swish_slope(states)
    codes = rounded(u * gain * factor.unsqueeze(-1)).to(dcodes.dtype)
    return codes, dg, dstates, (dy * u).sum(0), (dn * unit_g).sum(0)


def _swish_slope(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def swish_codes(p: Product, gain: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the codes [N, m] and the factor [N] of swish(gate) * up. p is [N, 2m] with the columns of gate, then of
    up."""
    gate, up = value_of(p).chunk(2, -1)
    return _quantised(_unit(F.silu(gate) * up, eps)[0] * gain, dtype)


def swish_codes_backward(
    p: Product, gain: Tensor, eps: float, factor: Tensor, scale: Tensor, dcodes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the codes, which a GPU writes over ``dcodes``; the scaled gradient of p [N, 2m], over its sums; the
    gradient of ``gain``."""
    gate, up = value_of(p).chunk(2, -1)
    swish = F.silu(gate)
    u, root = _unit(swish * up, eps)
    dy = _before_codes(dcodes, scale, factor)
    dz = _unit_backward(dy * gain, u, root)
    d = torch.cat([dz * up * _swish_slope(gate), dz * swish], -1) / p[1].unsqueeze(-1)
    codes = rounded(u * gain * factor.unsqueeze(-1)).to(dcodes.dtype)
    return codes, d.to(dcodes.dtype), (dy * u).sum(0)


def _gates(i: Product, f: Product, bound: Tensor, streams: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the candidate, the sigmoid of f and the forget gate, each [B, T, d]."""
    shape = (streams, -1, i[0].shape[-1])
    candidate, opened = value_of(i).view(shape), torch.sigmoid(value_of(f)).view(shape)
    return candidate, opened, bound + (1 - bound) * opened


def gated_scan(
    i: Product, f: Product, bound: Tensor, start: Tensor, carried: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return states [B, T, d] of S[t] = F[t] S[t-1] + (1 - F[t]) swish(i[t]), F = bound + (1 - bound) sigmoid(f); and
    the states before some of the times, with which a second call finds the same states sooner: here only ``start``."""
    candidate, _, forget = _gates(i, f, bound, len(start))
    x, now, states = (1 - forget) * F.silu(candidate), start, []
    for t in range(x.shape[1]):
        now = forget[:, t] * now + x[:, t]
        states.append(now)
    return torch.stack(states, 1), start.unsqueeze(1)


def gated_scan_backward(
    i: Product, f: Product, bound: Tensor, start: Tensor, states: Tensor, dstates: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scaled gradients of i and f [N, d], which a GPU writes over their sums; the gradient of ``bound``."""
    candidate, opened, forget = _gates(i, f, bound, len(start))
    carried, gradients = torch.zeros_like(start), []
    for t in reversed(range(states.shape[1])):
        carried = dstates.view(states.shape)[:, t] + (
            forget[:, t + 1] * carried if t + 1 < states.shape[1] else torch.zeros_like(start)
        )
        gradients.append(carried)
    g = torch.stack(gradients[::-1], 1)
    before = torch.cat([start.unsqueeze(1), states[:, :-1]], 1)
    dforget = g * (before - F.silu(candidate))
    dvalue = dforget * (1 - bound) * opened * (1 - opened)
    dcandidate = g * (1 - forget) * _swish_slope(candidate)
    di = (dcandidate.view(i[0].shape) / i[1].unsqueeze(-1)).to(i[0].dtype)
    df = (dvalue.view(f[0].shape) / f[1].unsqueeze(-1)).to(f[0].dtype)
    return di, df, (dforget * (1 - opened)).sum((0, 1))


def cross_entropy(
    sums: Tensor, factor: Tensor, scale: Tensor, targets: Tensor, weight: float, narrow: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return losses [C] in nats of logits as sums [C, V], and the scaled gradient of ``weight`` times their sum; a GPU
    writes it over ``sums``."""
    logits = value_of((sums, factor, scale))
    losses = F.cross_entropy(logits, targets, reduction="none")
    d = logits.softmax(-1)
    d[torch.arange(len(targets), device=d.device), targets] -= 1
    return losses, (d * weight / factor.unsqueeze(-1)).to(narrow)
