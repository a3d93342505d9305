"""Returns the command that installs the packages of an extra. The command names the clone from which this program runs,
since no package index contains Lutern."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """Return the command to type, which works in any folder."""
    place = str(_ROOT) if (_ROOT / "pyproject.toml").is_file() else "CLONE"
    return f"{shlex.quote(sys.executable)} -m pip install -e {shlex.quote(f'{place}[{extra}]')}"


__all__ = ["install_command"]
