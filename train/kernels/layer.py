"""Computes one layer of the network with its own forward and backward: products, and one kernel between two products.

    h ─► norm, codes x3 ─► products i, f, g ─► scan ─► states ─┐
                                        └──► norm(g)·swish ────┴─► codes ─► product o ─► h + o ─┐
    h + o + down ◄─ product down ◄─ codes, swish·up ◄─ products gate, up ◄─ codes, norm ◄───────┘

Backward keeps, in bytes a token: h (4 d), the sums of i, f, g, o (2 d each) and of gate and up (4 m), a factor a row of
each product; and the trits, packed in 2 bits, and some of the states. Codes, states, h + o and all other values are
computed again. With ``lean`` the sums of gate and up are computed again too, at the cost of that product. On a GPU the
gradients of sums are written over them.

No gradient is computed for ``start``, and no gradient is accepted for the last state.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

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
        # The int8 kernel copies tiles, whose rows must begin at multiples of 16 bytes.
        whole = k is not plain and h.shape[1] >= k.INT8_FROM and all(weight.shape[1] % 16 == 0 for weight in weights)
        code_type = torch.int8 if whole else thin
        trits, packed = k.ternarise(weights, scales, code_type)

        codes, factors = k.norm_codes(h, attn_norm, settings.eps, torch.stack(gains[:3]), settings.bit_eps, code_type)
        ifg = k.product(codes, stacked(trits[:3]), thin)
        i, f, g = ((ifg[n], factors[n], scales[n]) for n in range(3))
        states, carried = k.gated_scan(i, f, bound, start)
        last = states[:, -1].clone()
        codes, o_factor = k.gated_codes(
            g, states.view(h.shape), g_norm, settings.eps, gains[3], settings.bit_eps, code_type
        )
        del states
        o = (k.product(codes, trits[3], thin), o_factor, scales[3])
        mixed = (o, settings.drop(0))
        codes, gate_factor = k.norm_codes(h, mlp_norm, settings.eps, gains[4][None], settings.bit_eps, code_type, mixed)
        p = (k.product(codes[0], trits[4], thin), gate_factor[0], scales[4])
        codes, down_factor = k.swish_codes(p, gains[5], settings.bit_eps, code_type)
        down = (k.product(codes, trits[5], thin), down_factor, scales[5])
        out = k.add_products(h, mixed, (down, settings.drop(1)))

        ctx.settings, ctx.shapes, ctx.code_type = settings, [weight.shape for weight in weights], code_type
        sums = None if settings.lean else p[0]
        products = (factors, ifg, o[0], o_factor, sums, p[1], down_factor)
        ctx.save_for_backward(h, bound, start, carried, scales, packed, *products, *parameters[6:])
        ctx.mark_non_differentiable(last)
        return out.view(shape), last

    @staticmethod
    def backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        h, bound, start, carried, scales, packed, *saved = ctx.saved_tensors
        factors, ifg, o_sums, o_factor, p_sums, p_factor, down_factor, *rest = saved
        gains, (attn_norm, g_norm, mlp_norm) = rest[:6], rest[6:]
        settings: LayerSettings = ctx.settings
        k, thin, wide = forms(h), narrow(h), h.dtype
        ifgo = sum(plain.padded(shape.numel()) for shape in ctx.shapes[:4]) // 4  # bytes of their packed trits
        shape, dout = dout.shape, dout.contiguous().view(h.shape)
        mixed = ((o_sums, o_factor, scales[3]), settings.drop(0))
        overwritten = [ifg, o_sums] if p_sums is None else [ifg, o_sums, p_sums]

        # The GLU.
        if p_sums is None:
            kind = ctx.code_type
            codes, _ = k.norm_codes(h, mlp_norm, settings.eps, gains[4][None], settings.bit_eps, kind, mixed)
            p_sums = k.product(codes[0], k.unpack(packed[ifgo:], ctx.shapes[4:], kind)[0], thin)
        gate, down = k.unpack(packed[ifgo:], ctx.shapes[4:], thin)
        d = k.add_product_backward(dout, down_factor, settings.drop(1), thin)
        codes, dp, ddown_gain = k.swish_codes_backward(
            (p_sums, p_factor, scales[4]), gains[5], settings.bit_eps, down_factor, scales[5], d @ down
        )
        ddown = k.weight_gradient(d, codes, wide)
        del d, codes
        dcodes = dp @ gate
        del gate, down
        codes, dmiddle, dgate_gain, dmlp_norm, d = k.norm_codes_backward(
            h,
            mlp_norm,
            settings.eps,
            gains[4][None],
            settings.bit_eps,
            p_factor[None],
            scales[4:5],
            dcodes[None],
            dout,
            mixed,
        )
        dgate = k.weight_gradient(dp, codes[0], wide)
        if k is not plain:
            dp.untyped_storage().resize_(0)  # autograd keeps the tensor until this function ends
        del dp, p_sums, codes, dcodes

        # The MLGRU.
        trits = k.unpack(packed[:ifgo], ctx.shapes[:4], thin)
        i, f, g = ((ifg[n], factors[n], scales[n]) for n in range(3))
        states, _ = k.gated_scan(i, f, bound, start, carried)
        codes, dg, dstates, do_gain, dg_norm = k.gated_codes_backward(
            g, states.view(h.shape), g_norm, settings.eps, gains[3], settings.bit_eps, o_factor, scales[3], d @ trits[3]
        )
        do = k.weight_gradient(d, codes, wide)
        del d, codes
        di, df, dbound = k.gated_scan_backward(i, f, bound, start, states, dstates)
        del states, dstates
        difg = stacked([di, df, dg])
        codes, dh, dgains, dattn_norm, _ = k.norm_codes_backward(
            h,
            attn_norm,
            settings.eps,
            torch.stack(gains[:3]),
            settings.bit_eps,
            factors,
            scales[:3],
            difg @ stacked(trits[:3]),
            dmiddle,
        )
        difg_weights = k.weight_gradient(difg, codes, wide)
        increment_version(overwritten)  # PyTorch then refuses a second backward, whose result would be wrong
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
