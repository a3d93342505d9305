"""Saves a run in shards, so that any number of processes can resume it.

    OUT/training/step-N/.metadata, __R_0.distcp   PyTorch's distributed checkpoint: each process writes its part
    OUT/training/step-N/state.json                options, step and validation record; this file is written last

A save is written into an unfinished folder, and renamed when it is complete. Then the earlier save is removed. PyTorch
stores .metadata as a pickle, which can run code. Therefore resume only from your own saves.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as shards
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from lutern.model_ref.errors import LuternError, reason_of
from lutern.model_ref.output_files import refused_output, unfinished_folder
from lutern.train.distributed import Group
from lutern.train.objective import Trainable
from lutern.train.outputs import STATE_FILE, step_folder


def store(
    folder: Path, network: Trainable, optimizer: torch.optim.Optimizer, state: dict[str, Any], group: Group
) -> None:
    """Write a save of the step in ``state`` into OUT/training or OUT/teacher-I.

    Raises ``LuternError`` if the save cannot be written.
    """
    tensors = _tensors(network, optimizer)
    with ExitStack() as stack:

        def begin() -> str:
            try:
                folder.mkdir(exist_ok=True)
                work = stack.enter_context(unfinished_folder(folder)) / "whole"
                work.mkdir()
            except OSError as error:
                raise refused_output(folder, error) from error
            return str(work)

        work = Path(group.first(begin))
        try:
            _quietly(shards.save, tensors, work, group)
        except CheckpointException as error:
            raise _refused(folder, error) from error
        group.first(lambda: _finish(folder, work, state))


def restore(save: Path, network: Trainable, optimizer: torch.optim.Optimizer, group: Group) -> None:
    """Load a save that ``store`` wrote, with any number of processes. Raises ``LuternError`` for a damaged save."""
    tensors = _tensors(network, optimizer)
    try:
        _quietly(shards.load, tensors, save, group)
        set_model_state_dict(network, tensors["network"])
        set_optimizer_state_dict(network, optimizer, tensors["optimizer"])
    except (CheckpointException, Exception) as error:  # torch raises many types for a damaged file
        raise LuternError(
            f"{save} cannot be resumed from ({reason_of(_cause(error))}); train anew in another folder."
        ) from error


def whole_network(network: Trainable, group: Group) -> dict[str, torch.Tensor]:
    """Return all parameters, which are gathered in the first process. In all other processes the result is empty."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=group.size > 1)
    found: dict[str, Any] = get_model_state_dict(network, options=options)
    return found


def _tensors(network: Trainable, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"network": get_model_state_dict(network), "optimizer": get_optimizer_state_dict(network, optimizer)}


def _quietly(act: Any, tensors: dict[str, Any], folder: Path, group: Group) -> None:
    """Save or load without PyTorch's warning about a single process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        act(tensors, checkpoint_id=folder, no_dist=group.size == 1)


def _finish(folder: Path, work: Path, state: dict[str, Any]) -> None:
    """Write the state file, move the save to its place, and remove older saves."""
    try:
        (work / STATE_FILE).write_text(json.dumps(state, indent=1) + "\n")
        place = folder / step_folder(state["step"])
        shutil.rmtree(place, ignore_errors=True)
        os.replace(work, place)
    except OSError as error:
        raise refused_output(folder, error) from error
    for other in folder.glob("step-*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)


def _refused(folder: Path, error: CheckpointException) -> LuternError:
    cause = _cause(error)
    if isinstance(cause, OSError):
        return refused_output(folder, cause)
    return LuternError(f"{folder} cannot be written ({reason_of(cause)}); choose a folder that has room.")


def _cause(error: BaseException) -> BaseException:
    """Return the exception of the first process that failed. PyTorch's ``CheckpointException`` contains it."""
    if isinstance(error, CheckpointException) and error.failures:
        return next(iter(error.failures.values()))[0]
    return error


__all__ = ["restore", "store", "whole_network"]
