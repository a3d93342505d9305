"""Measures a training step with several processes, by running the parts of the training loop on random token numbers.

    python -m lutern.train.processes 370M:16:ddp 1.3B:8:ddp                                one process
    torchrun --nproc-per-node 2 -m lutern.train.processes 370M:16:ddp 1.3B:8:fsdp          two processes

An argument is SHAPE:CROPS:PARALLEL, with the number of crops in each process. A single process runs a step as one CUDA
graph, as ``fit`` does. Several processes launch their kernels one after another, so with few crops the GPU waits for
the CPU. A time is the median of ``REPEATS`` measurements of ``STEPS`` steps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError, quoted
from lutern.train.benchmark import LENGTH, SHAPES, Row
from lutern.train.distributed import Group, opened, spread
from lutern.train.fit import graphed_step, make_optimizer
from lutern.train.gpus import peak_flops, training_flops
from lutern.train.network import Network
from lutern.train.objective import Objective
from lutern.train.options import PARALLEL, TrainOptions

WARM_UP, REPEATS, STEPS = 4, 3, 5


def measure(shape: str, crops: int, parallel: str, group: Group, length: int = LENGTH) -> Row:
    """Return the row of the table: the milliseconds per step and the tokens/s of all processes together, and the memory
    of this process."""
    config = SHAPES[shape]
    torch.manual_seed(1)
    step = _step_of(config, crops, parallel, group, length)
    for _ in range(WARM_UP):
        step()
    times = []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        if group.size > 1:
            torch.distributed.barrier()
        begin_s = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin_s) / STEPS)
    seconds, tokens = median(times), crops * group.size * length
    peak = peak_flops(torch.cuda.get_device_name())
    share = training_flops(config.trits) * tokens / seconds / (peak * group.size) if peak else None
    gib = torch.cuda.max_memory_allocated() / 2**30
    return Row(shape, crops * group.size, f"{parallel} x {group.size}", seconds * 1e3, gib, tokens / seconds, share)


def _step_of(config: ModelConfig, crops: int, parallel: str, group: Group, length: int) -> Callable[[], None]:
    """Return a function that runs one step of the training loop, always on the same batch."""
    options = TrainOptions(batch=crops * group.size, parallel=parallel, sequence_length=length, dropout=0.0)
    network = Network(config).to(group.device).train()
    called = spread(Objective(network), group, options, compiled=False)
    optimizer = make_optimizer(network, options.weight_decay)
    graphed = graphed_step(called, network) if group.size == 1 and network.is_fused() else None
    ids = torch.randint(config.vocab_size, (crops, length + 1), device=group.device)
    inputs, targets = ids[:, :-1], ids[:, 1:]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        if graphed is not None:
            graphed(inputs, targets)
        else:
            called(inputs, targets, network.initial_state(crops, torch.zeros((), device=group.device)))[0].backward()
        nn.utils.clip_grad_norm_(network.parameters(), options.gradient_clip)
        optimizer.step()

    return step


def parse_case(text: str) -> tuple[str, int, str]:
    """Parse SHAPE:CROPS:PARALLEL. Raises ``LuternError`` for any other text."""
    parts = text.split(":")
    if len(parts) != 3 or parts[0] not in SHAPES or not parts[1].isdigit() or parts[2] not in PARALLEL:
        wanted = f"SHAPE:CROPS:PARALLEL with a shape of {', '.join(SHAPES)} and {' or '.join(PARALLEL)}"
        raise LuternError(f"{quoted(text)} is no case; give {wanted}, such as 370M:16:ddp.")
    return parts[0], int(parts[1]), parts[2]


def main(arguments: list[str]) -> None:
    """Measure each case. The first process prints the rows."""
    cases = [parse_case(text) for text in arguments]
    torch.set_float32_matmul_precision("high")
    with opened("cuda") as group:
        for case in cases:
            row = measure(*case, group)
            if group.rank == 0:
                print(row, flush=True)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except LuternError as error:
        sys.exit(f"Error: {error}")
