"""Compares the losses of the fused and the plain network during training, for several seeds.

For one seed, both networks use the same crops, initial weights and learning rates. Losses are averaged over WINDOW
steps.

spread      the largest difference between the losses of the plain network with two different seeds
difference  the largest difference between the losses of the fused and the plain network with the same seed
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.text import read_text
from lutern.train.graph import step_by
from lutern.train.network import Network
from lutern.train.vocabulary import characters

STEPS, SEEDS, WINDOW = 500, 3, 25
BATCH, LENGTH, RATE, WARM_UP = 32, 512, 4e-3, 50


def spread_of_curves(text: Path, steps: int = STEPS) -> Iterator[str]:
    """Yield a line with some losses of each run, then the spread and the difference. The networks have hidden size 256,
    4 layers, intermediate size 256 and one token per character."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    content = read_text(text)
    tokenizer = characters([content], several=False).tokenizer
    ids = torch.tensor(tokenizer.encode(content), device=device)
    config = ModelConfig(tokenizer.vocab_size, 256, 4, 256)
    curves: dict[tuple[str, int], Tensor] = {}
    for seed in range(SEEDS):
        for what in ("plain", "fused"):
            losses = losses_of(ids, config, what == "fused", seed, steps)
            curve = losses[: steps // WINDOW * WINDOW].view(-1, WINDOW).mean(1)
            curves[what, seed] = curve
            shown = " ".join(f"{loss:.4f}" for loss in curve[:: max(1, len(curve) // 5)])
            yield f"{what}, seed {seed}: {shown} ... {curve[-1]:.4f} nats"
    pairs = list(combinations(range(SEEDS), 2))
    spread = torch.stack([(curves["plain", a] - curves["plain", b]).abs() for a, b in pairs])
    difference = torch.stack([(curves["fused", seed] - curves["plain", seed]).abs() for seed in range(SEEDS)])
    yield f"plain, two seeds: at most {spread.max():.4f} apart, {spread[:, -1].max():.4f} at the end"
    yield f"fused and plain, one seed: at most {difference.max():.4f} apart, {difference[:, -1].max():.4f} at the end"


def losses_of(ids: Tensor, config: ModelConfig, fused: bool, seed: int, steps: int) -> Tensor:
    """Train a network, and return its losses [steps] in nats."""
    torch.manual_seed(seed)
    with ids.device:
        network = Network(config, fused=fused).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.1)
    generator = torch.Generator().manual_seed(seed)

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = network(inputs, network.initial_state(BATCH), targets)[0]
        return loss

    step_of = step_by(loss_of, list(network.parameters()), graphed=ids.is_cuda)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (1 - step / steps)
        begins = torch.randint(len(ids) - LENGTH - 1, (BATCH, 1), generator=generator)
        crops = ids[(begins + torch.arange(LENGTH + 1)).to(ids.device)].long()
        losses.append(step_of(crops[:, :-1], crops[:, 1:]))
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return torch.stack(losses).cpu()
