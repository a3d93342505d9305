"""Defines the options of a trace, which records signals of the simulated machine for a wave viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.output import plain_console
from lutern.model_ref.errors import LuternError, quoted
from lutern.sim import waves

TraceOption = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        help="Record signals of the simulated machine into this file: NAME.vcd, or NAME.fst if GTKWave is installed. A "
        "view for GTKWave is written into NAME.gtkw.",
    ),
]
CyclesOption = Annotated[
    str,
    typer.Option(
        "--cycles", metavar="A:B", help="With --trace: clock cycles A to B - 1, counted from the first run's start."
    ),
]
SignalOption = Annotated[
    list[str] | None,
    typer.Option(
        "--signal",
        help="With --trace: a signal, a block such as decoder.norm, or a pattern with *. Repeat the option for more "
        f"signals. Default: {', '.join(waves.DEFAULT)}.",
    ),
]
CYCLES = "0:10000"


def check_trace(trace: Path | None, cycles: str, signals: list[str] | None, on: str) -> tuple[int, int]:
    """Return the first cycle of a trace and the cycle after the last. Refuse cycles that cannot be recorded."""
    if trace is None and (signals or cycles != CYCLES):
        raise LuternError(
            "--cycles and --signal need --trace; give a file with --trace, or leave out --cycles and --signal."
        )
    if trace is not None and on != "sim":
        raise LuternError(f"--trace records the simulated board, but --on {on} is not simulated; leave out --trace.")
    first, colon, end = cycles.partition(":")
    if not (colon and all(part.isascii() and part.isdecimal() and len(part) < 16 for part in (first, end))):
        raise LuternError(
            f"--cycles is {quoted(cycles)}; give the first cycle and the cycle after the last, such as {CYCLES}."
        )
    if int(first) >= int(end):
        raise LuternError(f"--cycles {cycles} contains no cycle; give the smaller number first.")
    if trace is not None:
        waves.check_path(trace)
    return int(first), int(end)


def say_where(trace: Path) -> None:
    """Print the name of the recorded file, and the command that shows the waves."""
    view = trace.with_suffix(".gtkw")
    plain_console(stderr=True).print(f"waves: {trace}; gtkwave {view} shows them", style="dim", soft_wrap=True)


__all__ = ["CYCLES", "CyclesOption", "SignalOption", "TraceOption", "check_trace", "say_where"]
