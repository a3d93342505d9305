"""Text files as every command reads them, so that training and evaluation see the same characters."""

from __future__ import annotations

import lzma
from pathlib import Path

from lutern.model_ref.errors import LuternError


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, plain or .xz; line ends become newlines."""
    path = Path(path)
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        return raw.decode("utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); give a text file, plain or .xz.") from error
    except (lzma.LZMAError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} is no UTF-8 text, plain or .xz ({error}); convert it.") from error
