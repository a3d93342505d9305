"""Text and JSON files as every command reads them: byte-order marks and the line ends of all systems are understood."""

from __future__ import annotations

import codecs
import json
import lzma
from pathlib import Path
from typing import Any

from lutern.model_ref.errors import LuternError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(raw: bytes) -> str:
    """Text of bytes: UTF-8, or what a byte-order mark says, which is dropped; CR and CR LF become newlines."""
    coding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    return raw.decode(coding).replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: str | Path) -> str:
    """A text file, plain or .xz; see ``decode_text``."""
    path = Path(path)
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        return decode_text(raw)
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); give a text file, plain or .xz.") from error
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} is no UTF-8 text, plain or .xz ({error}); convert it.") from error


def read_json(path: Path, largest: int) -> dict[str, Any]:
    """The object that a JSON file of at most ``largest`` bytes holds; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > largest:
            raise LuternError(f"{path} is larger than {largest} bytes; restore the file of the checkpoint.")
        values = json.loads(decode_text(path.read_bytes()))
        json.dumps(values, ensure_ascii=False).encode()  # refuses halves of surrogate pairs, which are no characters
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); restore the file of the checkpoint.") from error
    except (ValueError, RecursionError) as error:
        raise LuternError(f"{path} is not valid JSON; restore the file of the checkpoint.") from error
    if not isinstance(values, dict):
        raise LuternError(f"{path} holds no JSON object; restore the file of the checkpoint.")
    return values
