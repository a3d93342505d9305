"""The network as PyTorch modules whose parameters carry the checkpoint's names (arXiv 2406.02528, sections 3.1 to 3.3).

The same formulas as model_ref/float_model.py, over whole sequences: B streams of T characters.  Rounding to codes and
trits passes gradients straight through (section 3.1).  With ``ternary=False`` the projections are plain float matrices:
that is a teacher.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lutern.model_ref import float_model
from lutern.model_ref.config import NORM_EPS, ModelConfig
from lutern.model_ref.ternarise import SMALLEST_SCALE
from lutern.train.recurrence import recurrence

SMALLEST_ABSMAX = float(float_model.SMALLEST_ABSMAX)  # torch.compile traces no NumPy scalars
INITIAL_DEVIATION = 0.02  # ``initializer_range`` of the published configs


class Norm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, size: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """``rounded`` forward, the gradient of ``value`` backward."""
    return value + (rounded - value).detach()


class BitLinear(nn.Module):
    """Ternary projection with its norm, [..., columns] to [..., rows].

    The product is of codes and trits, small integers that TF32 holds exactly; scales follow it.
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
        factor = (127 / y.detach().abs().amax(-1, keepdim=True).clamp(min=SMALLEST_ABSMAX)).float()
        scaled = y * factor
        # Half away from zero, as the fused kernel of the published code rounds.
        codes = torch.copysign(torch.floor(scaled.abs() + 0.5), scaled).clamp(-128, 127)
        scale = self.weight.detach().abs().mean().clamp(min=SMALLEST_SCALE)
        latent = self.weight / scale
        trits = torch.round(latent).clamp(-1, 1)
        return F.linear(straight_through(scaled, codes), straight_through(latent, trits)) * (scale / factor)


class TokenMixer(nn.Module):
    """The MLGRU."""

    def __init__(self, size: int, ternary: bool, eps: float) -> None:
        super().__init__()
        self.i_proj = BitLinear(size, size, ternary)
        self.f_proj = BitLinear(size, size, ternary)
        self.g_proj = BitLinear(size, size, ternary)
        self.g_norm = Norm(size, eps)
        self.o_proj = BitLinear(size, size, ternary)

    def forward(self, x: Tensor, bound: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, T, d], bound [d], start [B, d] to the output [B, T, d] and the last state [B, d]."""
        f = bound + (1 - bound) * torch.sigmoid(self.f_proj(x).float())
        states = recurrence(f, (1 - f) * F.silu(self.i_proj(x).float()), start)
        return self.o_proj(self.g_norm(self.g_proj(x)) * F.silu(states)), states[:, -1]


class ChannelMixer(nn.Module):
    """The GLU."""

    def __init__(self, size: int, intermediate_size: int, ternary: bool) -> None:
        super().__init__()
        self.gate_proj = BitLinear(size, 2 * intermediate_size, ternary)
        self.down_proj = BitLinear(intermediate_size, size, ternary)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, ternary: bool) -> None:
        super().__init__()
        self.attn_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.attn = TokenMixer(config.hidden_size, ternary, config.rms_norm_eps)
        self.mlp_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = ChannelMixer(config.hidden_size, config.intermediate_size, ternary)


class Body(nn.Module):
    """Everything but the head; exists so that parameter names are the checkpoint's."""

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
    config: its shape.
    ternary: codes and trits as the checkpoint's user computes them, or plain floats for a teacher.
    dropout: share zeroed while training: of the embedding, of each mixer's output, of the last hidden vector.
    """

    def __init__(self, config: ModelConfig, ternary: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.model = Body(config, ternary)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size, ternary)

    def initial_state(self, streams: int) -> Tensor:
        """Zeros, [L, B, d]."""
        weight = self.model.embeddings.weight
        return weight.new_zeros(self.config.num_hidden_layers, streams, self.config.hidden_size)

    def forward(self, ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """ids [B, T] and state [L, B, d] to logits [B, T, V] and the state after the last character."""
        drop: Callable[[Tensor], Tensor] = lambda x: F.dropout(x, self.dropout, self.training)  # noqa: E731
        h = drop(self.model.embeddings(ids))
        bounds = self._bounds()
        last = []
        for index, layer in enumerate(self.model.layers):
            assert isinstance(layer, Layer)
            mixed, final = layer.attn(layer.attn_norm(h), bounds[index], state[index])
            h = h + drop(mixed)
            h = h + drop(layer.mlp(layer.mlp_norm(h)))
            last.append(final)
        return self.lm_head(self.model.norm(drop(h))).float(), torch.stack(last)

    @torch.no_grad()
    def divide_logits(self, temperature: float) -> None:
        """Fold a temperature into the head: logits are linear in the gain of its norm, and codes do not change."""
        self.lm_head.norm.weight.div_(temperature)

    def _bounds(self) -> Tensor:
        """LB [L, d]: softmax over the layers, running sum, less the first layer's share."""
        if not self.config.use_lower_bound:
            return torch.zeros_like(self.initial_state(1)[:, 0])
        shares = self.model.lower_bounds.softmax(0)
        return shares.cumsum(0) - shares[0]
