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
_WASM_CACHES = ("YoWASP", "wasmtime")
"""Folders of the user's cache that the tools' packages use."""
_STALE_SECONDS = 6 * 3600.0


def cache_folder(kind: str) -> Path:
    """Where results of a kind are kept: under LUTERN_CACHE, which may begin with ~, else under ~/.cache/lutern."""
    return expanded(os.environ.get("LUTERN_CACHE") or "~/.cache/lutern", "LUTERN_CACHE") / kind


def expanded(path: str, variable: str) -> Path:
    """The absolute path that an environment variable means; a ~ at its start is a home folder."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # nobody has that name, or this user has no home
        raise LuternError(f"{path} begins with no known home folder; set {variable} to an absolute path.") from None


def refusal_to_write(folder: Path) -> str | None:
    """Why nothing can be written into a folder, which is made if it is not there; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    return None


def require_writable(folder: Path, what: str = "Nothing can be built") -> None:
    """Refuse a folder of the cache in which nothing can be written, before there is anything to write."""
    if reason := refusal_to_write(folder):
        raise LuternError(
            f"{what} in {folder} ({reason}); make that folder writable or set LUTERN_CACHE to another one."
        )


def wasm_environment() -> dict[str, str]:
    """What WebAssembly tools need in their environment.

    They keep what they compiled for this machine in the user's cache folder, or under LUTERN_CACHE where that folder
    cannot be written.
    """
    with contextlib.suppress(LuternError):
        own = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "HOME")
        if all(refusal_to_write(own / name) is None for name in _WASM_CACHES):
            return {}
    folder = cache_folder("wasm")
    require_writable(folder)
    return {"XDG_CACHE_HOME": str(folder)}


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
        require_writable(folder.parent)
        prune(folder.parent, 0, "building-*", older_than_seconds=_STALE_SECONDS)
        work = Path(tempfile.mkdtemp(prefix="building-", dir=folder.parent))
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
