"""How fast PyTorch decodes on this computer's CPU: a baseline for `lutern bench`."""

from __future__ import annotations

import time

import torch

from lutern.model_ref.config import ModelConfig
from lutern.train.network import Network


@torch.no_grad()
def torch_tokens_per_second(config: ModelConfig, tokens: int) -> float:
    """Tokens a second of the network with random weights, one stream, token by token; no speed depends on values.

    The weights are made ternary anew for every token, as in training.
    """
    torch.manual_seed(1)
    network = Network(config).eval()
    state = network.initial_state(1)
    ids = torch.zeros(1, 1, dtype=torch.long)
    network(ids, state)
    begin = time.perf_counter()
    for _ in range(tokens):
        logits, state = network(ids, state)
        ids = logits[:, -1:].argmax(-1)
    return tokens / (time.perf_counter() - begin)
