"""The command that installs the packages of an extra: of the clone that this runs from, since no index has Lutern."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """Return what to type, from any folder."""
    place = str(_ROOT) if (_ROOT / "pyproject.toml").is_file() else "CLONE"
    return f"{shlex.quote(sys.executable)} -m pip install -e {shlex.quote(f'{place}[{extra}]')}"


__all__ = ["install_command"]
