"""What is minimised: the network and its loss as one module, which every pass of several processes goes through."""

from __future__ import annotations

from torch import Tensor, nn

from lutern.train.network import Network
from lutern.train.transformer import Transformer

Trainable = Network | Transformer
"""What the training loop trains."""


class Objective(nn.Module):
    """Cross-entropy of the next token, or of probabilities for it, in nats, the mean over all tokens."""

    def __init__(self, network: Trainable) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """inputs [B, T], targets [B, T] or [B, T, V] and the network's state to the loss and the last state."""
        loss, last = self.network(inputs, state, targets)
        return loss, last


__all__ = ["Objective", "Trainable"]
