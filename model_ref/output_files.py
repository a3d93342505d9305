"""Writes files and folders that appear complete or not at all.

    1. make a locked folder next to the output, with a name that begins with UNFINISHED
    2. write the output into this folder
    3. rename the output to its place, and remove the folder
       after an error, Ctrl-C or SIGTERM:       this process removes the folder
       after SIGKILL or a power failure:        the next output in the same place removes the folder, because the lock
                                                ended with the process

The lock (flock) shows to all users of this computer whether the process that writes is alive. On a file system without
locks, files of ended processes are not removed.
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
"""The beginning of the names of unfinished files and folders."""
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
"""The system errors for a full disk, a quota, and `ulimit -f`."""
_DEVICES = ("/dev/", "/proc/")
_MEMORY = "/dev/shm/"


def refused_output(path: Path, error: OSError) -> LuternError:
    """Return the ``LuternError`` for an output that cannot be written."""
    if error.errno == errno.ENAMETOOLONG:
        return LuternError(f"the name {path.name[:40]}... is too long for a file; give another name.")
    return LuternError(
        f"{path} cannot be written ({error.strerror or error}); choose a folder that exists and has room."
    )


def output_file(path: Path) -> Path:
    """Return the path that an output will replace: the target of a link, else ``path``.

    Raises ``LuternError`` if the path is a device, a pipe or a folder, which a new file must not replace.
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
    """Lock a file or folder, and return the descriptor of the lock. Return None if the path is gone, or if the file
    system has no locks.

    Raises ``BlockingIOError`` if another process has the lock.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(number), os.lstat(path)):  # otherwise the file was removed before it was locked
            return number
    except BlockingIOError:
        os.close(number)
        raise
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
            number = None
            with suppress(BlockingIOError):
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
    """Return a new unfinished folder and its lock.

    If another process has locked or removed the new folder, because it takes it for one of an ended process, make
    another folder.
    """
    while True:
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place))
        with suppress(BlockingIOError):
            number = _lock(work)
            if number is not None or work.exists():
                return work, number


@contextmanager
def unfinished_folder(place: Path) -> Iterator[Path]:
    """Yield a new folder inside ``place`` for unfinished work. At the end, the folder is removed unless it was
    renamed."""
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
    """Yield a file that appears complete or not at all. The file is written next to ``path`` and then renamed, so no
    reader sees an incomplete file.

    Raises ``LuternError`` if the file cannot be written.
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
    """Write a small file that appears complete or not at all. Text is written as UTF-8."""
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
