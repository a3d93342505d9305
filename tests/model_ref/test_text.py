"""Text files, plain and compressed: the same characters, or one sentence."""

import lzma
from pathlib import Path

import pytest

from lutern.model_ref.errors import LuternError
from lutern.model_ref.text import read_text

TEXT = "once upon a time\r\nthere was a cat — and a dog.\n"


def test_plain_and_compressed_read_the_same(tmp_path: Path) -> None:
    plain, packed = tmp_path / "text.txt", tmp_path / "text.txt.xz"
    plain.write_bytes(TEXT.encode())
    packed.write_bytes(lzma.compress(TEXT.encode()))
    assert read_text(plain) == read_text(packed) == TEXT.replace("\r\n", "\n")


def test_missing_truncated_or_foreign_text_is_refused(tmp_path: Path) -> None:
    absent, packed, foreign = tmp_path / "absent.txt", tmp_path / "cut.txt.xz", tmp_path / "latin.txt"
    packed.write_bytes(lzma.compress(TEXT.encode())[:40])
    foreign.write_bytes(b"caf\xe9\n")
    with pytest.raises(LuternError) as caught:
        read_text(absent)
    assert str(caught.value) == (
        f"{absent} cannot be read (No such file or directory); give a text file, plain or .xz."
    )
    for path in (packed, foreign):
        with pytest.raises(LuternError, match=rf"{path.name} is no UTF-8 text, plain or \.xz \(.*\); convert it\.$"):
            read_text(path)
