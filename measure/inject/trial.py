"""One trial: a fresh board with the program, a fault while the board works, and a judgement of its answer.

    fresh board ─► (a token of an earlier conversation) ─► run ─► logits
                                                            └─ strike: a change after some cycles

The answer of a board without faults is computed once for each scenario, and its tokens are compared with the integer
model's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib import wiring

from lutern.firmware.link import Client, Link, SilenceError
from lutern.firmware.program import Program
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import HwConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights
from lutern.sim.board import SimulatedBoard, simulated

CYCLES_PER_SECOND = 50_000
"""Simulated cycles that count as one second of the host's time limits. The number is small, because a hung board never
answers, and the host then waits for the whole time limit."""
FIRST, SECOND = 3, 1
"""Tokens that are fed: one to the earlier conversation, one to the run that is struck."""


class ShortLimits(Program):
    """A program whose watchdog waits an eighth of the usual number of cycles. This is still twice the time of a token.

    The wait is short, because waiting for hung machines takes most of the time of a campaign.
    """

    @property
    def step_limit(self) -> int:
        """See ``Program``."""
        return 1 + super().step_limit // 8

    @classmethod
    def of(cls, program: Program) -> ShortLimits:
        """Return the same program with short limits."""
        return cls(**{field.name: getattr(program, field.name) for field in fields(program)})


@dataclass(frozen=True)
class Scenario:
    """A run that chooses ``count`` tokens. If ``has_past`` is true, it continues a conversation of one token."""

    has_past: bool
    count: int


@dataclass(frozen=True)
class Answer:
    """The answer of a run: its tokens, its logits as bytes, and the ``cycles`` of its last step."""

    tokens: list[list[int]]
    logits: bytes
    cycles: int = 0

    def is_same(self, other: Answer) -> bool:
        """Return whether tokens and logits are equal."""
        return self.tokens == other.tokens and self.logits == other.logits


class StruckBoard(SimulatedBoard):
    """A board that can be changed while it works."""

    _due: int | None = None
    _change: Callable[[], None]

    def strike(self, cycles: int, change: Callable[[], None]) -> None:
        """Call ``change`` after ``cycles`` more cycles."""
        self._due, self._change = self.cycles + cycles, change

    def run(self, cycles: int) -> int:
        """See ``SimulatedBoard``."""
        if self._due is None or self._due - self.cycles >= cycles:
            return super().run(cycles)
        end = self.cycles + cycles
        waiting = super().run(max(0, self._due - self.cycles))
        if self.cycles < self._due:  # the board has sent a frame, which ends the run early
            return waiting
        self._due = None
        self._change()
        return super().run(0) or super().run(max(0, end - self.cycles))

    def _check_memory(self) -> None:
        """Check nothing, because a struck machine that breaks the rules of its memory shows no error of the design."""


class Bench:
    """Makes fresh boards of a machine with a program, and keeps the answers of a board without faults."""

    def __init__(self, config: HwConfig, program: Program, weights: IntegerWeights, library: Path) -> None:
        self.config, self.program, self.weights, self.library = config, ShortLimits.of(program), weights, library
        self.component: wiring.Component = simulated(config)
        self._sound: dict[Scenario, Answer] = {}

    def board(self, *, is_loaded: bool = True) -> StruckBoard:
        """Return a board in the state after power-up. If its memory has a back door, the program is loaded."""
        board = StruckBoard(self.component, library=self.library, cycles_per_second=CYCLES_PER_SECOND)
        if board.has_back_door and is_loaded:
            for address, words in self.program.sections:
                board.poke(address, words)
        return board

    def session(self, board: StruckBoard, link: Link | None = None) -> Session:
        """Return a session with a board of ``board()``."""
        client = Client(board if link is None else link)
        has_door = board.has_back_door and link is None
        return Session(client, self.program, door=board if has_door else None, is_loaded=has_door)

    def sound(self, scenario: Scenario) -> Answer:
        """Return the answer of a working board; raise ``LuternError`` if the integer model chooses other tokens."""
        if scenario not in self._sound:
            with self.board() as board:
                answer = play(self.session(board), scenario)
            if answer.tokens != play(GoldenSession(self.weights), scenario).tokens:
                raise LuternError(
                    f"a board of {self.config.name} without a fault does not give the answer of the integer model; run "
                    "lutern selftest, or report it with the command that you gave."
                )
            self._sound[scenario] = answer
        return self._sound[scenario]

    def judge(
        self, board: StruckBoard, scenario: Scenario, begin: Callable[[Session], None], link: Link | None = None
    ) -> tuple[str, str]:
        """Return the result and the note of a session. ``begin`` is called before the run, and changes the board
        immediately, or arranges a strike at a later cycle."""
        sound = self.sound(scenario)
        try:
            session = self.session(board, link)
            answer = play(session, scenario, begin)
        except SilenceError as error:
            return "hung", f"{error} {self._after_reset(board, scenario)}"
        except LuternError as error:
            return "detected", str(error)
        reports = [*session.repairs]
        if resent := session.client.resent_count:
            reports.append(f"{resent} frames were sent again.")
        if not answer.is_same(sound):
            return "silent", " ".join([f"tokens {answer.tokens}, {sound.tokens} wanted.", *reports])
        return ("corrected" if reports else "masked"), " ".join(reports)

    def _after_reset(self, board: StruckBoard, scenario: Scenario) -> str:
        """Return a sentence that says whether the board works again after a reset."""
        board.reset()
        try:
            helps = play(self.session(board), scenario).is_same(self.sound(scenario))
        except LuternError:
            helps = False
        return "A reset helps." if helps else "A reset does not help."


def play(session: Any, scenario: Scenario, begin: Callable[[Any], None] | None = None) -> Answer:
    """Run a scenario in a session and return the answer. ``begin`` is called before the run."""
    if scenario.has_past:
        session.run([Feed(FIRST, fresh=True)])
    if begin is not None:
        begin(session)
    run = session.run([Feed(SECOND, fresh=not scenario.has_past)], scenario.count)
    logits = session.logits()
    order = np.argsort(logits.tokens, kind="stable")
    best = b"".join(np.ascontiguousarray(part[order], "<i8").tobytes() for part in (logits.tokens, logits.sums))
    return Answer(run.tokens, best + repr(tuple(map(int, logits.scale))).encode(), run.cycles)


__all__ = ["FIRST", "SECOND", "Answer", "Bench", "Scenario", "StruckBoard", "play"]
