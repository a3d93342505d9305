"""Trains models in PyTorch (an optional extra) on a text or a data set, and writes checkpoint folders.

``TrainOptions`` does not need PyTorch. ``train`` imports PyTorch when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from lutern.train.options import TrainOptions

__all__ = ["ProcessError", "TrainOptions", "benchmark", "speaks", "train", "want_torch"]


class ProcessError(LuternError):
    """An error that happened in one of several processes and that this process prints. The first process prints all
    other errors."""


def speaks(error: LuternError) -> bool:
    """Return whether this process prints the error. torchrun passes the number of each process in RANK."""
    return isinstance(error, ProcessError) or os.environ.get("RANK", "0") == "0"


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on a text, a data set or token numbers (sources.py), and write its checkpoint to ``out_dir``.

    Returns the report, or {} in all processes of torchrun except the first. Raises ``LuternError`` without PyTorch, and
    for wrong data or options.
    """
    want_torch()
    from lutern.train import trainer

    return trainer.train(text_path, out_dir, options)


def benchmark(baseline: str = "") -> Iterator[str]:
    """Yield lines with the speed of training and decoding on this computer, and of ``baseline`` (a folder or "fla")."""
    want_torch()
    from lutern.train.benchmark import tables

    return tables(baseline)


def want_torch() -> None:
    """Raise ``LuternError`` if PyTorch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise LuternError(f"training needs PyTorch, which is not installed; run: {install_command('train')}") from error
