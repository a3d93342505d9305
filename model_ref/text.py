"""Reads text and JSON files for every command, with byte-order marks and the line ends of all systems."""

from __future__ import annotations

import codecs
import json
import lzma
import os
from pathlib import Path
from typing import IO, Any

from lutern.model_ref.errors import LuternError, reason_of
from lutern.model_ref.file_kinds import refuse_foreign
from lutern.model_ref.input_files import open_plain, read_plain

MAX_STREAM_BYTES = 1 << 28
"""The largest number of bytes from standard input. A plain file needs no limit."""
MAX_UNPACKED_BYTES = 1 << 30
"""The largest number of bytes that an .xz file may have after unpacking."""
MAX_DICTIONARY_BYTES = 1 << 27
"""The most bytes of memory that unpacking may use. The largest preset of xz needs 65 MB."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # tested before UTF-16, because this mark begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _only_zeros(raw: bytes) -> bool:
    return raw.count(0) == len(raw)


def decode_text(raw: bytes) -> str:
    """Decode bytes in UTF-8, or in the coding of their byte-order mark. The mark is removed, and CR and CR LF become
    newlines.

    Raises ``UnicodeDecodeError`` if the bytes are no such text.
    """
    pairs = len(raw) >= 8 and len(raw) % 2 == 0 and not _only_zeros(raw)
    if pairs and (_only_zeros(raw[::2]) or _only_zeros(raw[1::2])):
        raise UnicodeDecodeError("utf-8", raw, 0, 1, "every second byte is 0, as in UTF-16 without a byte-order mark")
    coding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    return raw.decode(coding).replace("\r\n", "\n").replace("\r", "\n")


def read_stream(file: IO[bytes], name: str) -> bytes:
    """Return all bytes of a pipe. Raises ``LuternError`` after ``MAX_STREAM_BYTES``, since a device may never end."""
    raw = file.read(MAX_STREAM_BYTES + 1)
    if len(raw) > MAX_STREAM_BYTES:
        raise LuternError(f"{name} gives more than {MAX_STREAM_BYTES:,} bytes; give a shorter text, or a plain file.")
    return raw


def read_text(path: str | Path) -> str:
    """Read a text file, plain or .xz, with ``decode_text``. Raises ``LuternError`` if this is not possible."""
    path = Path(path)
    try:
        with open_plain(path, "text file") as file:
            raw = file.read()
        raw = _unpacked(raw, path) if path.suffix == ".xz" else raw
        return decode_text(raw)
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); give a text file, plain or .xz.") from error
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} is no UTF-8 text, plain or .xz ({reason_of(error)}); convert it.") from error


def _unpacked(packed: bytes, path: Path) -> bytes:
    """Return the content of an .xz file. A small file whose content would fill the memory is refused."""
    parts, room = [], MAX_UNPACKED_BYTES
    while packed.strip(b"\0"):
        stream = lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES)
        parts.append(stream.decompress(packed, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise LuternError(
                f"{path} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; unpack it, or give less text."
            )
        if not stream.eof:
            raise lzma.LZMAError("it ends too early")
        packed = stream.unused_data
    return b"".join(parts)


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """Return the object in a JSON file of at most ``largest`` bytes. If the file does not exist, the object is empty.

    Raises ``LuternError`` if the file contains anything else.
    """
    if not os.path.lexists(path):
        return {}
    refuse_foreign(path, "JSON file of a checkpoint")
    try:
        values = json.loads(decode_text(read_plain(path, largest, "JSON file of a checkpoint")))
        json.dumps(values, ensure_ascii=False).encode()  # refuses single surrogates, which are no characters
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); restore the file of the checkpoint.") from error
    except (ValueError, RecursionError) as error:
        raise LuternError(f"{path} is not valid JSON; restore the file of the checkpoint.") from error
    if not isinstance(values, dict):
        raise LuternError(f"{path} holds no JSON object; restore the file of the checkpoint.")
    return values
