"""What writing a text took: tokens, time, clock cycles, and how much of them the lanes worked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lutern.firmware.session import Machine, Run, Session


@dataclass(frozen=True)
class Figures:
    """What a text took.

    Members
    -------
    tokens : int
        Tokens fed and written.
    seconds : float
        Time on this computer, with that of a simulation.
    streams : int
        Tokens of a pass: conversations in flight.
    cycles : float
        Clock cycles of a pass, the mean; 0 for the integer model. The last pass, which had the fewest conversations
        left, is not counted where there was another.
    clock_hz : int
        Of the machine; 0 for the integer model.
    lane_use : float
        Share of the lanes' cycles that a trit of the model took.
    saturations : int
        Beats in which a value was clipped; 0 for a model whose ranges are proved.
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
        """At the machine's clock, all streams together; on this computer for the integer model."""
        return self.streams * self.clock_hz / self.cycles if self.cycles else self.tokens / self.seconds


def figures_of(machine: Machine, runs: Sequence[Run], tokens: int, seconds: float) -> Figures:
    """What runs of a machine took, of which so many tokens were fed and written in so many seconds."""
    widest = max((len(run.tokens[0]) for run in runs), default=1)
    full = [run for run in runs if len(run.tokens[0]) == widest]
    clipped, session = sum(run.saturations for run in runs), session_of(machine)
    if session is None or not full:
        return Figures(tokens, seconds, widest, saturations=clipped)
    config, cycles = session.config, sum(run.cycles for run in full) / len(full)
    use = session.program.trits / config.lanes / cycles
    return Figures(tokens, seconds, widest, cycles, config.clock_hz, use, clipped)


def session_of(machine: Machine) -> Session | None:
    """The session behind a machine; the integer model has none."""
    inner = getattr(machine, "session", machine)  # a lock step has one
    return inner if isinstance(inner, Session) else None


__all__ = ["Figures", "figures_of", "session_of"]
