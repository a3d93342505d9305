"""Waves of the simulated machine: named signals over some cycles, as VCD or FST, and a view of them for GTKWave.

    header of the simulation ─► names ─► those that patterns choose ─► NAME.vcd │ NAME.fst, and NAME.gtkw

A cycle lasts 10 ns of a wave's time, for every clock of the machine: cycle 123 begins at 1,230 ns with the falling edge
of clk. Cycle 0 is the first after the model was loaded. FST is made by GTKWave's vcd2fst.
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
"""The streams of the link, and those between the blocks of the decoder."""
_SCOPE = re.compile(r"\s*\$scope \w+ (\S+) \$end")
_VARIABLE = re.compile(r"\s*\$var \w+ +(\d+) \S+ (\S+)(?: (\[\d+(?::\d+)?\]))? \$end")


@dataclass(frozen=True)
class Signal:
    """A signal by its name below the top module."""

    name: str
    bits: int

    @property
    def place(self) -> str:
        """Its name in the simulation."""
        return f"{TOP}.{self.name}"


def read_header(text: str) -> list[Signal]:
    """Return the signals of the top module and below it that a VCD declares. Fields of other signals are left out."""
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
    """Return the signals that a pattern names, in their own order. A pattern is a signal, or a block with all signals
    in it; ``*``, ``?`` and ``[...]`` stand for parts of a name between two points.

    Raises LuternError for a pattern that names none.
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
    """Refuse a name that is not that of a wave file, and an FST file if no program here can make one."""
    if path.suffix not in FORMATS or not path.parent.is_dir():
        raise LuternError(
            f"{path} is no name of a trace; give one that ends in .vcd or .fst, in a folder that is there."
        )
    if path.suffix == ".fst" and shutil.which(CONVERTER) is None:
        raise LuternError(f"{CONVERTER}, which makes {path}, is not there; install GTKWave, or give a name in .vcd.")
    for file in (path, path.with_suffix(".gtkw")):
        output_file(file)


@contextlib.contextmanager
def recorded(
    board: SimulatedBoard, path: Path, cycles: tuple[int, int], patterns: Sequence[str] = DEFAULT
) -> Iterator[None]:
    """Record named signals while the block runs, from the first of ``cycles`` to the cycle before the second.

    The files appear at the end of the block, also where an error ends it. Raises LuternError for a pattern without a
    signal, if the block ended before the first cycle, and for a board that recorded before.
    """
    if board.was_traced:
        raise LuternError("the waves of a machine are recorded once; simulate it again for others.")
    begin, board.was_traced = board.cycles, True  # Verilator's second file of a simulation would be damaged
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
    """Put a wave and its view where they belong."""
    if path.suffix == ".fst":
        made = wave.with_name("wave.fst")
        done = subprocess.run([CONVERTER, str(wave), str(made)], capture_output=True, text=True)
        if done.returncode or not made.exists():
            raise LuternError(f"{CONVERTER} does not make {path}; give a name in .vcd.")
        wave = made
    shutil.move(wave, output_file(path))
    write_whole(path.with_suffix(".gtkw"), view(path, signals))


def view(path: Path, signals: Sequence[Signal]) -> str:
    """Return a saved view of GTKWave: every signal below a heading with its block, vectors as hexadecimal numbers."""
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
