"""Handles every kind of standard output and standard error: a terminal, a pipe, a full disk, closed, or not UTF-8.

    standard output cannot be written           ─► ``OutputError`` ─► error message, status 1
    reader of the pipe has ended (``| head``)   ─► ``OutputError`` ─► no message, status 141
    standard error cannot be written            ─► the text is lost

If the output's encoding lacks a character of Lutern's own texts, ASCII replaces this character. If the encoding lacks
any other character, the text is refused. A path that is not UTF-8 is written with its bytes unchanged.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any

from rich.console import Console

from lutern.model_ref.errors import LuternError

ERRORS = "lutern"
"""The name of Lutern's error handler in ``codecs``, which replaces characters that an encoding lacks."""
SPELLED = {"±": "+-", "…": "...", "×": "x", "µ": "u", "Ω": "ohm"}
BROKEN_PIPE_STATUS = 141
"""The exit status of a program that SIGPIPE ended."""


class OutputError(LuternError):
    """The error that standard output accepts no further text. ``quiet``: the reader of the output has ended, so no
    message is needed."""

    def __init__(self, sentence: str, quiet: bool = False) -> None:
        super().__init__(sentence)
        self.quiet = quiet


class Output(io.TextIOWrapper):
    """Standard output. A write that fails raises ``OutputError``. After that, every use raises ``OutputError`` until
    ``give_up`` is called."""

    refusal: OutputError | None = None

    def write(self, text: str, /) -> int:
        """Write a text."""
        self._check()
        try:
            return super().write(text)
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            raise OutputError(
                f"standard output is {self.encoding}, which has no character U+{ord(character):04X}; "
                "set PYTHONIOENCODING=utf-8, or a locale of UTF-8 such as LC_ALL=C.UTF-8."
            ) from None
        except OSError as error:
            raise self._refused(error) from None

    def flush(self) -> None:
        """Write the text that is still in memory."""
        self._check()
        try:
            super().flush()
        except OSError as error:
            raise self._refused(error) from None

    def give_up(self) -> None:
        """Discard all further text, so that the process can end."""
        _to_nowhere(self.fileno())
        self.refusal = None

    def _check(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def _refused(self, error: OSError) -> OutputError:
        self.refusal = OutputError(
            f"standard output cannot be written ({error.strerror}); make room, or send it elsewhere.",
            quiet=error.errno == errno.EPIPE,
        )
        return self.refusal


class Messages(io.TextIOWrapper):
    """Standard error. A message that cannot be written is lost, since there is no other place for a message."""

    def write(self, text: str, /) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError:
            _to_nowhere(self.fileno())
            return len(text)

    def flush(self) -> None:
        """Write the text that is still in memory."""
        try:
            super().flush()
        except OSError:
            _to_nowhere(self.fileno())


def _to_nowhere(number: int) -> None:
    """Discard all text for this file, now and when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _encode(error: UnicodeError) -> tuple[bytes | str, int]:
    """Return the replacement of a character that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # Python's character for a byte of a path that is not UTF-8
        return bytes([ord(character) - 0xDC00]), error.start + 1
    if character not in SPELLED:
        raise error
    return SPELLED[character], error.start + 1


codecs.register_error(ERRORS, _encode)


def open_streams() -> None:
    """Use ``Output`` and ``Messages`` as standard output and standard error. Refuse a standard output that is
    closed."""
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # otherwise a file that Lutern opens later would get this number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    elif isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _replaced(sys.stderr, Messages, "backslashreplace")
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if closed:
        raise OutputError("standard output is closed; send it to a terminal, a file or /dev/null.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _replaced(sys.stdout, Output, ERRORS)


def _replaced(stream: io.TextIOWrapper, kind: type[Output] | type[Messages], errors: str) -> Output | Messages:
    encoding, by_line, raw = stream.encoding, stream.line_buffering, stream.detach()
    if isinstance(raw, io.RawIOBase):  # with PYTHONUNBUFFERED, a closing pipe would cut a text without an error
        raw, by_line = io.BufferedWriter(raw, 1), True
    return kind(raw, encoding, errors, line_buffering=by_line)


def printable(text: str) -> str:
    """Return a sentence in which control and bidirectional characters of a user's text are escaped. Newlines, and
    bytes of a path that are not UTF-8, stay unchanged."""
    return "".join(character if _is_shown(character) else ascii(character)[1:-1] for character in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in "\n\t\xa0" or "\udc80" <= character <= "\udcff"


def refuse(error: LuternError) -> int:
    """Print an error on standard error, and return the exit status."""
    quiet = isinstance(error, OutputError) and error.quiet
    if not quiet:
        print(f"lutern: {printable(str(error))}", file=sys.stderr)
    return BROKEN_PIPE_STATUS if quiet else 1


def close_output() -> None:
    """Write the text that is still in memory if possible, so that the end of the process cannot fail."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OutputError:
        if isinstance(sys.stdout, Output):
            sys.stdout.give_up()


def plain_console(stderr: bool = False, **options: Any) -> Console:
    """Return a console that prints text unchanged: brackets, ``:names:`` and numbers have no special meaning."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def given_text(text: str | None) -> str | None:
    """Return a text of the command line, read as UTF-8 in every locale. Refuse characters that the output lacks."""
    if text is None:
        return None
    try:
        raw = os.fsencode(text)
        text = raw.decode("utf-8")
    except UnicodeEncodeError:  # the text is not from the command line
        return text
    except UnicodeDecodeError as error:
        raise LuternError(
            f"the text has the byte 0x{raw[error.start]:02x} at place {error.start + 1}, which is no UTF-8; "
            "give the text in UTF-8."
        ) from None
    if isinstance(sys.stdout, Output):
        _check_shown(text, sys.stdout)
    return text


def given_texts(texts: list[str] | None) -> list[str] | None:
    """Return several texts of the command line, each read by ``given_text``."""
    return None if texts is None else [given_text(text) or "" for text in texts]


def _check_shown(text: str, output: Output) -> None:
    """Refuse a text that the output could not show, before any work is done."""
    with Output(io.BytesIO(), output.encoding, output.errors) as trial:
        trial.write(text)
