"""Where results are kept from one run to the next: under LUTERN_CACHE, else under ~/.cache/lutern."""

from __future__ import annotations

import os
from pathlib import Path

from lutern.model_ref.errors import LuternError


def cache_folder(kind: str) -> Path:
    """Where results of a kind are kept: under LUTERN_CACHE, which may begin with ~, else under ~/.cache/lutern."""
    return expanded(os.environ.get("LUTERN_CACHE") or "~/.cache/lutern", "LUTERN_CACHE") / kind


def expanded(path: str, variable: str) -> Path:
    """The absolute path that an environment variable means; a ~ at its start is a home folder."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # nobody has that name, or this user has no home
        raise LuternError(f"{path} begins with no known home folder; set {variable} to an absolute path.") from None


__all__ = ["cache_folder", "expanded"]
