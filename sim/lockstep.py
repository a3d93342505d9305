"""The integer model in lock step with the simulated board. Every h, S, code and logit of every token is compared.

    board ─► taps h, S, codes; logits ┐
    integer model ─► trace ───────────┴─► first difference in time: stage, step, stream, layer, index, got, expected

``lutern generate --check`` and the tests of the whole decoder use this lock step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.session import Feed, GoldenSession, Logits, Run, Session
from lutern.hw.decoder import TAP_STREAM_BITS, TAP_VALUE_BITS
from lutern.model_ref import head
from lutern.model_ref.errors import LuternError
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantise import IntegerWeights
from lutern.sim.board import SimulatedBoard, TapLog
from lutern.sim.taps import Expected


class Difference(LuternError):
    """A value of the gateware differs from the value of the integer model."""


class LockStep:
    """A ``Machine`` that checks every token of a session on a simulated board.

    ``model`` is ``IntegerModel`` or a subclass. All these classes compute equal values. ``checked`` counts the compared
    values. Raises ``Difference`` at the first value that is not equal.
    """

    def __init__(
        self, session: Session, board: SimulatedBoard, weights: IntegerWeights, model: type[IntegerModel] = IntegerModel
    ) -> None:
        self.session = session
        self.board = board
        self.streams, self.slots = session.streams, session.slots
        self._expected = Expected(self.streams)
        self.golden = GoldenSession(weights, self.streams, self.slots, model, self._expected.trace)
        self.checked = 0
        self.steps = 0
        board.record()

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        """Run and check ``count`` tokens of each stream. The chip chooses the tokens, and the integer model must choose
        equal tokens."""
        run = self.session.run(feeds, count, temperature=temperature, chained=chained)
        self._expected.begin(self.steps)
        expected = self.golden.run(feeds, count, temperature=temperature, chained=chained)
        self._compare_taps()
        for step, (got, wanted) in enumerate(zip(run.tokens, expected.tokens, strict=True)):
            for stream, (chosen, token) in enumerate(zip(got, wanted, strict=True)):
                if chosen != token:
                    where = f"step {self.steps + step}, stream {stream}"
                    raise Difference(f"{where}: the chip chose {chosen}, the integer model {token}.")
        for stream in range(len(feeds)):
            self._compare_logits(stream)
        self.steps += count
        return run

    def logits(self, stream: int = 0) -> Logits:
        """Return the raw logits of a stream's last token, read from the chip."""
        return self.session.logits(stream)

    def save(self, path: Path, **others: NDArray[Any]) -> None:
        """Write the state of board and integer model to a file for ``restore`` (see ``SimulatedBoard.save``)."""
        self.board.save(path, state=self.golden.state, counted=np.array([self.steps, self.checked]), **others)

    def restore(self, path: Path) -> dict[str, NDArray[Any]]:
        """Continue from a file (see ``SimulatedBoard.restore``)."""
        kept = self.board.restore(path)
        self.golden.state = kept.pop("state")
        self.steps, self.checked = map(int, kept.pop("counted"))
        return kept

    def _compare_taps(self) -> None:
        found: list[tuple[int, str]] = []
        for tap, bits in TAP_VALUE_BITS.items():
            log = self.board.taps(tap, clear=True)
            values, owners = _lanes(log, bits)
            self.checked += values.size
            found += self._expected.differences(tap, log.cycles, owners, values)
        if found:
            raise Difference(min(found)[1])

    def _compare_logits(self, stream: int) -> None:
        got, expected = self.session.logits(stream), self.golden.logits(stream)
        self.checked += len(got.sums)
        wrong = np.flatnonzero(got.sums != expected.sums[got.tokens])
        if len(wrong):
            index = int(got.tokens[wrong[0]])
            raise Difference(
                f"stage logits, step {self.steps}, stream {stream}, index {index}: got {got.sums[wrong[0]]}, "
                f"expected {expected.sums[index]}."
            )
        best = self.session.config.top_k
        if best and set(got.tokens.tolist()) != set(head.top_k(expected.sums, best)[0].tolist()):
            raise Difference(f"step {self.steps}, stream {stream}: the chip keeps other tokens than the {best} best.")
        if got.scale != expected.scale:
            raise Difference(
                f"step {self.steps}, stream {stream}: the logits' scale is {got.scale}, expected {expected.scale}."
            )


def _lanes(log: TapLog, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return values [beats, elements] of a tap, and the stream of each beat [beats]."""
    values = log.lanes(bits)
    payload_bits = log.bits - TAP_STREAM_BITS
    owners = log.payloads[:, payload_bits // 8].astype(np.int64)
    return values[:, : payload_bits // bits], owners
