"""The network and its loss as one module; with several processes, every forward pass must go through one module."""

from __future__ import annotations

from torch import Tensor, nn

from lutern.train.network import Network


class Objective(nn.Module):
    """Mean cross-entropy in nats, over all tokens, of the next token or of probabilities for it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, targets: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """inputs [B, T], targets [B, T] or [B, T, V] and state [L, B, d] give the loss and the last state."""
        loss, last = self.network(inputs, state, targets)
        return loss, last


def zero_state(network: Network, streams: int, like: Tensor) -> Tensor:
    """The state at the start of a crop, zeros [L, B, d]; it also works if the network's parameters are split."""
    config = network.config
    weight = network.model.embeddings.weight
    return like.new_zeros(config.num_hidden_layers, streams, config.hidden_size, dtype=weight.dtype)


__all__ = ["Objective", "zero_state"]
