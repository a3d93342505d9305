"""`lutern --version`: prints the version and, in a clone, the commit."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 10


def version_text() -> str:
    """Return ``lutern 0.1.0 (commit 0123456789ab)``, with ``-dirty`` if files of the clone were changed."""
    commit = commit_of(_ROOT)
    return f"lutern {metadata.version('lutern')}{f' (commit {commit})' if commit else ''}"


def commit_of(folder: Path) -> str:
    """Return the commit that is checked out in a clone. Return "" if the folder is no clone or git is missing."""
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


__all__ = ["commit_of", "version_text"]
