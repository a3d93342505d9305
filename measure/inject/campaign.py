"""A campaign injects the faults 0, 1, 2, ... in one kind of place, and finds the outcome of each fault.

    campaign, seed, index ─► draw ─► fault ─► a fresh, working board that is struck ─► outcome

A fault and its outcome depend only on campaign, seed, index, machine and model. Every fault has its own board, in the
state after power-up, so neither earlier faults nor the process that injects it change the outcome.

    masked     the correct tokens and logits, and nothing was reported
    corrected  the correct tokens and logits, after the host reported and corrected a fault
    detected   an error instead of an answer
    silent     a wrong token or logit
    hung       no answer until the host gave up
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
    """The fields that all faults of a campaign share. ``library`` is the compiled board."""

    campaign: str
    seed: int
    config: HwConfig
    weights: IntegerWeights
    library: Path


@dataclass(frozen=True)
class Outcome:
    """The outcome of a fault. ``result`` is one of ``RESULTS``. ``note`` is the place of the fault and the reports."""

    index: int
    kind: str
    result: str
    note: str


class Campaign(ABC):
    """A kind of campaign. ``kinds`` are its kinds of faults, which are the rows of the table. If ``needs_upsets``, the
    simulation of the board must be able to change bits of the chip.
    """

    kinds: tuple[str, ...]
    needs_upsets = False
    fault_count: int | None = None
    """Number of faults; None if this number is not limited."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        program = lay_out(settings.weights, settings.config)
        self.bench = Bench(settings.config, program, settings.weights, settings.library)

    @classmethod
    def check_machine(cls, config: HwConfig) -> None:
        """Raise ``LuternError`` for a machine in which these faults cannot be injected."""
        return

    @property
    def program(self) -> Program:
        """The program that the board runs."""
        return self.bench.program

    def outcome(self, index: int) -> Outcome:
        """Inject fault ``index`` and return its outcome."""
        settings = self.settings
        draw = random.Random(f"{settings.campaign} {settings.seed} {index}")
        kind = self.draw_kind(draw)
        result, note = self.strike(kind, draw, index)
        assert result in RESULTS
        return Outcome(index, kind, result, note)

    def draw_kind(self, draw: random.Random) -> str:
        """Draw the kind of the fault; all kinds are equally likely."""
        return draw.choice(self.kinds)

    @abstractmethod
    def strike(self, kind: str, draw: random.Random, index: int) -> tuple[str, str]:
        """Inject a fault of this kind; return its result and its note."""


__all__ = ["RESULTS", "Campaign", "Outcome", "Settings"]
