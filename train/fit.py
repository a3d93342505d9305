"""Runs the training loop: AdamW, warm-up and cosine, clipped gradients, and saves from which a run can be resumed.

    loss = cross-entropy of the next token (or of the teachers' probabilities for it), in nats

    step ─► batch ─► crops of this process, in ``accumulate`` parts ─► gradients ─► mean over parts and processes

The random numbers of a step (for crops and dropout) depend only on the seed and the step's number, so a resumed run
equals an uninterrupted run. Several processes together read the same batch as a single process. Without dropout, the
result of several processes differs only by the order of sums.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lutern.train.distributed import Group, gradients_stay, spread
from lutern.train.failures import refuse_nonsense
from lutern.train.gpus import peak_flops, training_flops
from lutern.train.graph import GraphedStep
from lutern.train.objective import Objective, Trainable
from lutern.train.options import TrainOptions
from lutern.train.outputs import last_save, read_state
from lutern.train.progress import Progress
from lutern.train.saves import restore, store

Draw = Callable[[int, slice], tuple[Tensor, Tensor]]
"""A function that is called with a step and a slice of crops in its batch. The function returns inputs [B, n], and
targets [B, n] or [B, n, K, 2], for B crops of n tokens and K targets for each token.
"""
Record = list[dict[str, float]]
VALIDATION_STREAMS = 64
VALIDATION_LOGITS = 1 << 26  # the largest number of logits in a chunk
LOOK_EVERY = 100
"""After every such number of steps, all processes check that the loss is a number."""


@dataclass(frozen=True)
class Schedule:
    """The length and the learning rates of one training. ``TrainOptions`` describes the fields."""

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    seed: int
    halved: bool = False

    def rate(self, step: int) -> float:
        """Return the learning rate of a step. The rate rises linearly to ``learning_rate``, then follows half a cosine
        to zero. If ``halved`` is set, the rate is divided by two in the second half of the steps."""
        factor = 0.5 if self.halved and 2 * step >= self.steps else 1.0
        if step < self.warmup_steps:
            return factor * self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return factor * self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Run:
    """One network to train.

    name: the name of the run in the lines of progress.
    saves: the folder of the saves. A save stores ``settings``, and can be resumed only with equal settings.
    validation: tokens [n].
    per_character: the average number of tokens in a character of the validation text.
    noted: a function that is called with the record after every validation.
    """

    network: Trainable
    schedule: Schedule
    draw: Draw
    name: str
    saves: Path
    settings: dict[str, Any]
    validation: Tensor
    per_character: float = 1.0
    ahead: tuple[int, ...] = ()
    noted: Callable[[Record], None] | None = None


@dataclass
class _Course:
    """The progress of a run: number of steps done, running mean of the loss, validation record."""

    done: int
    average: Tensor
    record: Record = field(default_factory=list)

    def add(self, loss: Tensor) -> None:
        self.average = loss if self.done == 0 else torch.lerp(self.average, loss, 0.02)
        self.done += 1


def fit(run: Run, group: Group, options: TrainOptions) -> Record:
    """Train the network of ``run`` in place. Return its validation record, in bits per character.

    Raises ``LuternError`` if the loss is no number, or if a save cannot be resumed.
    """
    network, schedule = run.network, run.schedule
    fused = network.is_fused()  # torch.compile cannot speed up a network that runs through the kernels
    compiled = not fused and (group.device.type == "cuda" if options.compile is None else options.compile)
    objective = Objective(network)
    called = spread(objective, group, options, compiled)
    optimizer = make_optimizer(network, schedule.weight_decay)
    at_once = group.size == 1 and options.accumulate == 1 and not options.checkpoint_activations
    graphed = graphed_step(called, network) if group.device.type == "cuda" and (fused or compiled) and at_once else None
    course = _begin(run, optimizer, group, options)
    meter = _Meter(run, group, options, course.done)
    network.train()
    while course.done < schedule.steps:
        step = course.done
        for part in optimizer.param_groups:
            part["lr"] = schedule.rate(step)
        optimizer.zero_grad(set_to_none=True)
        course.add(_gradients(run, called, step, group, options, graphed))
        nn.utils.clip_grad_norm_(network.parameters(), schedule.gradient_clip)
        optimizer.step()
        last = course.done == schedule.steps
        saved, validated = (last or course.done % every == 0 for every in (options.save_every, options.validate_every))
        if saved or validated or course.done % LOOK_EVERY == 0:
            refuse_nonsense(float(course.average), course.done, run.saves)
        if validated:
            bits = validation_bits(objective, run.validation, group, run.ahead) * run.per_character
            loss = float(course.average) / math.log(2) * run.per_character
            course.record.append({"step": course.done, "loss_bits": loss, "validation_bits": bits})
            if run.noted is not None:
                run.noted(course.record)
        meter.show(course, end=last)
        if saved:
            state = {"settings": run.settings, "step": course.done, "average": float(course.average)}
            store(run.saves, network, optimizer, {**state, "record": course.record}, group)
    network.eval()
    return course.record


def _begin(run: Run, optimizer: torch.optim.Optimizer, group: Group, options: TrainOptions) -> _Course:
    """Begin a run from its last save if ``resume`` is set, else from step 0. Print the step of a resumed run."""
    save = group.first(lambda: last_save(run.saves)) if options.resume else None
    if save is None:
        return _Course(0, torch.zeros((), device=group.device))
    state = group.first(lambda: read_state(save, run.settings))
    restore(save, run.network, optimizer, group)
    step = int(state["step"])
    if group.rank == 0:
        Progress.say(f"{run.name}: continuing from step {step:,} of {run.schedule.steps:,} ({save})")
    return _Course(step, torch.tensor(state["average"], device=group.device), list(state["record"]))


def graphed_step(called: nn.Module, network: Trainable) -> GraphedStep:
    """Return the training step of a single process as one CUDA graph."""

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        with half_precision(network):
            loss: Tensor = called(inputs, targets, network.initial_state(len(inputs)))[0]
        return loss

    return GraphedStep(loss_of, list(network.parameters()))


def _gradients(
    run: Run, called: nn.Module, step: int, group: Group, options: TrainOptions, graphed: GraphedStep | None
) -> Tensor:
    """Accumulate the gradients of a step's batch. Return its loss, which is the mean over all processes."""
    total = torch.zeros((), device=group.device)
    for index in range(options.accumulate):
        torch.manual_seed(run.schedule.seed * 1_000_003 + step + 7_919 * (group.rank * options.accumulate + index))
        inputs, targets = run.draw(step, group.part(run.schedule.batch, options.accumulate, index))
        if graphed is not None:
            return graphed(inputs, targets)
        with gradients_stay(called, index + 1 < options.accumulate):
            with half_precision(run.network):
                loss, _ = called(inputs, targets, run.network.initial_state(len(inputs), total))
            (loss / options.accumulate).backward()
        total += loss.detach() / options.accumulate
    return group.mean(total)


class _Meter:
    """Prints the line of progress: loss, speed, share of the GPU's peak rate, memory."""

    def __init__(self, run: Run, group: Group, options: TrainOptions, done: int) -> None:
        self._run, self._group = run, group
        self._progress = Progress(run.name, run.schedule.steps)
        self._tokens = run.schedule.batch * options.sequence_length
        self._shown, self._since_s = done, time.monotonic()
        self._peak = peak_flops(torch.cuda.get_device_name(group.device)) if group.device.type == "cuda" else None

    def show(self, course: _Course, end: bool) -> None:
        """Print the line if it is due or if ``end`` is set."""
        if self._group.rank or not (end or self._progress.due):
            return
        now = time.monotonic()
        speed = (course.done - self._shown) * self._tokens / max(now - self._since_s, 1e-9)
        self._shown, self._since_s = course.done, now
        loss = float(course.average)
        parts = [f"loss {loss:.4f}", f"{loss / math.log(2) * self._run.per_character:.4f} bits/character"]
        if course.record:
            parts.append(f"validation {course.record[-1]['validation_bits']:.4f}")
        parts.append(f"{speed:,.0f} tokens/s")
        if self._peak:
            share = speed * training_flops(self._run.network.config.trits) / (self._peak * self._group.size)
            parts.append(f"{share:.1%} of peak")
        parts.append(f"{_memory_bytes(self._group.device) / 2**30:.1f} GiB")
        self._progress.show(course.done, "  ".join(parts), end=end)


def _memory_bytes(device: torch.device) -> int:
    """Return the largest number of bytes of memory that this process has used at a time: on the GPU, or on the computer
    if the device is no GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def half_precision(network: Trainable) -> Iterator[None]:
    """Use bfloat16 products for a float network on a GPU. A ternary network uses TF32, which is exact for its integers.

    The converted weights are not cached, because a step that is recorded as a graph must convert the weights each time
    that it runs.
    """
    on = network.lm_head.weight.is_cuda and not network.ternary
    with torch.autocast("cuda", torch.bfloat16, enabled=on, cache_enabled=False):
        yield


@torch.no_grad()
def validation_bits(objective: Objective, ids: Tensor, group: Group, ahead: tuple[int, ...] = ()) -> float:
    """Return bits per token by the method of model_ref/evaluate.py, but with all tokens of a chunk in one call.

    The tokens are divided into streams, and each process evaluates some of these streams. The result is used during
    training and in the training record. model_ref/evaluate.py itself computes the figure of a finished checkpoint.
    """
    network = objective.network
    was_training = network.training
    network.eval()
    length = len(ids) // VALIDATION_STREAMS
    rows = ids[: length * VALIDATION_STREAMS].view(VALIDATION_STREAMS, length)[group.rank :: group.size]
    begin = torch.tensor(ahead, dtype=rows.dtype, device=rows.device).expand(len(rows), -1)
    inputs = torch.cat([begin, rows], 1)
    skipped = max(0, len(ahead) - 1)  # of the tokens ``ahead``, only the last token predicts a token of the text
    state = network.initial_state(len(rows), torch.zeros((), device=group.device))
    nats, counted = torch.zeros((), dtype=torch.float64, device=group.device), 0
    if skipped:
        with half_precision(network):
            _, state = objective(inputs[:, :skipped], inputs[:, 1 : 1 + skipped], state)
    most = VALIDATION_LOGITS // (VALIDATION_STREAMS * network.config.vocab_size)
    chunk = max(1, min(network.validation_chunk, most))
    for start in range(skipped, inputs.shape[1] - 1, chunk):
        wanted = inputs[:, start + 1 : start + 1 + chunk]
        with half_precision(network):
            loss, state = objective(inputs[:, start : start + wanted.shape[1]], wanted, state)
        nats += loss.double() * wanted.numel()
        counted += wanted.shape[1] * VALIDATION_STREAMS
    network.train(was_training)
    return float(group.mean(nats)) * group.size / counted / math.log(2)


def make_optimizer(network: Trainable, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay for matrices. Gains and bounds, which have a natural size, do not decay."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and not n.endswith("lower_bounds")]
    others = [p for n, p in network.named_parameters() if p.ndim != 2 or n.endswith("lower_bounds")]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=matrices[0].is_cuda)


__all__ = [
    "Draw",
    "Record",
    "Run",
    "Schedule",
    "fit",
    "graphed_step",
    "half_precision",
    "make_optimizer",
    "validation_bits",
]
