"""`lutern link dump`: prints a recorded session of the link, frame by frame."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from lutern.firmware.link_dump import dump
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import open_plain

app = typer.Typer(help="Sessions of the link, recorded with --record FILE.")

LONGEST_LINE = 1 << 22
"""The largest number of characters in a line of a recording, which is enough for two windows of the longest frames."""


@app.callback()
def link() -> None:
    """Sessions of the link, recorded with --record FILE."""


@app.command("dump")
def dump_recording(
    file: Annotated[Path, typer.Argument(help="A recording: the file of --record of a command that opens a port.")],
) -> None:
    """Print a line for each frame of a recording, also for damaged frames, and the number of frames."""
    try:
        raw = open_plain(file, "recording of the link")
    except OSError as error:
        raise LuternError(f"{file} cannot be read ({error.strerror}); give a file written by --record.") from None
    try:
        with io.TextIOWrapper(raw, "ascii") as lines:
            for line in dump(iter(lambda: lines.readline(LONGEST_LINE), "")):
                print(line)
    except UnicodeDecodeError:
        raise LuternError(f"{file} is no recording of the link; give a file written by --record.") from None


__all__ = ["app"]
