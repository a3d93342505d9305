"""Keeps outcomes in a file from which a campaign can continue, and makes the table of these outcomes.

    first line    {"campaign", "seed", "machine", "board", "image"}    what the outcomes belong to
    other lines   {"index", "kind", "result", "note"}                  in any order; the outcome of a cut line is
    computed again

The fractions of outcomes have Wilson intervals of 95 %, which are also valid for a fraction of 0.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lutern.measure.inject.campaign import RESULTS, Outcome
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import open_plain
from lutern.model_ref.output_files import output_file, refused_output

Z95 = 1.959963984540054
"""95 % of a normal distribution lie within this many standard deviations."""
WANTED = "file of outcomes"
LONGEST_LINE = 1 << 16


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the interval of 95 % for the fraction ``hits`` / ``trials``.

    Reference: Wilson 1927, without continuity correction.
    """
    if not trials:
        return 0.0, 1.0
    share, z2 = hits / trials, Z95 * Z95 / trials
    middle = share + z2 / 2
    half = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)


class ResultsFile:
    """The outcomes of one campaign by index, in ``outcomes`` and in a file. If ``path`` is None, the outcomes are only
    in memory.

    ``about`` is the first line, which names the campaign. Raises ``LuternError`` for a file with other contents.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._path = path
        self._file: BufferedWriter | None = None
        if path is None:
            return
        place = output_file(path)
        try:
            self._file = open(place, "ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LuternError(
                f"{path} is being written by another campaign; wait for it, or give another file."
            ) from None
        except OSError as error:
            raise refused_output(path, error) from error
        end = self._read(place, about)
        self._file.truncate(end)
        if not end:
            self._write(about)

    def _read(self, place: Path, about: dict[str, Any]) -> int:
        """Read the outcomes of the file; return the position after its last whole line."""
        end, number = 0, 0
        with open_plain(place, WANTED) as file:
            while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                number += 1
                content = self._parsed(line, number)
                if number == 1 and content != about:
                    of = ", ".join(
                        f"{name} {_short(value)}" for name, value in content.items() if about.get(name) != value
                    )
                    raise LuternError(f"{self._path} is of another campaign ({of}); give another file.")
                if number > 1:
                    outcome = Outcome(**content)
                    self.outcomes[outcome.index] = outcome
                end += len(line)
            if len(line) >= LONGEST_LINE:
                raise self._damaged(number + 1)
        return end

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        wanted = {"campaign"} if number == 1 else set(Outcome.__dataclass_fields__)
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            raise self._damaged(number) from None
        if not isinstance(content, dict) or not (wanted <= set(content) if number == 1 else wanted == set(content)):
            raise self._damaged(number)
        types = {"index": int, "kind": str, "result": str, "note": str}
        if number > 1 and not all(type(content[name]) is kind for name, kind in types.items()):
            raise self._damaged(number)
        if number > 1 and (content["result"] not in RESULTS or content["index"] < 0):
            raise self._damaged(number)
        return content

    def _damaged(self, number: int) -> LuternError:
        return LuternError(f"{self._path} is no {WANTED}: line {number} is no outcome; give another file.")

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, and append it to the file."""
        self.outcomes[outcome.index] = outcome
        self._write(asdict(outcome))

    def _write(self, content: dict[str, Any]) -> None:
        if self._file is None or self._path is None:
            return
        try:
            self._file.write(json.dumps(content).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise refused_output(self._path, error) from error

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _short(value: object) -> str:
    return json.dumps(value)[:40].strip('"')


KEYS = ("kind", "injected", *RESULTS)
INTERVALS = ("silent", "hung")
"""Results whose fractions have intervals in the table."""


def rows(outcomes: Iterable[Outcome]) -> list[list[Any]]:
    """Return the rows of the table, one for each kind and one for all: ``KEYS``, then both ends of the intervals."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.kind, Counter())[outcome.result] += 1
    of_all = Counter[str]()
    for count in counts.values():
        of_all.update(count)
    return [_row(kind, counts[kind]) for kind in sorted(counts)] + [_row("all", of_all)]


def _row(kind: str, count: Counter[str]) -> list[Any]:
    intervals = (wilson(count[result], count.total()) for result in INTERVALS)
    return [kind, count.total(), *(count[result] for result in RESULTS), *intervals]


def percent(share: float) -> str:
    """Return a fraction in percent with two significant digits."""
    return np.format_float_positional(100 * share, precision=2, unique=False, fractional=False, trim="-")


__all__ = ["INTERVALS", "KEYS", "ResultsFile", "percent", "rows", "wilson"]
