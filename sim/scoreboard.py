"""Checks items exactly and in order, and describes the first mismatch completely.

board = Scoreboard("norm.codes", seed=seed, decode=lambda value: f"{value / 127:+.3f}")
board.expect_all(codes, token=3, layer=1)            # from the golden model, at any time before the item arrives
StreamMonitor(dut, "o", on_item=board.check)
...
board.finish()                                       # everything that was expected has arrived

norm.codes: token 3, layer 1, index 17, cycle 412: got 0x7e (126, +0.992), expected 0x7f (127, +1.000), seed 7
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expected:
    """One item of the golden model, and where it belongs."""

    value: int
    token: int | None = None
    layer: int | None = None
    index: int | None = None

    def place(self) -> str:
        """Return the known parts of the place, as text."""
        parts = (("token", self.token), ("layer", self.layer), ("index", self.index))
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


class Mismatch(AssertionError):
    """The first item that differs, with its parts as attributes."""

    def __init__(self, text: str, stage: str, cycle: int, got: int | None, expected: Expected | None) -> None:
        super().__init__(text)
        self.stage, self.cycle, self.got, self.expected = stage, cycle, got, expected


class Scoreboard:
    """Compares arriving items with expected ones, in order and exactly.

    The comparison is modulo 2 to the power `bits`, so that a model's negative numbers compare with flat payloads: pass
    the payload's width. `decode` gives a code's meaning for the failure text; `wave` is the path of this run's trace.
    """

    def __init__(
        self,
        stage: str,
        *,
        seed: int,
        bits: int = 64,
        decode: Callable[[int], Any] | None = None,
        wave: str | None = None,
    ) -> None:
        self.stage, self.seed, self.bits, self.decode, self.wave = stage, seed, bits, decode, wave
        self.pending: deque[Expected] = deque()
        self.checked_count = 0

    def expect(
        self, value: int, *, token: int | None = None, layer: int | None = None, index: int | None = None
    ) -> None:
        """Expect one more item, after all earlier ones."""
        self.pending.append(Expected(int(value), token, layer, index))

    def expect_all(self, values: Iterable[int], *, token: int | None = None, layer: int | None = None) -> None:
        """Expect a whole vector, indexed from 0."""
        for index, value in enumerate(values):
            self.expect(value, token=token, layer=layer, index=index)

    def check(self, cycle: int, value: int) -> None:
        """Compare one item that arrived; it can be StreamMonitor's `on_item`."""
        if not self.pending:
            self._fail("an item came that was not expected", cycle, value, None)
        expected = self.pending.popleft()
        if (expected.value ^ value) & (1 << self.bits) - 1:
            self._fail("", cycle, value, expected)
        self.checked_count += 1

    def finish(self) -> int:
        """Check that everything has arrived; returns the number of items checked, which must not be zero."""
        if self.pending or not self.checked_count:
            expected = self.pending[0] if self.pending else None
            self._fail(f"{len(self.pending)} items are missing after {self.checked_count}", -1, None, expected)
        return self.checked_count

    def _show(self, value: int) -> str:
        raw = value & (1 << self.bits) - 1
        meaning = "" if self.decode is None else f", {self.decode(value)}"
        return f"{raw:#x} ({value}{meaning})"

    def _fail(self, what: str, cycle: int, got: int | None, expected: Expected | None) -> None:
        parts = [what, expected.place() if expected else "", f"cycle {cycle}" if cycle >= 0 else ""]
        text = f"{self.stage}: " + ", ".join(part for part in parts if part)
        if got is not None:
            text += f": got {self._show(got)}"
        if expected is not None:
            text += f", expected {self._show(expected.value)}"
        text += f", after {self.checked_count} equal ones, seed {self.seed}"
        if self.wave is not None:
            text += f", wave {self.wave}"
        raise Mismatch(text, self.stage, cycle, got, expected)
