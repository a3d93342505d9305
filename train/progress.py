"""Shows the progress of a long run: one line that changes on a terminal, or in a pipe a new line every 30 s."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """The progress of a run of ``total`` steps. On a terminal it is shown every 0.5 s, in a pipe every 30 s."""

    def __init__(self, name: str, total: int, stream: TextIO | None = None) -> None:
        self._name, self._total = name, total
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._every_s = 0.5 if self._live else 30.0
        self._next_s = 0.0

    @staticmethod
    def say(text: str) -> None:
        """Print a line of text that is not progress."""
        print(text, file=sys.stderr, flush=True)

    @property
    def due(self) -> bool:
        """Whether a line would be shown now. A caller can test this before it reads values from a GPU."""
        return time.monotonic() >= self._next_s

    def show(self, step: int, text: str, end: bool = False) -> None:
        """Show ``text`` for this step if a line is due or if ``end`` is set."""
        if not (end or self.due):
            return
        self._next_s = time.monotonic() + self._every_s
        line = f"{self._name} {step:>{len(str(self._total))}}/{self._total}  {text}"
        if self._live:
            self._stream.write("\r\x1b[K" + line + ("\n" if end else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
