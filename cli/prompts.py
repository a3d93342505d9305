"""Collects prompts from arguments, files and standard input."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from lutern.model_ref.errors import LuternError
from lutern.model_ref.text import decode_text, read_stream, read_text

STANDARD_INPUT = "-"
PATIENCE_SECONDS = 2.0
"""After this number of seconds without data from a pipe, the command prints that it waits for a prompt on standard
input."""


def collect_prompts(prompt: str | None, prompts: list[str], files: list[Path], piped: bool) -> list[str]:
    """Return every prompt in order. ``-`` is standard input. If ``piped`` is set and no prompt is given, standard input
    is also read, provided that it is a pipe or a file. One newline at the end of a file or of standard input is not
    part of the prompt.
    """
    given = [*([] if prompt is None else [prompt]), *prompts, *map(str, files)]
    if given.count(STANDARD_INPUT) > 1:
        raise LuternError(
            "standard input (-) was given twice, but can be read only once; give the second text in another way."
        )
    texts = [_of_standard_input() if text == STANDARD_INPUT else text for text in given[: len(given) - len(files)]]
    for file in files:
        text = _of_standard_input() if str(file) == STANDARD_INPUT else read_text(file)
        texts.append(text.removesuffix("\n") if str(file) != STANDARD_INPUT else text)
    if not texts and piped and input_is_piped():
        if not select.select([sys.stdin], [], [], PATIENCE_SECONDS)[0]:
            print(
                "no prompt was given: waiting for a prompt on standard input; add </dev/null for no prompt.",
                file=sys.stderr,
            )
        text = _of_standard_input()
        texts = [text] if text else []
    return texts


def input_is_piped() -> bool:
    """Return whether standard input is a pipe, a socket or a file. A terminal, /dev/null and a closed input are not."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def turns() -> Iterator[str]:
    """Yield the lines of standard input that are not empty. A terminal shows a prompt sign before each line."""
    while True:
        if sys.stdin.isatty():
            try:
                line = input("> ")
            except EOFError:
                return
        else:
            raw = sys.stdin.buffer.readline()
            if not raw:
                return
            line = _decoded(raw)
        if line.strip():
            yield line.rstrip("\n")


def _of_standard_input() -> str:
    return _decoded(read_stream(sys.stdin.buffer, "standard input")).removesuffix("\n")


def _decoded(raw: bytes) -> str:
    try:
        return decode_text(raw)
    except UnicodeDecodeError as error:
        raise LuternError(f"standard input is no UTF-8 text ({error}); convert it.") from error
