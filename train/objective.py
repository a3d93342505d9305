"""The network and its loss as one module; with several processes, every forward pass must go through one module."""

from __future__ import annotations

from torch import Tensor, nn

from lutern.train.network import Network
from lutern.train.transformer import Transformer

Trainable = Network | Transformer
"""The interface of a network to the training loop."""


class Objective(nn.Module):
    """The mean cross-entropy in nats, over all tokens, of the next token or of weighted tokens in its place."""

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """inputs [B, T], targets [B, T] or [B, T, K, 2] and the network's state give the loss and the last state."""
        loss, last = self.network(inputs, state, targets)
        return loss, last


__all__ = ["Objective", "Trainable"]
