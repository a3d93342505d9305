"""Computes the figures of a text that was written: tokens, time, clock cycles, and use of the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lutern.firmware.session import Machine, Run, Session


@dataclass(frozen=True)
class Figures:
    """The figures of a text.

    Members
    -------
    tokens : int
        Number of tokens of the prompts and of the text.
    seconds : float
        Time on this computer, including the time of a simulation.
    streams : int
        The largest number of conversations in a pass.
    cycles : float
        Mean clock cycles of a pass, 0 for the integer model. Only passes with ``streams`` conversations are counted.
        In a run of several steps, only the last step is counted.
    clock_hz : int
        Clock of the machine, 0 for the integer model.
    lane_use : float
        Number of the model's trits divided by the number of lanes and by ``cycles``.
    saturations : int
        Number of beats in which a value was clipped, 0 for a model whose ranges are proved.
    """

    tokens: int
    seconds: float
    streams: int
    cycles: float = 0.0
    clock_hz: int = 0
    lane_use: float = 0.0
    saturations: int = 0

    @property
    def tokens_per_second(self) -> float:
        """The tokens/s of all streams together, at the machine's clock. For the integer model, the tokens/s on this
        computer."""
        return self.streams * self.clock_hz / self.cycles if self.cycles else self.tokens / self.seconds


def figures_of(machine: Machine, runs: Sequence[Run], tokens: int, seconds: float) -> Figures:
    """Return the figures of runs on a machine that processed ``tokens`` tokens of prompt and text in ``seconds``."""
    widest = max((len(run.tokens[0]) for run in runs), default=1)
    full = [run for run in runs if len(run.tokens[0]) == widest]
    clipped, session = sum(run.saturations for run in runs), session_of(machine)
    if session is None or not full:
        return Figures(tokens, seconds, widest, saturations=clipped)
    config, cycles = session.config, sum(run.cycles for run in full) / len(full)
    use = session.program.trits / config.lanes / cycles
    return Figures(tokens, seconds, widest, cycles, config.clock_hz, use, clipped)


def session_of(machine: Machine) -> Session | None:
    """Return the session that a machine uses, or None for the integer model."""
    inner = getattr(machine, "session", machine)  # only a LockStep has the attribute ``session``
    return inner if isinstance(inner, Session) else None


__all__ = ["Figures", "figures_of", "session_of"]
