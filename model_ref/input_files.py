"""Opens the files that a user names, and refuses every path that is no plain file.

    path ─┬─ a folder, named pipe, socket or device ─► error message
          ├─ a link that leads to no file           ─► error message
          ├─ a file that is too large               ─► error message
          └─ any other plain file                   ─► its bytes

Opening a named pipe without a writer would block forever, and a device may have no end. The largest allowed size limits
the memory that a reader needs.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from lutern.model_ref.errors import LuternError

_PART_BYTES = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def require_plain(path: Path, wanted: str) -> None:
    """Refuse a path that exists and is no plain file. This function does not refuse a path that does not exist, because
    the reader of the path reports this error."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if path.is_symlink():
            raise LuternError(
                f"{path} is a link that leads to no file; fetch the {wanted} itself, or correct the link."
            ) from None
        return
    _require_plain(mode, path, wanted)


def _require_plain(mode: int, path: Path, wanted: str) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise LuternError(f"{path} is {kind}, no plain file, so it is no {wanted}; give a {wanted}.")


def open_plain(path: Path, wanted: str) -> BufferedReader:
    """Open a plain file to read its bytes.

    Raises ``OSError`` if the file cannot be opened, and ``LuternError`` if it is no plain file.
    """
    require_plain(path, wanted)
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not block on a pipe
    file = os.fdopen(number, "rb")
    try:
        _require_plain(os.fstat(number).st_mode, path, wanted)
    except LuternError:
        file.close()
        raise
    return file


def read_plain(path: Path, most_bytes: int, wanted: str) -> bytes:
    """Return all bytes of a plain file of at most ``most_bytes``. Raises ``OSError`` if the file cannot be read."""
    too_large = LuternError(f"{path} is larger than {most_bytes} bytes, so it is no {wanted}; give a {wanted}.")
    content = bytearray()
    with open_plain(path, wanted) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise too_large
        while part := file.read(_PART_BYTES):
            content += part
            if len(content) > most_bytes:  # a file of /proc may have more bytes than its size says
                raise too_large
    return bytes(content)


__all__ = ["open_plain", "read_plain", "require_plain"]
