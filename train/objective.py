"""Combines the network and its loss in one module, through which every call must go if there are several processes."""

from __future__ import annotations

from torch import Tensor, nn

from lutern.train.network import Network
from lutern.train.transformer import Transformer

Trainable = Network | Transformer
"""The networks that the training loop can train."""


class Objective(nn.Module):
    """The mean cross-entropy in nats over all tokens. The targets are the next tokens, or weighted tokens."""

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the last state, from inputs [B, T], targets [B, T] or [B, T, K, 2] (as in
        ``Network.forward``), and the state."""
        loss, last = self.network(inputs, state, targets)
        return loss, last


__all__ = ["Objective", "Trainable"]
