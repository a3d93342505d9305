"""A scoreboard, which checks items exactly and in order, and describes the first mismatch completely.

board = Scoreboard("norm.codes", seed=seed, decode=lambda value: f"{value / 127:+.3f}")
board.expect_all(codes, token=3, layer=1)            # from the golden model, at any time before the item arrives
StreamMonitor(dut, "o", on_item=board.check)
...
board.finish()                                       # check that all expected items have arrived

A message, shortened:
norm.codes: token 3, layer 1, index 17, cycle 412: got 0x7e (126, +0.992), expected 0x7f (127, +1.000), seed 7
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expected:
    """One item of the golden model, and its place in the model."""

    value: int
    token: int | None = None
    layer: int | None = None
    index: int | None = None

    def place(self) -> str:
        """Return the place as text, without the fields that are None."""
        parts = (("token", self.token), ("layer", self.layer), ("index", self.index))
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


class Mismatch(AssertionError):
    """The first item that differs. The details are attributes."""

    def __init__(self, text: str, stage: str, cycle: int, got: int | None, expected: Expected | None) -> None:
        super().__init__(text)
        self.stage, self.cycle, self.got, self.expected = stage, cycle, got, expected


class Scoreboard:
    """Compares arriving items with expected items, in order and exactly.

    The comparison is modulo 2 ** `bits`. If `bits` is the width of the payload, negative numbers of a model can be
    compared with flat payloads. `decode` returns the meaning of an item for the failure message. `wave` is the path of
    the file with the waves of this run.
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
        """Expect one more item, after all earlier expected items."""
        self.pending.append(Expected(int(value), token, layer, index))

    def expect_all(self, values: Iterable[int], *, token: int | None = None, layer: int | None = None) -> None:
        """Expect a whole vector, indexed from 0."""
        for index, value in enumerate(values):
            self.expect(value, token=token, layer=layer, index=index)

    def check(self, cycle: int, value: int) -> None:
        """Compare one item that arrived. This method can be the `on_item` of a StreamMonitor."""
        if not self.pending:
            self._fail("an item came that was not expected", cycle, value, None)
        expected = self.pending.popleft()
        if (expected.value ^ value) & (1 << self.bits) - 1:
            self._fail("", cycle, value, expected)
        self.checked_count += 1

    def finish(self) -> int:
        """Check that all expected items have arrived. Return the number of checked items, which must not be zero."""
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
        text += f", after {self.checked_count} equal items, seed {self.seed}"
        if self.wave is not None:
            text += f", wave {self.wave}"
        raise Mismatch(text, self.stage, cycle, got, expected)
