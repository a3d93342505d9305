"""A plain float Transformer decoder with as many weights and the same training loop, to which the MatMul-free network
is compared.

    ids ─► embeddings ─► L x [ h + attention(norm(h)),  h + SwiGLU(norm(h)) ] ─► norm ─► head

Attention is causal, in heads of ``HEAD`` channels, with rotary positions (arXiv 2104.09864).  A layer has 4 d^2 + 3 d m
weights, exactly as many as MLGRU and GLU of the same config, and the head has V d.  On a GPU products are bfloat16
under autocast, all other operations float32.

It is trained on crops of ``window`` tokens and knows no later position.  Its state is therefore text: the last half
window of tokens, which it reads again before the next half.  So in a validation of several chunks, each token after the
first chunk sees from half a window to a whole window.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lutern.model_ref.config import ModelConfig
from lutern.train.network import INITIAL_DEVIATION, Norm, wide

HEAD = 32
"""Channels of a head; the hidden size is a multiple of it."""
LONGEST_WAVE = 10_000.0
"""Base of the rotary positions; the fastest channel turns by one radian a token."""


def matrix(columns: int, rows: int, deviation: float = INITIAL_DEVIATION) -> nn.Linear:
    """Return a projection without bias."""
    linear = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(linear.weight, 0, deviation)
    return linear


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x [..., T, HEAD] with channel c and c + HEAD/2 as a point, turned by its position's angle [T, HEAD/2]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1).type_as(x)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, size: int, deviation: float) -> None:
        super().__init__()
        self.qkv_proj = matrix(size, 3 * size)
        self.o_proj = matrix(size, size, deviation)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Return [B, T, d] from x [B, T, d] and angles [T, HEAD/2]."""
        q, k, v = self.qkv_proj(x).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)  # each [B, heads, T, HEAD]
        mixed = F.scaled_dot_product_attention(turned(q, cosines, sines), turned(k, cosines, sines), v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class SwiGLU(nn.Module):
    """down(swish(gate) * up)."""

    def __init__(self, size: int, intermediate_size: int, deviation: float) -> None:
        super().__init__()
        self.gate_proj = matrix(size, 2 * intermediate_size)
        self.down_proj = matrix(intermediate_size, size, deviation)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Attention and SwiGLU, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        deviation = INITIAL_DEVIATION / math.sqrt(2 * config.num_hidden_layers)  # 2 L terms add up
        self.attn_norm = Norm(config.hidden_size)
        self.attn = Attention(config.hidden_size, deviation)
        self.mlp_norm = Norm(config.hidden_size)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size, deviation)

    def forward(self, h: Tensor, cosines: Tensor, sines: Tensor, dropout: float) -> Tensor:
        """Return the next h from h [B, T, d]; ``dropout`` applies to the terms that are added to it."""
        h = h + F.dropout(self.attn(self.attn_norm(h), cosines, sines), dropout)
        return h + F.dropout(self.mlp(self.mlp_norm(h)), dropout)


class Transformer(nn.Module):
    """The language model over sequences; called as ``network.Network`` is.

    Parameters
    ----------
    config: its shape.
    window: tokens of a training crop, the most that it sees at once.
    dropout: share zeroed while training: of the embedding, of what each layer adds, of the last hidden vector.
    ahead: tokens in the place of the first ones of every crop, and so of every window.
    """

    ternary = False
    cosines: Tensor
    sines: Tensor

    def __init__(self, config: ModelConfig, window: int, dropout: float = 0.0, ahead: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.config, self.window, self.dropout, self.ahead = config, window, dropout, ahead
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        nn.init.normal_(self.embeddings.weight, 0, INITIAL_DEVIATION)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size)
        self.lm_head = matrix(config.hidden_size, config.vocab_size)
        angles = torch.arange(window)[:, None] * LONGEST_WAVE ** (-torch.arange(0, HEAD, 2) / HEAD)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    @property
    def validation_chunk(self) -> int:
        """Tokens of a stream that are read at once to validate; as many were read before them."""
        return self.window // 2

    def initial_state(self, streams: int, like: Tensor | None = None) -> Tensor:
        """Return the state before the first token: no tokens, [B, 0]."""
        return (self.lm_head.weight if like is None else like).new_zeros((streams, 0), dtype=torch.long)

    def is_fused(self) -> bool:
        """Return whether a step is recorded as a graph of PyTorch's own kernels, with nothing left for
        torch.compile."""
        return bool(self.lm_head.weight.is_cuda)

    def forward(self, ids: Tensor, state: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, V] and the next state, from ids [B, T] that follow the ids of the state [B, P].

        With ``targets``, token numbers [B, T], return the mean cross-entropy in nats and the state.
        """
        share = self.dropout if self.training else 0.0
        read = torch.cat([state, ids], 1)
        length = read.shape[1]
        h = F.dropout(self.embeddings(read), share)
        for layer in self.layers:
            h = layer(h, self.cosines[:length], self.sines[:length], share)
        h = F.dropout(self.norm(h[:, state.shape[1] :]), share)
        logits = wide(self.lm_head(h))
        last = read[:, max(0, length - self.window // 2) :].clone()
        for position, token in enumerate(self.ahead[: last.shape[1]]):
            last[:, position] = token
        if targets is not None:
            return F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1)), last
        return logits, last


__all__ = ["HEAD", "Transformer"]
