"""Describes the processes that train one network together: this process alone, or the processes of torchrun.

    torchrun ─► RANK, WORLD_SIZE ─► Group ─┬─ part: the crops of a batch that this process reads
                                           ├─ first: runs a function (on files) in the first process for all processes
                                           └─ spread: DDP (the whole model in each process) or FSDP2 (parts)

PyTorch does the communication. A batch is the same for any number of processes, because the processes divide its crops
among themselves.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lutern.model_ref.errors import LuternError
from lutern.train.objective import Objective
from lutern.train.options import TrainOptions

Result = TypeVar("Result")

PATIENCE = datetime.timedelta(hours=24)
"""The longest time for which all other processes wait while the first process prepares data or writes files."""


class SilentError(LuternError):
    """An error that this process does not print, because another process prints it."""


@dataclass(frozen=True)
class Group:
    """This process, with the number ``rank`` among ``size`` processes. ``patient`` is the process group that ``first``
    uses, with a long timeout. For a single process, ``patient`` is None."""

    device: torch.device
    rank: int = 0
    size: int = 1
    patient: Any = None

    def first(self, work: Callable[[], Result]) -> Result:
        """Call ``work`` in the first process, and return its result in all processes. If ``work`` raises an error, all
        processes raise an error.
        """
        if self.size == 1:
            return work()
        answer: list[Any] = [None, None]
        failure: BaseException | None = None
        if self.rank == 0:
            try:
                answer = [work(), None]
            except BaseException as error:
                answer, failure = [None, str(error) or type(error).__name__], error
        dist.broadcast_object_list(answer, 0, group=self.patient)
        if failure is not None:
            raise failure
        if answer[1] is not None:
            raise SilentError(answer[1])
        result: Result = answer[0]
        return result

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a value over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def part(self, batch: int, accumulate: int, index: int) -> slice:
        """Return the crops of a batch that this process reads as part ``index`` of its ``accumulate`` parts."""
        count = batch // (self.size * accumulate)
        begin = (self.rank * accumulate + index) * count
        return slice(begin, begin + count)


def refuse_uneven(batch: int, accumulate: int, size: int) -> None:
    """Raise ``LuternError`` if a batch cannot be divided equally among the processes."""
    if batch % (size * accumulate):
        shares = f"{size} processes" if size > 1 else "1 process"
        raise LuternError(
            f"a batch of {batch} crops cannot be shared equally by {shares} in accumulate={accumulate} parts each; "
            f"give a multiple of {size * accumulate} with --set batch=N."
        )


@contextmanager
def opened(name: str) -> Iterator[Group]:
    """Open the group of torchrun's processes, or of this process alone. ``name`` is "cpu", "cuda" or "auto".

    Raises ``LuternError`` if there is no GPU for a process.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise LuternError("training: device is cuda, but PyTorch sees no GPU; use cpu or auto.")
    kind = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    size = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_available() else 1
    if size == 1:
        yield Group(torch.device(kind))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise LuternError(
                f"process {local} of this computer has no GPU of its own: there are {torch.cuda.device_count()}; start "
                f"torchrun with --nproc-per-node {torch.cuda.device_count()}, or train with --device cpu."
            )
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Group(device, dist.get_rank(), size, dist.new_group(backend="gloo", timeout=PATIENCE))
    finally:
        dist.destroy_process_group()


def pieces(objective: Objective) -> list[nn.Module]:
    """Return the layers. Each layer is recomputed, compiled and divided among processes as one piece."""
    return list(objective.network.layers)


def spread(objective: Objective, group: Group, options: TrainOptions, compiled: bool) -> nn.Module:
    """Return the module to call during training. With "fsdp", ``objective`` keeps only this process's part of each
    parameter."""
    if options.checkpoint_activations:
        for piece in pieces(objective):
            _compute_again(piece)
    if group.size == 1:
        called: Any = torch.compile(objective, fullgraph=True) if compiled else objective
        return called  # type: ignore[no-any-return]
    if compiled:
        for piece in pieces(objective):
            piece.compile(fullgraph=True)
    if options.parallel == "ddp":
        return nn.parallel.DistributedDataParallel(objective)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(group.device.type, (group.size,))
    for piece in pieces(objective):
        fully_shard(piece, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


def gradients_stay(module: nn.Module, stay: bool) -> Any:
    """Return a context. If ``stay`` is set, each process adds its gradients in this context, but exchanges no
    gradients."""
    sharded: Any = module
    if hasattr(sharded, "set_requires_gradient_sync"):
        sharded.set_requires_gradient_sync(not stay)
    elif stay and isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def _compute_again(module: nn.Module) -> None:
    """Keep only a module's inputs for the gradient, and compute the module again in backward. The names of its
    parameters do not change."""
    plain = module.forward

    def forward(*inputs: Any) -> Any:
        return checkpoint(plain, *inputs, use_reentrant=False)

    module.forward = forward  # type: ignore[method-assign]


__all__ = ["Group", "SilentError", "gradients_stay", "opened", "pieces", "refuse_uneven", "spread"]
