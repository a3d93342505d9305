"""A campaign: the faults 0, 1, 2, ... of one kind of place, and what becomes of each.

    campaign, seed, index ─► draw ─► fault ─► a fresh board that works, and is struck ─► outcome

A fault and its outcome depend on these three, the machine and the model only: every fault meets a board of its own, as
it is after power-up, so it does not matter which faults came before it, nor which process computes it.

    masked     same tokens and logits, nothing reported
    corrected  same tokens and logits after the host reported and mended something
    detected   an error in place of an answer
    silent     another token or logit
    hung       no answer at all, until the host gave up
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from lutern.firmware.program import Program, lay_out
from lutern.hw.config import HwConfig
from lutern.measure.inject.trial import Bench
from lutern.model_ref.quantise import IntegerWeights

RESULTS = ("masked", "detected", "corrected", "silent", "hung")


@dataclass(frozen=True)
class Settings:
    """What all faults of a campaign have in common. ``library``: the compiled board."""

    campaign: str
    seed: int
    config: HwConfig
    weights: IntegerWeights
    library: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: ``result`` is one of ``RESULTS``; ``note``: where it was, and what was reported."""

    index: int
    kind: str
    result: str
    note: str


class Campaign(ABC):
    """See above. ``kinds``: names of the faults, as the table has them; ``needs_upsets``: of its compiled board."""

    kinds: tuple[str, ...]
    needs_upsets = False
    fault_count: int | None = None
    """How many faults there are; None: without end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        program = lay_out(settings.weights, settings.config)
        self.bench = Bench(settings.config, program, settings.weights, settings.library)

    @classmethod
    def check_machine(cls, config: HwConfig) -> None:
        """Refuse a machine that has no place for these faults."""
        return

    @property
    def program(self) -> Program:
        """What the board computes."""
        return self.bench.program

    def outcome(self, index: int) -> Outcome:
        """Of fault ``index``."""
        settings = self.settings
        draw = random.Random(f"{settings.campaign} {settings.seed} {index}")
        kind = self.draw_kind(draw)
        result, note = self.strike(kind, draw, index)
        assert result in RESULTS
        return Outcome(index, kind, result, note)

    def draw_kind(self, draw: random.Random) -> str:
        """Which kind the fault is of: any of them as likely as another."""
        return draw.choice(self.kinds)

    @abstractmethod
    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """The result and the note of a fault of this kind."""


__all__ = ["RESULTS", "Campaign", "Outcome", "Settings"]
