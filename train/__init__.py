"""Where weights come from: training in PyTorch (an optional extra), from a text or a data set to a checkpoint folder.

``TrainOptions`` needs no PyTorch; ``train`` imports it when called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lutern.model_ref.errors import LuternError
from lutern.train.options import TrainOptions

__all__ = ["ProcessError", "TrainOptions", "benchmark", "speaks", "train", "want_torch"]


class ProcessError(LuternError):
    """An error of one process among several, which it says itself; any other error the first process says for all."""


def speaks(error: LuternError) -> bool:
    """Whether this process is to say an error, as torchrun numbers the processes."""
    return isinstance(error, ProcessError) or os.environ.get("RANK", "0") == "0"


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on a text, a data set or token numbers (sources.py), write its checkpoint to ``out_dir`` and return
    the report; {} in every process that torchrun started but the first."""
    want_torch()
    from lutern.train import trainer

    return trainer.train(text_path, out_dir, options)


def benchmark(baseline: str = "") -> Iterator[str]:
    """Lines of what training and decoding cost here, ``baseline`` (a folder, or "fla") beside them."""
    want_torch()
    from lutern.train.benchmark import tables

    return tables(baseline)


def want_torch() -> None:
    """Refuse where PyTorch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise LuternError("training needs PyTorch, which is not installed; run pip install 'lutern[train]'.") from error
