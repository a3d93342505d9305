"""The network as PyTorch modules whose parameters carry the checkpoint's names (arXiv 2406.02528, sections 3.1 to 3.3).

The formulas are those of model_ref/float_model.py, over whole sequences: B streams of T tokens. Gradients pass straight
through the rounding to codes and trits (section 3.1). With ``ternary=False`` the projections are plain float matrices,
which makes a teacher.

On a GPU with Triton a ternary network runs layer by layer through ``kernels/``: it is the same network, but takes less
time and memory. There, sums of products and their gradients are bfloat16, and all other values float32. The modules
below are the plain form.
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

SMALLEST_ABSMAX = float(float_model.SMALLEST_ABSMAX)  # torch.compile traces no NumPy scalars
INITIAL_DEVIATION = 0.02  # ``initializer_range`` of the published configs
VALIDATION_CHUNK = 512  # tokens of a stream that are read at once to validate


class Norm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, size: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def wide(x: Tensor) -> Tensor:
    """Return float32, also if autocast made it narrower."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return ``rounded`` in forward; in backward the gradient goes to ``value``."""
    return value + (rounded - value).detach()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of logits [B, T, V] for the targets of ``Network.forward``."""
    if targets.ndim == 2:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    tokens, weights = targets.unbind(-1)
    found = logits.gather(-1, tokens.long())
    return (weights.sum(-1) * logits.logsumexp(-1) - (weights * found).sum(-1)).mean()


class BitLinear(nn.Module):
    """Ternary projection with its norm, [..., columns] to [..., rows].

    The product multiplies codes and trits, small integers that TF32 holds exactly; the scales are applied to the sums.
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
        # Half away from zero, as the fused kernel of the published code rounds.
        codes = torch.copysign(torch.floor(scaled.abs() + 0.5), scaled).clamp(-128, 127)
        scale = self.weight.detach().abs().mean().clamp(min=SMALLEST_SCALE)
        latent = self.weight / scale
        trits = torch.round(latent).clamp(-1, 1)
        return F.linear(straight_through(scaled, codes), straight_through(latent, trits)) * (scale / factor)


class TokenMixer(nn.Module):
    """The MLGRU; its parameters have the published names."""

    def __init__(self, size: int, ternary: bool, eps: float) -> None:
        super().__init__()
        self.i_proj = BitLinear(size, size, ternary)
        self.f_proj = BitLinear(size, size, ternary)
        self.g_proj = BitLinear(size, size, ternary)
        self.g_norm = Norm(size, eps)
        self.o_proj = BitLinear(size, size, ternary)

    def forward(self, x: Tensor, bound: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, T, d], bound [d] and start [B, d] give the output [B, T, d] and the last state [B, d]."""
        f = bound + (1 - bound) * torch.sigmoid(wide(self.f_proj(x)))
        states = recurrence(f, (1 - f) * F.silu(wide(self.i_proj(x))), start)
        return self.o_proj(self.g_norm(self.g_proj(x)) * F.silu(states)), states[:, -1]


class ChannelMixer(nn.Module):
    """The GLU; its parameters have the published names."""

    def __init__(self, size: int, intermediate_size: int, ternary: bool) -> None:
        super().__init__()
        self.gate_proj = BitLinear(size, 2 * intermediate_size, ternary)
        self.down_proj = BitLinear(intermediate_size, size, ternary)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Layer(nn.Module):
    """A token mixer and a channel mixer, each added to the residual stream."""

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
        """h [B, T, d], bound [d], start [B, d] give the next h and the last state; mixers' outputs have ``dropout``."""
        if fused:
            seed = torch.randint(1 << 30, (1,), device=h.device) if dropout else None
            return fused_layer(self, h, bound, start, LayerSettings(self.eps, NORM_EPS, dropout, seed, lean))
        mixed, last = self.attn(self.attn_norm(h), bound, start)
        h = h + F.dropout(mixed, dropout)
        return h + F.dropout(self.mlp(self.mlp_norm(h)), dropout), last


class Body(nn.Module):
    """Everything except the head; it exists so that parameters have the names of the checkpoint."""

    def __init__(self, config: ModelConfig, ternary: bool) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embeddings.weight, 0, INITIAL_DEVIATION)
        if config.use_lower_bound:
            self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))
        self.layers = nn.ModuleList(Layer(config, ternary) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Network(nn.Module):
    """The language model over sequences.

    Parameters
    ----------
    config: the shape.
    ternary: compute with codes and trits, as users of the checkpoint do; else with plain floats, as a teacher.
    dropout: share that is zeroed in training: of the embedding, each mixer's output, and the last hidden vector.
    fused: run through ``kernels/``; None means wherever they can run: a ternary network on a GPU with Triton.
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
        """The layers, from the first one on."""
        return self.model.layers

    @property
    def validation_chunk(self) -> int:
        """Tokens of a stream that one step of validation reads; the state continues from one chunk to the next."""
        return VALIDATION_CHUNK

    def initial_state(self, streams: int, like: Tensor | None = None) -> Tensor:
        """Return the state before the first token: zeros [L, B, d]. ``like`` is a tensor of the device, for a network
        whose parameters are split over processes."""
        weight = self.model.embeddings.weight
        shape = (self.config.num_hidden_layers, streams, self.config.hidden_size)
        return (weight if like is None else like).new_zeros(shape, dtype=weight.dtype)

    def is_fused(self) -> bool:
        """Return whether ``forward`` runs through the kernels; then torch.compile has nothing to do."""
        if self.fused is None:
            return self.ternary and self.lm_head.weight.is_cuda and importlib.util.find_spec("triton") is not None
        return self.fused

    def forward(self, ids: Tensor, state: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ids [B, T] and state [L, B, d] give logits [B, T, V] and the state after the last token.

        With ``targets`` (token numbers [B, T], or pairs of a token number and its weight [B, T, K, 2]) the first result
        is instead the mean cross-entropy in nats.
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
        """Fold a temperature into the head: logits are linear in the gain of its norm, and codes do not change."""
        self.lm_head.norm.weight.div_(temperature)

    def _bounds(self) -> Tensor:
        """Return LB [L, d]: softmax over the layers, then the running sum without the first layer's share."""
        if not self.config.use_lower_bound:
            return torch.zeros_like(self.initial_state(1)[:, 0])
        shares = self.model.lower_bounds.softmax(0)
        return shares.cumsum(0) - shares[0]
