"""Text files of every operating system are read, and any other file is refused in one sentence."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lutern.model_ref.errors import LuternError
from lutern.model_ref.text import decode_text, read_json, read_stream, read_text

TEXT = "once\nupon é\n\n🙂"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_files_of_every_system(tmp_path: Path, packed: bool, coding: str, line_end: str) -> None:
    raw = TEXT.replace("\n", line_end).encode(coding)
    path = tmp_path / ("text.txt.xz" if packed else "text.txt")
    path.write_bytes(lzma.compress(raw) if packed else raw)
    assert read_text(path) == TEXT


@settings(derandomize=True, database=None, max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_characters="\x00\r\ufeff", exclude_categories=["Cs"])),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_any_text(text: str, line_end: str) -> None:
    for coding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decode_text(text.replace("\n", line_end).encode(coding)) == text
    assert decode_text(text.replace("\n", line_end).encode()) == text


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b"\xff\xfea",
        b"a\xc3",
        b"\xef\xbb\xbf\xff",
        "the cat".encode("utf-16-le"),
        "the cat".encode("utf-16-be"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "text.txt").write_bytes(raw)
    with pytest.raises(LuternError, match="is no UTF-8 text"):
        read_text(tmp_path / "text.txt")


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_json(path, 100) == {}
    for coding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(json.dumps({"a": "é"}, ensure_ascii=False).encode(coding))
        assert read_json(path, 100) == {"a": "é"}
    for raw, reason in ((b"[]", "no JSON object"), (b"{", "not valid JSON"), (b" " * 101, "larger than 100")):
        path.write_bytes(raw)
        with pytest.raises(LuternError, match=reason):
            read_json(path, 100)


def test_a_stream_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of standard input is limited, that of a plain file is not, and a device is not read at all."""
    monkeypatch.setattr("lutern.model_ref.text.MAX_STREAM_BYTES", 1000)
    with open("/dev/zero", "rb") as device, pytest.raises(LuternError, match="more than 1,000 bytes"):
        read_stream(device, "standard input")
    with pytest.raises(LuternError, match=r"^/dev/zero is a device, no plain file, so it is no text file; give"):
        read_text("/dev/zero")
    (tmp_path / "file").write_text("a" * 1001)
    assert len(read_text(tmp_path / "file")) == 1001


def test_a_small_file_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several compressed streams give one text. A stream that is cut is refused, and so is a file that unpacks to more
    than the allowed size."""
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(b"the ") + lzma.compress(b"cat") + bytes(4))
    assert read_text(path) == "the cat"
    path.write_bytes(lzma.compress(b"the cat")[:-5])
    with pytest.raises(LuternError, match=r"is no UTF-8 text, plain or .xz \(it ends too early\); convert it"):
        read_text(path)
    monkeypatch.setattr("lutern.model_ref.text.MAX_UNPACKED_BYTES", 1000)
    path.write_bytes(lzma.compress(bytes(500)) + lzma.compress(bytes(501)))
    with pytest.raises(LuternError, match="unpacks to more than 1,000 bytes"):
        read_text(path)


def test_zeros_in_a_text() -> None:
    for text in ("a\0b", "a\0b\0", "the\0cat, the\0dog", "\0" * 12):
        assert decode_text(text.encode()) == text
