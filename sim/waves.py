"""Waves of the simulated machine: chosen signals over some cycles, as VCD or FST, and a saved view for GTKWave.

    header of the simulation ─► all signals ─► signals that match a pattern ─► NAME.vcd or NAME.fst, and NAME.gtkw

A cycle lasts 10 ns in the wave file, whatever the clock of the machine is. For example, cycle 123 begins at 1,230 ns
with the falling edge of clk. Cycle 0 is the first cycle after the model was loaded. GTKWave's vcd2fst makes the FST
file.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, unfinished_folder, write_whole
from lutern.sim.board import SimulatedBoard

FORMATS = (".vcd", ".fst")
CYCLE_NS = 10
CONVERTER = "vcd2fst"
TOP = "top.top"
"""The top module in the simulation."""
DEFAULT = ("clk", "rst", "rx__*", "tx__*", "decoder.*__valid", "decoder.*__ready")
"""The default patterns: clock, reset, the streams of the link, and valid and ready of the streams between the decoder's
blocks."""
_SCOPE = re.compile(r"\s*\$scope \w+ (\S+) \$end")
_VARIABLE = re.compile(r"\s*\$var \w+ +(\d+) \S+ (\S+)(?: (\[\d+(?::\d+)?\]))? \$end")


@dataclass(frozen=True)
class Signal:
    """A signal, with its name below the top module."""

    name: str
    bits: int

    @property
    def place(self) -> str:
        """The name of the signal in the simulation."""
        return f"{TOP}.{self.name}"


def read_header(text: str) -> list[Signal]:
    """Return the signals that a VCD declares in the top module and below it. Fields of other signals are omitted."""
    scopes: list[str] = []
    found: list[Signal] = []
    for line in text.splitlines():
        if scope := _SCOPE.match(line):
            scopes.append(scope[1])
        elif line.strip().startswith("$upscope"):
            scopes.pop()
        elif variable := _VARIABLE.match(line):
            place = ".".join([*scopes, variable[2]])
            if place.startswith(f"{TOP}.") and "." not in variable[2]:
                found.append(Signal(place.removeprefix(f"{TOP}."), int(variable[1])))
    return found


def choose(signals: Sequence[Signal], patterns: Sequence[str]) -> list[Signal]:
    """Return the signals that match a pattern, in the order of ``signals``. A pattern is the name of a signal, or the
    name of a block, which selects all signals in the block. ``*``, ``?`` and ``[...]`` match characters of a name
    between two dots.

    Raises LuternError for a pattern that matches no signal.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        some = [one.name for one in signals if _is_named(one.name.split("."), pattern.split("."))]
        if not some:
            near = sorted({one.name.partition(".")[0] for one in signals if one.name[0] != "$"})
            raise LuternError(
                f"no signal is called {pattern}; give a name such as decoder.* below one of {', '.join(near[:12])}."
            )
        chosen.update(some)
    return [one for one in signals if one.name in chosen]


def _is_named(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) >= len(pattern) and all(map(fnmatchcase, parts, pattern))


def check_path(path: Path) -> None:
    """Raise LuternError if ``path`` cannot be the name of a wave file, or if it is an FST file and vcd2fst is not
    installed."""
    if path.suffix not in FORMATS or not path.parent.is_dir():
        raise LuternError(
            f"{path} cannot be the name of a trace; give a name that ends in .vcd or .fst, in a folder that exists."
        )
    if path.suffix == ".fst" and shutil.which(CONVERTER) is None:
        raise LuternError(
            f"{CONVERTER}, which makes {path}, is not there; install GTKWave, or give a name that ends in .vcd."
        )
    for file in (path, path.with_suffix(".gtkw")):
        output_file(file)


@contextlib.contextmanager
def recorded(
    board: SimulatedBoard, path: Path, cycles: tuple[int, int], patterns: Sequence[str] = DEFAULT
) -> Iterator[None]:
    """Record the signals that match ``patterns`` while a block runs. ``cycles`` are the first cycle and the cycle after
    the last.

    The files are written at the end of the block, even if an error ends the block. Raises LuternError for a pattern
    that matches no signal, if the block ends before the first cycle, and for a board that has recorded waves already.
    """
    if board.was_traced:
        raise LuternError("the waves of a machine can be recorded only once; simulate the machine again for others.")
    begin, board.was_traced = board.cycles, True  # because Verilator would damage a second file
    first, end = cycles
    with unfinished_folder(path.parent) as work:
        header = work / "header"
        board.trace_header(header)
        signals = choose(read_header(header.read_text()), patterns)
        board.trace(work / "wave", (begin + first, begin + end), [one.place for one in signals], begin, CYCLE_NS)
        try:
            yield
        finally:
            board.end_trace()
            wave = work / "wave.0"
            has_begun = wave.exists()
            if has_begun:
                _keep(wave, path, signals)
        if not has_begun:
            raise LuternError(
                f"the text ended at cycle {board.cycles - begin:,}, before cycle {first:,}; give earlier cycles."
            )


def _keep(wave: Path, path: Path, signals: Sequence[Signal]) -> None:
    """Write a wave to ``path``, and the view of the wave into the same folder."""
    if path.suffix == ".fst":
        made = wave.with_name("wave.fst")
        done = subprocess.run([CONVERTER, str(wave), str(made)], capture_output=True, text=True)
        if done.returncode or not made.exists():
            raise LuternError(f"{CONVERTER} cannot make {path}; give a name that ends in .vcd.")
        wave = made
    shutil.move(wave, output_file(path))
    write_whole(path.with_suffix(".gtkw"), view(path, signals))


def view(path: Path, signals: Sequence[Signal]) -> str:
    """Return a saved view of GTKWave. Each block has a heading, followed by its signals, with vectors as hexadecimal
    numbers."""
    lines = ["[*] made by lutern generate --trace", f'[dumpfile] "{path.resolve()}"', "[timestart] 0"]
    block = None
    for one in signals:
        of_block = one.name.rpartition(".")[0]
        if of_block != block:
            lines += ["@200", f"-{of_block or 'top'}"]
            block = of_block
        lines += ["@28", one.place] if one.bits == 1 else ["@22", f"{one.place}[{one.bits - 1}:0]"]
    return "\n".join([*lines, ""])


__all__ = ["DEFAULT", "FORMATS", "Signal", "check_path", "choose", "read_header", "recorded", "view"]
