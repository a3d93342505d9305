"""Results of long tools, kept by content under LUTERN_CACHE: costs of blocks, netlists, placements, bitstreams.

    inputs ─► digest ─► folder ── there? ──► used
                           └── not there ──► made in a folder of its own ─► renamed when it is complete

Two processes may make the same, and Ctrl-C leaves nothing half-written. What fails leaves its log and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lutern.model_ref.errors import LuternError

LOG = "build.log"
"""Where tools write what they say."""
_STALE_SECONDS = 6 * 3600.0


def cache_folder(kind: str) -> Path:
    """Where results of a kind are kept."""
    return Path(os.environ.get("LUTERN_CACHE") or Path.home() / ".cache" / "lutern") / kind


def digest(*parts: str) -> str:
    """SHA-256 over ``parts``, each with its length, in hexadecimal; short enough for the name of a folder."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


def kept_result(folder: Path, wanted: tuple[str, ...], run: Callable[[Path], None], what: str, failed_log: str) -> Path:
    """``folder`` with the files ``wanted`` and the log, which ``run`` makes in a folder that it is given, unless they
    are there.

    ``what`` begins the sentence of a failure, which names the log, kept as ``failed_log``. The folder counts as just
    used, see ``prune``.
    """
    if not _holds(folder, wanted):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            prune(folder.parent, 0, "building-*", older_than_seconds=_STALE_SECONDS)
            work = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
        except OSError as error:
            raise LuternError(
                f"Nothing can be built in {folder.parent} ({error.strerror}); make that folder writable "
                "or set LUTERN_CACHE to another one."
            ) from None
        try:
            _make(work, wanted, run, what, folder.parent / failed_log)
            work.chmod(0o755)  # mkdtemp's is for one user
            if not _holds(folder, wanted):
                shutil.rmtree(folder, ignore_errors=True)  # somebody took files away, or an older release kept fewer
            with contextlib.suppress(OSError):  # refused where another process was first: its result is as good
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def _holds(folder: Path, wanted: tuple[str, ...]) -> bool:
    return all((folder / name).exists() for name in wanted)


def _make(work: Path, wanted: tuple[str, ...], run: Callable[[Path], None], what: str, failed_log: Path) -> None:
    try:
        run(work)
        for name in wanted:
            if not (work / name).exists():
                raise LuternError(f"No {name} was written.")
    except (LuternError, OSError) as error:
        text = f"{error.strerror} ({error.filename})." if isinstance(error, OSError) else str(error)
        if (work / LOG).exists():
            with contextlib.suppress(OSError):
                shutil.copy(work / LOG, failed_log)
            text += f" Read the log {failed_log}."
        raise LuternError(f"{what}: {text}") from None
    for item in work.iterdir():  # netlists are many times as large as what is wanted of them
        if item.name not in (*wanted, LOG):
            item.unlink()


def prune(folder: Path, keep: int, pattern: str = "[!.]*", older_than_seconds: float = 0.0) -> None:
    """Keep the newest `keep` folders of those in `folder` that match, and all that are younger than that."""
    aged = []
    for entry in folder.glob(pattern):
        try:
            aged.append((entry.stat().st_mtime, entry))
        except FileNotFoundError:
            continue  # another process tidies too
    for modified, entry in sorted(aged, reverse=True)[keep:]:
        if entry.is_dir() and time.time() - modified >= older_than_seconds:
            shutil.rmtree(entry, ignore_errors=True)
