"""Computes one layer of the network with its own forward and backward: products, and one kernel between two products.

    h ─► norm, codes x3 ─► products i, f, g ─► scan ─► states ─┐
                                        └──► norm(g)·swish ────┴─► codes ─► product o ─► h + o ─┐
    h + o + down ◄─ product down ◄─ codes, swish·up ◄─ products gate, up ◄─ codes, norm ◄───────┘

For backward, these tensors are kept, with bytes per token: h (4 d), the sums of i, f, g and o (2 d each), the sums of
gate and up (4 m), and a factor for each row of each product. The trits are also kept, packed in 2 bits. Codes, states,
h + o and all other values are computed again. With ``lean`` the sums of gate and up are also computed again, at the
cost of one more product.

No gradient is computed for ``start``, and no gradient is accepted for the last state.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lutern.train.kernels import plain


def forms(x: Tensor) -> ModuleType:
    """Return the module of the kernels if they can run, else the module of the plain functions."""
    if x.is_cuda and x.dtype == torch.float32:
        from lutern.train.kernels import fast

        return fast
    return plain


def narrow(x: Tensor) -> torch.dtype:
    """Return the type of sums, codes and scaled gradients. It is bfloat16 for float32. For float64 it is float64, so
    that tests can be exact."""
    return torch.bfloat16 if x.dtype == torch.float32 else x.dtype


@dataclass(frozen=True)
class LayerSettings:
    """The settings of a layer that are not parameters of the network.

    Parameters
    ----------
    eps: eps of the norms before the mixers, and of the norm of g.
    bit_eps: eps of the norms of BitLinear.
    dropout: share of each mixer's output that is zeroed.
    seed: seed of this layer's dropout in this step, an integer [1] on the device, or None without dropout.
    lean: do not keep the sums of gate and up.
    """

    eps: float
    bit_eps: float
    dropout: float = 0.0
    seed: Tensor | None = None
    lean: bool = False

    def drop(self, mixer: int) -> plain.Dropout:
        return (self.seed, mixer, self.dropout)


MATRICES = ("attn.i_proj", "attn.f_proj", "attn.g_proj", "attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
NORMS = ("attn_norm", "attn.g_norm", "mlp_norm")


def fused_layer(
    layer: nn.Module, h: Tensor, bound: Tensor, start: Tensor, settings: LayerSettings
) -> tuple[Tensor, Tensor]:
    """Return the next h and the state after the last token, from h [B, T, d], bound [d] and start [B, d]."""
    modules: list[Any] = [layer.get_submodule(name) for name in MATRICES]
    weights = [module.weight for module in modules]
    gains = [module.norm.weight for module in modules]
    norms: list[Any] = [layer.get_submodule(name).weight for name in NORMS]
    out: tuple[Tensor, Tensor] = _Layer.apply(h.contiguous(), bound, start, settings, *weights, *gains, *norms)
    return out


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, h: Tensor, bound: Tensor, start: Tensor, settings: LayerSettings, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        k, thin, shape = forms(h), narrow(h), h.shape
        weights, gains, (attn_norm, g_norm, mlp_norm) = list(parameters[:6]), parameters[6:12], parameters[12:]
        h = h.view(-1, shape[-1])
        scales = k.scales_of(weights)
        code_type = torch.int8 if k is not plain and h.shape[1] >= k.INT8_FROM else thin
        trits, packed = k.ternarise(weights, scales, code_type)

        codes, factors = k.norm_codes(h, attn_norm, settings.eps, torch.stack(gains[:3]), settings.bit_eps, code_type)
        ifg = k.product(codes, stacked(trits[:3]), thin)
        i, f, g = ((ifg[n], factors[n], scales[n]) for n in range(3))
        states = k.gated_scan(i, f, bound, start)
        last = states[:, -1].clone()
        codes, o_factor = k.gated_codes(
            g, states.view(h.shape), g_norm, settings.eps, gains[3], settings.bit_eps, code_type
        )
        del states
        o = (k.product(codes, trits[3], thin), o_factor, scales[3])
        middle = k.add_product(h, o, settings.drop(0))
        codes, gate_factor = k.norm_codes(middle, mlp_norm, settings.eps, gains[4][None], settings.bit_eps, code_type)
        p = (k.product(codes[0], trits[4], thin), gate_factor[0], scales[4])
        codes, down_factor = k.swish_codes(p, gains[5], settings.bit_eps, code_type)
        down = (k.product(codes, trits[5], thin), down_factor, scales[5])
        out = k.add_product(middle, down, settings.drop(1))

        ctx.settings, ctx.shapes = settings, [weight.shape for weight in weights]
        sums = None if settings.lean else p[0]
        ctx.save_for_backward(
            h, bound, start, scales, packed, factors, ifg, o[0], o_factor, sums, p[1], down_factor, *parameters[6:]
        )
        ctx.mark_non_differentiable(last)
        return out.view(shape), last

    @staticmethod
    def backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        h, bound, start, scales, packed, factors, ifg, o_sums, o_factor, p_sums, p_factor, down_factor, *rest = (
            ctx.saved_tensors
        )
        gains, (attn_norm, g_norm, mlp_norm) = rest[:6], rest[6:]
        settings: LayerSettings = ctx.settings
        k, thin, wide = forms(h), narrow(h), h.dtype
        trits = k.unpack(packed, ctx.shapes, thin)
        shape, dout = dout.shape, dout.contiguous().view(h.shape)
        middle = k.add_product(h, (o_sums, o_factor, scales[3]), settings.drop(0))

        # backward of the GLU
        if p_sums is None:
            codes, _ = k.norm_codes(middle, mlp_norm, settings.eps, gains[4][None], settings.bit_eps, thin)
            p_sums = k.product(codes[0], trits[4], thin)
        d = k.add_product_backward(dout, down_factor, settings.drop(1), thin)
        codes, dp, ddown_gain = k.swish_codes_backward(
            (p_sums, p_factor, scales[4]), gains[5], settings.bit_eps, down_factor, scales[5], d @ trits[5]
        )
        del p_sums
        ddown = k.weight_gradient(d, codes, wide)
        codes, dmiddle, dgate_gain, dmlp_norm = k.norm_codes_backward(
            middle,
            mlp_norm,
            settings.eps,
            gains[4][None],
            settings.bit_eps,
            p_factor[None],
            scales[4:5],
            (dp @ trits[4])[None],
            dout,
            thin,
        )
        dgate = k.weight_gradient(dp, codes[0], wide)
        del dp, codes, middle

        # backward of the MLGRU
        i, f, g = ((ifg[n], factors[n], scales[n]) for n in range(3))
        states = k.gated_scan(i, f, bound, start)
        d = k.add_product_backward(dmiddle, o_factor, settings.drop(0), thin)
        difg = torch.empty_like(ifg)
        codes, dstates, do_gain, dg_norm = k.gated_codes_backward(
            g,
            states.view(h.shape),
            g_norm,
            settings.eps,
            gains[3],
            settings.bit_eps,
            o_factor,
            scales[3],
            d @ trits[3],
            difg[2],
        )
        do = k.weight_gradient(d, codes, wide)
        dbound = k.gated_scan_backward(i, f, bound, start, states, dstates, difg[0], difg[1])
        del states, dstates, codes, d
        codes, dh, dgains, dattn_norm = k.norm_codes_backward(
            h,
            attn_norm,
            settings.eps,
            torch.stack(gains[:3]),
            settings.bit_eps,
            factors,
            scales[:3],
            difg @ stacked(trits[:3]),
            dmiddle,
            thin,
        )
        difg_weights = k.weight_gradient(difg, codes, wide)
        dweights = (*difg_weights.unbind(0), do, dgate, ddown)
        dgains_all = (*dgains.unbind(0), do_gain, dgate_gain[0], ddown_gain)
        return (dh.view(shape), dbound, None, None, *dweights, *dgains_all, dattn_norm, dg_norm, dmlp_norm)


def stacked(matrices: list[Tensor]) -> Tensor:
    """Return matrices of the same shape as one tensor, without a copy if they are consecutive in one buffer."""
    first, step = matrices[0], matrices[0].numel()
    begin = first.storage_offset()
    same = all(m.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() for m in matrices)
    if same and all(m.storage_offset() == begin + n * step for n, m in enumerate(matrices)):
        return first.as_strided((len(matrices), *first.shape), (step, *first.stride()))
    return torch.stack(matrices)
