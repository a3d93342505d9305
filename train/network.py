"""Defines the network as PyTorch modules, with the checkpoint's parameter names (arXiv 2406.02528, sections 3.1-3.3).

The formulas are the same as in model_ref/float_model.py, but for whole sequences: B streams of T tokens, with hidden
size d, vocabulary V and L layers. In backward, the rounding to codes and trits passes gradients unchanged (section
3.1). If ``ternary`` is False, the projections are plain float matrices, as in a teacher.

On a GPU with Triton, a ternary network runs layer by layer through ``kernels/``. The kernels compute the same network
in less time and memory. In the kernels, sums of products and their gradients are bfloat16, and all other values are
float32. The modules in this file compute the network without the kernels.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lutern.model_ref import float_model
from lutern.model_ref.config import NORM_EPS, ModelConfig
from lutern.model_ref.ternarise import SMALLEST_SCALE
from lutern.train.kernels.head import head_loss
from lutern.train.kernels.layer import LayerSettings, fused_layer
from lutern.train.recurrence import recurrence

SMALLEST_ABSMAX = float(float_model.SMALLEST_ABSMAX)  # torch.compile does not trace NumPy scalars
INITIAL_DEVIATION = 0.02  # ``initializer_range`` of the published configs
VALIDATION_CHUNK = 512  # number of tokens of a stream in one call during validation


class Norm(nn.Module):
    """The root-mean-square norm over the last axis."""

    def __init__(self, size: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def wide(x: Tensor) -> Tensor:
    """Return ``x`` as float32 if autocast made it narrower."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return ``rounded`` in forward. In backward, pass the gradient to ``value``."""
    return value + (rounded - value).detach()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of logits [B, T, V] for the targets of ``Network.forward``."""
    if targets.ndim == 2:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    tokens, weights = targets.unbind(-1)
    found = logits.gather(-1, tokens.long())
    return (weights.sum(-1) * logits.logsumexp(-1) - (weights * found).sum(-1)).mean()


class BitLinear(nn.Module):
    """A ternary projection with its norm, from [..., columns] to [..., rows].

    Codes and trits are multiplied first, because they are small integers, which TF32 represents exactly. Then the sums
    are scaled.
    """

    def __init__(self, columns: int, rows: int, ternary: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns).normal_(0, INITIAL_DEVIATION))
        self.norm = Norm(columns)
        self.ternary = ternary

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if not self.ternary:
            return F.linear(y, self.weight)
        factor = wide(127 / y.detach().abs().amax(-1, keepdim=True).clamp(min=SMALLEST_ABSMAX))
        scaled = y * factor
        # The fused kernel of the published code rounds halves away from zero.
        codes = torch.copysign(torch.floor(scaled.abs() + 0.5), scaled).clamp(-128, 127)
        scale = self.weight.detach().abs().mean().clamp(min=SMALLEST_SCALE)
        latent = self.weight / scale
        trits = torch.round(latent).clamp(-1, 1)
        return F.linear(straight_through(scaled, codes), straight_through(latent, trits)) * (scale / factor)


class TokenMixer(nn.Module):
    """The MLGRU, whose parameters have the published names."""

    def __init__(self, size: int, ternary: bool, eps: float) -> None:
        super().__init__()
        self.i_proj = BitLinear(size, size, ternary)
        self.f_proj = BitLinear(size, size, ternary)
        self.g_proj = BitLinear(size, size, ternary)
        self.g_norm = Norm(size, eps)
        self.o_proj = BitLinear(size, size, ternary)

    def forward(self, x: Tensor, bound: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output [B, T, d] and the last state [B, d], from x [B, T, d], bound [d] and start [B, d]."""
        f = bound + (1 - bound) * torch.sigmoid(wide(self.f_proj(x)))
        states = recurrence(f, (1 - f) * F.silu(wide(self.i_proj(x))), start)
        return self.o_proj(self.g_norm(self.g_proj(x)) * F.silu(states)), states[:, -1]


class ChannelMixer(nn.Module):
    """The GLU, whose parameters have the published names."""

    def __init__(self, size: int, intermediate_size: int, ternary: bool) -> None:
        super().__init__()
        self.gate_proj = BitLinear(size, 2 * intermediate_size, ternary)
        self.down_proj = BitLinear(intermediate_size, size, ternary)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Layer(nn.Module):
    """A token mixer and a channel mixer, whose outputs are added to the residual stream."""

    def __init__(self, config: ModelConfig, ternary: bool) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.attn_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.attn = TokenMixer(config.hidden_size, ternary, config.rms_norm_eps)
        self.mlp_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = ChannelMixer(config.hidden_size, config.intermediate_size, ternary)

    def forward(
        self, h: Tensor, bound: Tensor, start: Tensor, dropout: float = 0.0, fused: bool = False, lean: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the next h and the last state, from h [B, T, d], bound [d] and start [B, d]. ``dropout`` applies to
        the outputs of both mixers. ``fused`` and ``lean`` are as in ``Network``."""
        if fused:
            seed = torch.randint(1 << 30, (1,), device=h.device) if dropout else None
            return fused_layer(self, h, bound, start, LayerSettings(self.eps, NORM_EPS, dropout, seed, lean))
        mixed, last = self.attn(self.attn_norm(h), bound, start)
        h = h + F.dropout(mixed, dropout)
        return h + F.dropout(self.mlp(self.mlp_norm(h)), dropout), last


class Body(nn.Module):
    """All parts of the network except the head. This class exists so that the parameters have the checkpoint's
    names."""

    def __init__(self, config: ModelConfig, ternary: bool) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embeddings.weight, 0, INITIAL_DEVIATION)
        if config.use_lower_bound:
            self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))
        self.layers = nn.ModuleList(Layer(config, ternary) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Network(nn.Module):
    """The language model for sequences.

    Parameters
    ----------
    config: the shape.
    ternary: compute with codes and trits, as a checkpoint is used. Otherwise compute with plain floats, as a teacher.
    dropout: share of elements that training sets to zero, in the embedding, in each mixer's output, and in the last
        hidden vector.
    fused: run through ``kernels/``. None means that a ternary network on a GPU with Triton uses the kernels.
    lean: if fused, keep less for backward, and compute one product of each layer again.
    """

    def __init__(
        self,
        config: ModelConfig,
        ternary: bool = True,
        dropout: float = 0.0,
        fused: bool | None = None,
        lean: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.ternary, self.fused, self.lean = ternary, fused, lean
        self.model = Body(config, ternary)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size, ternary)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.model.layers

    @property
    def validation_chunk(self) -> int:
        """The number of tokens of a stream in one call of validation. The state continues in the next call."""
        return VALIDATION_CHUNK

    def initial_state(self, streams: int, like: Tensor | None = None) -> Tensor:
        """Return the state before the first token: zeros [L, B, d]. For a network whose parameters are divided among
        processes, ``like`` is a tensor on the device."""
        weight = self.model.embeddings.weight
        shape = (self.config.num_hidden_layers, streams, self.config.hidden_size)
        return (weight if like is None else like).new_zeros(shape, dtype=weight.dtype)

    def is_fused(self) -> bool:
        """Return whether ``forward`` runs through the kernels. In this case torch.compile is not needed."""
        if self.fused is None:
            return self.ternary and self.lm_head.weight.is_cuda and importlib.util.find_spec("triton") is not None
        return self.fused

    def forward(self, ids: Tensor, state: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, V] and the state after the last token, from ids [B, T] and state [L, B, d].

        If ``targets`` are given (token numbers [B, T], or for each token K pairs of a token number and its weight [B,
        T, K, 2]), the first result is the mean cross-entropy in nats, not the logits.
        """
        share = self.dropout if self.training else 0.0
        fused = self.is_fused()
        h = F.dropout(self.model.embeddings(ids), share)
        bounds = self._bounds()
        last = []
        for index, layer in enumerate(self.model.layers):
            h, final = layer(h, bounds[index], state[index], share, fused, self.lean)
            last.append(final)
        h = F.dropout(h, share)
        if fused and targets is not None and targets.ndim == 2:
            norm = self.model.norm
            return head_loss(h, norm.weight, norm.eps, self.lm_head, NORM_EPS, targets), torch.stack(last)
        logits = wide(self.lm_head(self.model.norm(h)))
        if targets is not None:
            return cross_entropy(logits, targets), torch.stack(last)
        return logits, torch.stack(last)

    @torch.no_grad()
    def divide_logits(self, temperature: float) -> None:
        """Divide all logits by a temperature. The gain of the head's norm is divided, because logits are linear in this
        gain and codes do not depend on it."""
        self.lm_head.norm.weight.div_(temperature)

    def _bounds(self) -> Tensor:
        """Return the lower bounds [L, d]: a softmax over the layers, then the running sum without the first layer."""
        if not self.config.use_lower_bound:
            return torch.zeros_like(self.initial_state(1)[:, 0])
        shares = self.model.lower_bounds.softmax(0)
        return shares.cumsum(0) - shares[0]
