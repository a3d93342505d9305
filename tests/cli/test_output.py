"""Text that a user gave is printed unchanged and read as UTF-8. test_surroundings.py tests whole processes."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.table import Table

from lutern.cli.output import ERRORS, SPELLED, Output, OutputError, given_text, plain_console, printable
from lutern.model_ref.errors import LuternError

PIECES = st.sampled_from(
    ["[red]", "[/red]", "[bold", "]", "\\[", ":bus:", ":a:", "[link=x]", "1234", "'x'", "/a b/", "é"]
)
"""Texts that rich would change, because it reads markup and emoji codes, and highlights numbers."""
TEXTS = st.lists(PIECES | st.text("abc[]:\\/", max_size=5), min_size=1).map("".join)


@settings(derandomize=True, deadline=None)
@given(TEXTS)
def test_any_text_is_printed_as_it_is(text: str) -> None:
    """A text is printed unchanged on its own, and as heading, title and cell of a table."""
    file = io.StringIO()
    console = plain_console(file=file, width=10_000, force_terminal=True, color_system="truecolor")
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert file.getvalue().split("\n")[0] == text
    assert file.getvalue().count(text) >= 4


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=12) | st.text(st.characters(codec="utf-8"), max_size=12).map(str.encode))
def test_any_text_of_the_command_line(raw: bytes) -> None:
    """A text in UTF-8 is accepted. For any other text, the message names the first wrong byte."""
    try:
        expected = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        sentence = f"^the text has the byte 0x{raw[error.start]:02x} at place {error.start + 1}, which is no UTF-8; "
        with pytest.raises(LuternError, match=sentence):
            given_text(os.fsdecode(raw))
    else:
        assert given_text(os.fsdecode(raw)) == expected


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=30))
def test_any_sentence_is_safe_for_a_terminal(text: str) -> None:
    """Characters that control a terminal, or reverse the order of other characters, are printed as escapes. All other
    characters are printed unchanged."""
    shown = printable(text)
    assert all(character in "\n\t\xa0" or character.isprintable() for character in shown)
    assert printable("a\u202eb\x1b[2J\udc80é") == "a\\u202eb\\x1b[2J\udc80é"
    if text.isprintable():
        assert shown == text


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_any_encoding(text: str, encoding: str) -> None:
    """Characters of the encoding are written unchanged, and characters that Lutern itself prints are replaced by ASCII.
    For any other character, the message states its number."""
    raw = io.BytesIO()
    output = Output(raw, encoding, ERRORS, newline="")
    lacking = [character for character in text if character.encode(encoding, "replace") == b"?" != character.encode()]
    if unknown := [character for character in lacking if character not in SPELLED]:
        with pytest.raises(
            OutputError, match=rf"which has no character U\+{ord(unknown[0]):04X}; set PYTHONIOENCODING"
        ):
            output.write(text)
        return
    output.write(text)
    output.flush()
    spelled = "".join(SPELLED[character] if character in lacking else character for character in text)
    assert raw.getvalue() == spelled.encode(encoding)
