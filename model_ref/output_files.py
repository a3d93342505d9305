"""Writes files and folders that appear whole or not at all.

    made next to its place, under a name that begins with UNFINISHED, and locked ─► whole ─► renamed to its place
        │ error, Ctrl-C, SIGTERM: removed                    │ SIGKILL, power failure: the lock ends with the process
        ▼                                                    ▼
      nothing is left                     the next output that is begun in that folder removes it

The lock (flock) shows, on this machine and to every user, whether the process that writes is still alive. On a file
system without locks, nothing that another process left is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lutern.model_ref.errors import LuternError

UNFINISHED = ".lutern-"
"""Names of unfinished files and folders begin with this."""
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
"""Errors of the system when nothing more can be written: a full disk, a quota, `ulimit -f`."""
_DEVICES = ("/dev/", "/proc/")
_MEMORY = "/dev/shm/"


def refused_output(path: Path, error: OSError) -> LuternError:
    """Return the ``LuternError`` for an output that cannot be written."""
    if error.errno == errno.ENAMETOOLONG:
        return LuternError(f"the name {path.name[:40]}... is too long for a file; give another.")
    return LuternError(
        f"{path} cannot be written ({error.strerror or error}); choose a folder that exists and has room."
    )


def output_file(path: Path) -> Path:
    """Return the path that an output will replace: the target of a link, else ``path``.

    Raises ``LuternError`` if something is there that a new file may not replace: a device, a pipe, a folder.
    """
    place, full = Path(os.path.realpath(path)), os.path.abspath(path)
    if full.startswith(_DEVICES) and not full.startswith(_MEMORY):  # /dev/stdout may lead to a plain file
        raise LuternError(f"{path} is no plain file, so an output cannot replace it; give the name of a file.")
    try:
        os.lstat(place)
    except FileNotFoundError:
        return place
    except OSError as error:
        raise refused_output(path, error) from error
    if not place.is_file():
        what = "a folder" if place.is_dir() else "no plain file"
        raise LuternError(f"{path} is {what}; give the name of a file.")
    return place


def _lock(path: str | Path) -> int | None:
    """Return a descriptor that holds the lock of a file or folder; None if another process has it or there are no
    locks."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(number), os.lstat(path)):  # otherwise the file was removed before it was locked
            return number
    except OSError:
        pass
    os.close(number)
    return None


def clear_unfinished(folder: Path) -> None:
    """Remove the files that ended processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(UNFINISHED):
                continue
            number = _lock(entry.path)
            if number is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)
            os.close(number)


def _begin(place: Path) -> tuple[Path, int | None]:
    """Return a new unfinished folder and its lock; the folder is made again if another process removed it before it was
    locked."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place))
        number = _lock(work)
        if number is not None or work.exists():
            return work, number


@contextmanager
def unfinished_folder(place: Path) -> Iterator[Path]:
    """Give a new folder inside ``place`` for unfinished work; it is removed at the end unless it was renamed."""
    clear_unfinished(place)
    work, number = _begin(place)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if number is not None:
            os.close(number)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that appears whole or not at all: it is written next to ``path``, then renamed, so no reader sees
    half of it.

    Raises ``LuternError`` if it cannot be written.
    """
    target = output_file(path)
    try:
        with unfinished_folder(target.parent) as work:
            whole = work / "whole"
            with whole.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(whole, target)
    except OSError as error:
        raise refused_output(path, error) from error


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a small file that appears whole or not at all; text is written as UTF-8."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


__all__ = [
    "FULL",
    "UNFINISHED",
    "atomic_file",
    "clear_unfinished",
    "output_file",
    "refused_output",
    "unfinished_folder",
    "write_whole",
]
