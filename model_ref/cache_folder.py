"""Finds the folder in which results are kept between runs: LUTERN_CACHE if it is set, else ~/.cache/lutern."""

from __future__ import annotations

import os
from pathlib import Path

from lutern.model_ref.errors import LuternError


def cache_folder(kind: str) -> Path:
    """Return the folder for results of one kind, below LUTERN_CACHE (which may begin with ~) or else below
    ~/.cache/lutern."""
    return expanded(os.environ.get("LUTERN_CACHE") or "~/.cache/lutern", "LUTERN_CACHE") / kind


def expanded(path: str, variable: str) -> Path:
    """Return the absolute path that the value of an environment variable means. A ~ at its beginning is the home
    folder."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # no user has that name, or this user has no home folder
        raise LuternError(f"{path} begins with no known home folder; set {variable} to an absolute path.") from None


__all__ = ["cache_folder", "expanded"]
