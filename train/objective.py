"""What is minimised: the network and its loss as one module, which every pass of several processes goes through."""

from __future__ import annotations

from torch import Tensor, nn

from lutern.train.network import Network


class Objective(nn.Module):
    """Cross-entropy of the next token, or of probabilities for it, in nats, the mean over all tokens."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """inputs [B, T], targets [B, T] or [B, T, V] and state [L, B, d] to the loss and the last state."""
        loss, last = self.network(inputs, state, targets)
        return loss, last


def zero_state(network: Network, streams: int, like: Tensor) -> Tensor:
    """The state at the start of a crop, [L, B, d]; unlike the network's own, also where its parameters are parts."""
    config = network.config
    weight = network.model.embeddings.weight
    return like.new_zeros(config.num_hidden_layers, streams, config.hidden_size, dtype=weight.dtype)


__all__ = ["Objective", "zero_state"]
