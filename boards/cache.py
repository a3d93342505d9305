"""Keeps results of slow tools by a digest under LUTERN_CACHE: costs of blocks, netlists, placements, bitstreams.

    inputs ─► digest ─► folder ── there and complete? ──► used
                           └── missing or damaged ──► made in a temporary folder ─► sealed ─► renamed

A seal contains the SHA-256 of each file of a folder. A file is compared with its SHA-256 when it is used, which takes
1 ms per megabyte. Two processes may make the same result at the same time, and Ctrl-C leaves no unfinished result. A
step that fails leaves only its log.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lutern.model_ref.cache_folder import cache_folder, expanded
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import open_plain, read_plain
from lutern.model_ref.output_files import FULL, clear_unfinished, unfinished_folder

LOG = "build.log"
"""File that the tools write their output to."""
_WASM_CACHES = ("YoWASP", "wasmtime")
"""Folders of the user's cache that the tools' packages use."""
SEAL = "digests.json"
"""The file in a kept folder with the digests of all its other files."""
_MOST_BYTES = 1 << 26
"""Largest file that is read as a whole."""


def refusal_to_write(folder: Path) -> str | None:
    """Return the reason why nothing can be written into a folder, or None if files can be written into it.

    The folder is made if it does not exist.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    return None


def require_writable(folder: Path, what: str = "Nothing can be built") -> None:
    """Refuse a folder of the cache in which nothing can be written. Call this before the first write."""
    if reason := refusal_to_write(folder):
        raise LuternError(
            f"{what} in {folder} ({reason}); make that folder writable or set LUTERN_CACHE to another one."
        )


def wasm_environment() -> dict[str, str]:
    """Return the environment variables that WebAssembly tools need.

    These tools keep their compiled code in the user's cache folder, or under LUTERN_CACHE if this folder is read-only.
    """
    with contextlib.suppress(LuternError):
        own = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "HOME")
        if all(refusal_to_write(own / name) is None for name in _WASM_CACHES):
            return {}
    folder = cache_folder("wasm")
    require_writable(folder)
    return {"XDG_CACHE_HOME": str(folder)}


def digest(*parts: str) -> str:
    """Return SHA-256 over ``parts``, each with its length, in hexadecimal.

    The result is cut to 32 digits, for the name of a folder.
    """
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


def kept_result(folder: Path, wanted: tuple[str, ...], run: Callable[[Path], None], what: str, failed_log: str) -> Path:
    """Return ``folder`` with the files ``wanted`` and the log; ``run`` makes them if they are missing or damaged.

    ``run`` is called with the folder to which it must write. If ``run`` fails, the message begins with ``what`` and
    names the log, which is kept as ``failed_log``. The folder gets the present time, so that ``prune`` keeps it.
    """
    clear_unfinished(folder.parent)
    if not is_whole(folder, wanted):
        require_writable(folder.parent)
        keep(folder, wanted, lambda work: _make(work, wanted, run, what, folder.parent / failed_log))
    with contextlib.suppress(OSError):
        os.utime(folder)
    return folder


def keep(folder: Path, wanted: tuple[str, ...], make: Callable[[Path], None]) -> None:
    """Make a folder in a temporary place, seal it, and rename it to ``folder``.

    If another process has made a complete ``folder`` in the meantime, that folder stays.
    """
    try:
        with unfinished_folder(folder.parent) as place:
            work = place / "work"
            work.mkdir()
            make(work)
            seal(work)
            if not is_whole(folder, wanted):
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(place / "damaged")
                _put(work, folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise LuternError(
            f"Nothing more can be written in {folder.parent} ({error.strerror}); make room, or set LUTERN_CACHE to "
            "another folder."
        ) from error


def _put(work: Path, folder: Path) -> None:
    """Rename a folder. If another process was faster, the folder of that process stays, because it is equally good."""
    try:
        work.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def seal(folder: Path) -> None:
    """Write the digests of all files of a folder into the file ``SEAL`` of the folder."""
    names = sorted(item.name for item in folder.iterdir() if item.is_file() and item.name != SEAL)
    (folder / SEAL).write_text(json.dumps({name: _digest_of(folder / name) for name in names}, indent=1) + "\n")


def is_whole(folder: Path, names: tuple[str, ...]) -> bool:
    """Return whether these files of a folder are unchanged since the folder was sealed."""
    known = _sealed(folder)
    return all(isinstance(known.get(name), str) and _digest_of(folder / name) == known[name] for name in names)


def _sealed(folder: Path) -> dict[str, Any]:
    """Return the digests in a folder; none if they cannot be read."""
    try:
        found = json.loads(read_plain(folder / SEAL, _MOST_BYTES, "file of digests"))
    except (OSError, ValueError, RecursionError, LuternError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest_of(path: Path) -> str | None:
    """Return SHA-256 of a file, in hexadecimal; None if it cannot be read."""
    try:
        with open_plain(path, "kept file") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, LuternError):
        return None


def kept_text(path: Path) -> str | None:
    """Return the text of a file of a kept folder; None if it is missing or damaged."""
    try:
        content = read_plain(path, _MOST_BYTES, "kept file")
        whole = hashlib.sha256(content).hexdigest() == _sealed(path.parent).get(path.name)
        return content.decode() if whole else None
    except (OSError, ValueError, LuternError):
        return None


def kept_json(path: Path) -> Any:
    """Return the value of a JSON file of a kept folder; None if it is missing or damaged."""
    text = kept_text(path)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def newest(kind: str, pattern: str) -> list[Path]:
    """Return the paths of a kind that match ``pattern``, the newest first."""
    found = []
    for path in cache_folder(kind).glob(pattern):
        with contextlib.suppress(OSError):  # another process may remove it
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


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
    for item in work.iterdir():  # only the wanted files stay, since netlists are many times as large
        if item.name not in (*wanted, LOG):
            item.unlink()


def prune(folder: Path, keep: int, pattern: str = "[!.]*", older_than_seconds: float = 0.0) -> None:
    """Remove all but the newest folders in `folder` whose names match.

    The newest `keep` folders stay, and all folders that are younger than `older_than_seconds`.
    """
    aged = []
    for entry in folder.glob(pattern):
        try:
            aged.append((entry.stat().st_mtime, entry))
        except OSError:
            continue  # another process may remove it, too
    for modified, entry in sorted(aged, reverse=True)[keep:]:
        if entry.is_dir() and time.time() - modified >= older_than_seconds:
            shutil.rmtree(entry, ignore_errors=True)
