"""Defines a float Transformer decoder for comparison with the MatMul-free network of the same number of weights.

    ids ─► embeddings ─► L layers: h = h + attention(norm(h)),  h = h + SwiGLU(norm(h)) ─► norm ─► head

Attention is causal, in heads of ``HEAD`` channels, with rotary positions (arXiv 2104.09864). With hidden size d,
intermediate size m and vocabulary V, a layer has 4 d^2 + 3 d m weights, as many as MLGRU and GLU of the same config.
The head has V d weights. On a GPU, products are bfloat16 under autocast, and all other operations are float32.

The Transformer is trained on crops of ``window`` tokens and cannot use later positions. Therefore its state is the last
half window of tokens, which it reads again before the next half window. So in a validation of several chunks, each
token after the first chunk sees at least half a window and at most a whole window.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lutern.model_ref.config import ModelConfig
from lutern.train.network import INITIAL_DEVIATION, Norm, wide

HEAD = 32
"""Number of channels of a head. The hidden size must be a multiple of this number."""
LONGEST_WAVE = 10_000.0
"""The base of the rotary positions. The fastest channel turns by one radian per token."""


def matrix(columns: int, rows: int, deviation: float = INITIAL_DEVIATION) -> nn.Linear:
    """Return a projection without bias."""
    linear = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(linear.weight, 0, deviation)
    return linear


def turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Return x [..., T, HEAD] with rotary positions. The channels c and c + HEAD/2 are the coordinates of a point,
    which is turned by an angle that depends on the position. ``cosines`` and ``sines`` [T, HEAD/2] belong to these
    angles."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], -1).type_as(x)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, size: int, deviation: float) -> None:
        super().__init__()
        self.qkv_proj = matrix(size, 3 * size)
        self.o_proj = matrix(size, size, deviation)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Return [B, T, d] from x [B, T, d] and from the cosines and sines [T, HEAD/2] of the angles of all
        positions."""
        q, k, v = self.qkv_proj(x).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)  # each [B, heads, T, HEAD]
        mixed = F.scaled_dot_product_attention(turned(q, cosines, sines), turned(k, cosines, sines), v, is_causal=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out


class SwiGLU(nn.Module):
    """A SwiGLU, which computes down(silu(gate) * up)."""

    def __init__(self, size: int, intermediate_size: int, deviation: float) -> None:
        super().__init__()
        self.gate_proj = matrix(size, 2 * intermediate_size)
        self.down_proj = matrix(intermediate_size, size, deviation)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Attention and SwiGLU, whose outputs are added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        deviation = INITIAL_DEVIATION / math.sqrt(2 * config.num_hidden_layers)  # 2 L terms are added to h
        self.attn_norm = Norm(config.hidden_size)
        self.attn = Attention(config.hidden_size, deviation)
        self.mlp_norm = Norm(config.hidden_size)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size, deviation)

    def forward(self, h: Tensor, cosines: Tensor, sines: Tensor, dropout: float) -> Tensor:
        """Return the next h from h [B, T, d]. ``dropout`` applies to the terms that are added to h."""
        h = h + F.dropout(self.attn(self.attn_norm(h), cosines, sines), dropout)
        return h + F.dropout(self.mlp(self.mlp_norm(h)), dropout)


class Transformer(nn.Module):
    """The language model for sequences, with the same interface as ``network.Network``.

    Parameters
    ----------
    config: the shape.
    window: number of tokens in a training crop, which is the largest number of tokens in one call.
    dropout: share of elements that training sets to zero, in the embedding, in the output of each attention and SwiGLU,
        and in the last hidden vector.
    ahead: tokens that replace the first tokens of every crop, and therefore of every window.
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
        """The number of tokens of a stream in one call of validation. The same number of earlier tokens is read
        again."""
        return self.window // 2

    def initial_state(self, streams: int, like: Tensor | None = None) -> Tensor:
        """Return the state before the first token: no tokens, [B, 0]."""
        return (self.lm_head.weight if like is None else like).new_zeros((streams, 0), dtype=torch.long)

    def is_fused(self) -> bool:
        """Return whether a step is recorded as a graph of PyTorch's own kernels, so that torch.compile is not
        needed."""
        return bool(self.lm_head.weight.is_cuda)

    def forward(self, ids: Tensor, state: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, T, V] and the next state, from T ids per stream [B, T] that follow the P ids of the state
        [B, P].

        If ``targets`` (token numbers [B, T]) are given, return the mean cross-entropy in nats and the next state.
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
