"""The training loop: AdamW, warm-up and cosine, clipped gradients, saves to resume from.

    loss = cross-entropy of the next character (or of the teachers' probabilities for it), in nats

The random state of a step (its crops, its dropout) comes from the seed and the step's number alone, so a resumed run
equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import atomic_file
from lutern.train.graph import step_by
from lutern.train.network import Network
from lutern.train.progress import Progress

Draw = Callable[[int], tuple[Tensor, Tensor]]  # step to inputs [B, T] and targets [B, T] or [B, T, V]


@dataclass(frozen=True)
class Schedule:
    """How long and how hard one network is trained; fields as in TrainOptions."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    seed: int
    save_every: int
    validate_every: int

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear to the top, then half a cosine to nothing."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    network: Network,
    draw: Draw,
    schedule: Schedule,
    name: str,
    save: Path,
    settings: dict[str, Any],
    resume: bool,
    compiled: bool,
    validation: Tensor | None,
) -> list[dict[str, float]]:
    """Train ``network`` in place and return its validation record.

    ``save`` keeps what resuming needs, with ``settings``, which must be the same then.
    """
    device = network.lm_head.weight.device
    optimizer = _optimizer(network, schedule.weight_decay)
    begin, average = 0, torch.zeros((), device=device)
    record: list[dict[str, float]] = []
    if resume and save.is_file():
        begin, record, average = _restore(save, network, optimizer, settings)
    fused = network.is_fused()
    run: Any = torch.compile(network, fullgraph=True) if compiled and not fused and begin < schedule.steps else network
    parameters = list(network.parameters())
    step_of = step_by(_loss_of(run), parameters, graphed=fused and device.type == "cuda")
    progress = Progress(name, schedule.steps)
    shown_step, shown_s = begin, time.monotonic()
    network.train()
    for step in range(begin, schedule.steps):
        torch.manual_seed(schedule.seed * 1_000_003 + step)  # of dropout
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        inputs, targets = draw(step)
        loss = step_of(inputs, targets)
        torch.nn.utils.clip_grad_norm_(parameters, schedule.gradient_clip)
        optimizer.step()
        average = loss if step == 0 else torch.lerp(average, loss, 0.02)
        done = step + 1
        last = done == schedule.steps
        if validation is not None and (last or done % schedule.validate_every == 0):
            bits = validation_bits(network, validation)
            record.append({"step": done, "loss_bits": float(average) / math.log(2), "validation_bits": bits})
        if last or progress.due:
            now = time.monotonic()
            speed = (done - shown_step) * inputs.numel() / max(now - shown_s, 1e-9)
            shown_step, shown_s = done, now
            text = f"loss {float(average):.4f}  {float(average) / math.log(2):.4f} bits/character"
            if record:
                text += f"  validation {record[-1]['validation_bits']:.4f}"
            progress.show(done, f"{text}  {speed:,.0f} characters/s", end=last)
        if last or done % schedule.save_every == 0:
            _store(save, network, optimizer, settings, done, record, average)
    network.eval()
    return record


def _loss_of(network: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss of inputs and targets, from a state of zeros."""

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with half_precision(network):
            loss: Tensor = network(inputs, network.initial_state(len(inputs)), targets)[0]
        return loss

    return loss_of


@contextmanager
def half_precision(network: Network) -> Iterator[None]:
    """bfloat16 products for a float teacher on a GPU; a ternary network keeps TF32, exact for its integers."""
    on = network.lm_head.weight.is_cuda and not network.lm_head.ternary
    with torch.autocast("cuda", torch.bfloat16, enabled=on):
        yield


@torch.no_grad()
def validation_bits(network: Network, ids: Tensor, streams: int = 64, chunk: int = 512) -> float:
    """Bits per character by the protocol of model_ref/evaluate.py, all characters of a chunk at once.

    Steers and reports training; the figure of a shipped checkpoint comes from model_ref/evaluate.py itself.
    """
    was_training = network.training
    network.eval()
    length = len(ids) // streams
    rows = ids[: length * streams].view(streams, length)
    state = network.initial_state(streams)
    nats = 0.0
    for begin in range(0, length - 1, chunk):
        wanted = rows[:, begin + 1 : begin + 1 + chunk]
        with half_precision(network):
            logits, state = network(rows[:, begin : begin + wanted.shape[1]], state)
        nats += float(F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum"))
    network.train(was_training)
    return nats / ((length - 1) * streams) / math.log(2)


def _optimizer(network: Network, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices; gains and bounds, which have their own natural size, it leaves alone."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and not n.endswith("lower_bounds")]
    others = [p for n, p in network.named_parameters() if p.ndim != 2 or n.endswith("lower_bounds")]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=matrices[0].is_cuda)


def _store(
    path: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
    step: int,
    record: list[dict[str, float]],
    average: Tensor,
) -> None:
    with atomic_file(path) as file:
        torch.save(
            {
                "settings": settings,
                "step": step,
                "record": record,
                "average": average,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
            },
            file,
        )


def _restore(
    path: Path, network: Network, optimizer: torch.optim.Optimizer, settings: dict[str, Any]
) -> tuple[int, list[dict[str, float]], Tensor]:
    try:
        saved = torch.load(path, map_location=network.lm_head.weight.device, weights_only=True)
        before = saved["settings"]
    except Exception as error:  # torch raises many types for a damaged file
        raise LuternError(f"{path} cannot be resumed from ({error}); train anew without resume.") from error
    for name, value in settings.items():
        if before.get(name) != value:
            raise LuternError(
                f"{path} was trained with {name} {before.get(name)!r}, but now it is {value!r}; "
                "resume with the same options or train anew."
            )
    network.load_state_dict(saved["network"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"]), list(saved["record"]), saved["average"]
