"""Where weights come from: training in PyTorch (an optional extra), from a text file to a checkpoint folder.

``TrainOptions`` needs no PyTorch; ``train`` imports it when called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lutern.model_ref.errors import LuternError
from lutern.train.options import TrainOptions

__all__ = ["TrainOptions", "train"]


def train(text_path: str | Path, out_dir: str | Path, options: TrainOptions | None = None) -> dict[str, Any]:
    """Train a model on a text file (.txt or .txt.xz), write its checkpoint to ``out_dir`` and return the report."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise LuternError("training needs PyTorch, which is not installed; run pip install 'lutern[train]'.") from error
    from lutern.train import trainer

    return trainer.train(text_path, out_dir, options)
