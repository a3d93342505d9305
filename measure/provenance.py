"""Describes where figures come from: version, commit, command, date, computer, and digests of what was measured."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from lutern.hw.config import HwConfig
from lutern.model_ref.config import ModelConfig

Facts = list[tuple[str, str]]
"""(name, value), in the order in which they are shown."""
SECONDS = 10
"""Longest time to wait for git, which answers immediately unless its files are on a slow network."""
_BLOCK_BYTES = 1 << 20


def provenance(
    models: Iterable[tuple[str, ModelConfig, Iterable[Path]]] = (), machines: Iterable[HwConfig] = ()
) -> Facts:
    """Return the origin of a measurement: version, commit, command, date, computer. ``models`` has the name,
    config and files of each model."""
    facts = [
        ("version", f"lutern {metadata.version('lutern')}"),
        ("commit", commit()),
        ("command", shlex.join(["lutern", *sys.argv[1:]])),
        ("date", datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")),
        ("computer", computer()),
    ]
    facts += [
        (f"model {name}", f"config {config.digest}, files sha256 {digest_of(files)}") for name, config, files in models
    ]
    return facts + [(f"machine {config.name}", config.digest) for config in machines]


def commit() -> str:
    """Return the commit of the checkout that contains this package, and whether its files were changed since."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "none: installed without its repository"
    found = _git(root, "rev-parse", "HEAD")
    if not found:
        return "unknown: git does not say"
    return f"{found}, with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else found


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def computer() -> str:
    """Return processor, cores, system and Python of this computer."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{names[0] if names else processor}, {os.cpu_count()} cores, {system}"


def digest_of(files: Iterable[Path]) -> str:
    """Return SHA-256 over the content of files in the order of their names; "none" if there are no files."""
    found, count = hashlib.sha256(), 0
    for path in sorted(files, key=lambda path: path.name):
        count += 1
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
    return found.hexdigest() if count else "none"


__all__ = ["Facts", "commit", "computer", "digest_of", "provenance"]
