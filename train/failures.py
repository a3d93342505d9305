"""Explains why a run ended: no memory is left, a process was lost, or the loss is no number.

In each case the last save is complete, and the error message says how to continue from this save.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from lutern.model_ref.errors import LuternError
from lutern.train import ProcessError
from lutern.train.distributed import Group
from lutern.train.options import TrainOptions
from lutern.train.outputs import last_save

TERMINATED = 143
"""The exit status of a process that SIGTERM ended. If a process is lost, torchrun ends all other processes with
SIGTERM."""
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|cudaErrorMemoryAllocation", re.IGNORECASE
)
_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|socket|broken pipe|process group|store", re.IGNORECASE)


@contextmanager
def explained(folder: Path, batch: int, options: TrainOptions, group: Group) -> Iterator[None]:
    """Turn errors that end the training of ``folder`` (OUT/training) into error messages of one sentence."""
    try:
        yield
    except SystemExit as error:
        if group.size == 1 or error.code != TERMINATED:
            raise
        raise ProcessError(_lost(folder, group)) from error
    except (RuntimeError, MemoryError) as error:
        if _is_no_memory(error):
            raise ProcessError(_no_memory(batch, options, group)) from error
        if group.size > 1 and (isinstance(error, dist.DistError) or _LOST.search(str(error))):
            raise ProcessError(_lost(folder, group)) from error
        raise


def refuse_nonsense(loss: float, step: int, folder: Path) -> None:
    """Raise ``LuternError`` if the loss is no number."""
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise LuternError(f"the loss is {loss} at step {step}; lower the learning rate ({_how_to_go_on(folder)}).")


def _is_no_memory(error: BaseException) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error))))


def _no_memory(batch: int, options: TrainOptions, group: Group) -> str:
    """Return the error message, which names a setting to change. Settings that cost only time are suggested first."""
    crops = batch // (group.size * options.accumulate)
    if group.device.type == "cuda":
        where = f"the GPU's memory ({torch.cuda.get_device_properties(group.device).total_memory / 2**30:.0f} GiB)"
    else:
        where = "the computer's memory"
    if crops > 1:
        again = options.accumulate + 1
        while batch % (group.size * again):
            again += 1
        remedy = f"give --set accumulate={again}, which trains the same in smaller parts"
    elif not options.checkpoint_activations:
        remedy = "give --set checkpoint_activations=true, which trains the same in more time"
    elif options.teachers and options.synthetic_tokens:
        remedy = "give a smaller N with --set synthetic_tokens=N"
    elif group.size > 1 and options.parallel == "ddp":
        remedy = "give --parallel fsdp, which splits the model among the processes"
    else:
        remedy = f"give a smaller N with --set sequence_length=N (now {options.sequence_length}), or a smaller model"
    which = f"process {group.rank} of {group.size}: " if group.size > 1 else ""
    return f"{which}{where} is too small for {crops} crops of {options.sequence_length} tokens at once; {remedy}."


def _lost(folder: Path, group: Group) -> str:
    return (
        f"process {group.rank} of {group.size} stops, because another process was lost or ended; "
        f"{_how_to_go_on(folder)}."
    )


def _how_to_go_on(folder: Path) -> str:
    save = last_save(folder)
    if save is None:
        return "nothing was saved yet, so begin again"
    return f"--resume continues from step {int(save.name[5:]):,}"


__all__ = ["explained", "refuse_nonsense"]
