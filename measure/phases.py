"""Counts on the chip the cycles of each phase of a token by cause, and compares the phases with the cycle model.

    Session ─► run ─► counters of the chip ─┐
    cycle model ─► its phases ──────────────┴─► Token: Phase(part, name, cycles, model cycles, counts by cause)

The counters belong to a machine with ``counters`` (hw/counters.py), simulated or real. The counters of the lanes add up
to the token's cycles, and so do the counters of the record stream. Otherwise ``count_token`` raises an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.firmware.schedule import phase_names
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig
from lutern.hw.protocol import COUNTER_NAMES, LANE_COUNTERS, RECORD_COUNTERS
from lutern.measure.cycles import token_phases
from lutern.model_ref.errors import LuternError

STEPS = 3
"""Steps of a run. The last token of the run is counted, because the readers are then as far ahead as in every later
step."""
MEANINGS = {
    "beats": "trits are taken",
    "barrier": "no code of the next vector is there yet",
    "codes": "the first rows wait for further codes",
    "trits": "no trits are there",
    "sums": "sums of earlier rows have not left",
    "words": "a word is taken",
    "memory": "the memory gives none",
    "operations": "queues of operations are full",
    "gains": "the FIFO of gains is full",
    "trit_fifo": "the FIFO of trits is full",
}


@dataclass(frozen=True)
class Phase:
    """A phase of a token. ``part`` is "embeddings", "layer 0", ..., or "head". ``counts`` are cycles by cause.

    ``model_cycles`` is the length by the cycle model; None if the cycle model does not apply.
    """

    part: str
    name: str
    counts: dict[str, int]
    model_cycles: int | None = None

    @property
    def cycles(self) -> int:
        """Length of the phase in cycles."""
        return sum(self.counts[name] for name in LANE_COUNTERS)


@dataclass(frozen=True)
class Token:
    """The phases of one pass of ``streams`` tokens on a machine."""

    config: HwConfig
    streams: int
    phases: list[Phase]

    @property
    def cycles(self) -> int:
        """Cycles from one choice of a token to the next."""
        return sum(phase.cycles for phase in self.phases)

    @property
    def parts(self) -> dict[str, dict[str, int]]:
        """Counts by cause, summed for each part."""
        found: dict[str, dict[str, int]] = {}
        for phase in self.phases:
            counts = found.setdefault(phase.part, dict.fromkeys(COUNTER_NAMES, 0))
            for name, count in phase.counts.items():
                counts[name] += count
        return found

    def total(self, name: str) -> int:
        """Return the sum of a counter over the phases of the token."""
        return sum(phase.counts[name] for phase in self.phases)


def check_countable(config: HwConfig) -> None:
    """Refuse a simulated machine whose words come over a line that is not simulated."""
    if config.memory == "host":
        raise LuternError(
            f"{config.name} waits for words from the host, for a time that depends on the line; give a port of a "
            f"board, "
            "or a preset with a memory of its own."
        )


def count_token(session: Session, streams: int = 1) -> Token:
    """Count the phases of the last step of a run.

    Raises ``LuternError`` if the counters do not add up to the cycles of the step, or if the machine cannot run
    ``streams`` streams.
    """
    if not 0 < streams <= min(session.streams, session.slots):
        raise LuternError(
            f"{streams} streams were asked for, but {session.config.name} takes 1 to "
            f"{min(session.streams, session.slots)} with this model."
        )
    program = session.program
    model, vocab, bits = program.model_config, program.vocab, program.embedding_bits
    run = session.run([Feed(slot % vocab, slot, fresh=True) for slot in range(streams)], STEPS)
    rows, names = session.counters(), phase_names(model.num_hidden_layers)
    exact = session.config.memory == "block"  # for other memories the cycle model does not know when words come
    counted = token_phases(model, session.config, streams, embedding_bits=bits) if exact else []
    modelled = [phase.cycles for phase in counted] if exact else [None] * len(rows)
    phases = [
        Phase(part, name, dict(zip(COUNTER_NAMES, map(int, row), strict=True)), cycles)
        for (part, name), row, cycles in zip(names, rows, modelled, strict=True)
    ]
    token = Token(session.config, streams, phases)
    of_records = sum(token.total(name) for name in RECORD_COUNTERS)
    if not token.cycles == of_records == run.cycles:
        raise LuternError(
            f"the counters add up to {token.cycles:,} cycles of the lanes and {of_records:,} of the "
            f"record stream, but the token took {run.cycles:,}; run it again, and report it if it stays so."
        )
    return token
