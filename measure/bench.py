"""What a machine does with a model, counted on the simulated board: cycles, lanes, stream, and the tokens they mean.

    preset, model ─► program ─► simulated board ─► RUN of three steps: the last one's counters ─► Row
                                              └──► prefill of a prompt                       ─► Row

Definitions, as everywhere in Lutern: *lane use* = trits of the model / (lanes x cycles of a pass); *stream idle* =
cycles of a pass in which the memory gave no word (source "stream"); *trit share* = trits of the model / (5 x bytes read
a pass). A pass reads the weights once and takes ``streams`` tokens on. Nothing here depends on the speed of this
computer.

Cost: a pass of the demo is 3 thousand (resident-85f) to 200 thousand (stream-x16) cycles of the simulated board.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.firmware.conversations import prefill
from lutern.firmware.program import Program
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig
from lutern.measure.cycles import token_cycles
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

STEPS = 3
"""From the second step on the readers are as far ahead as they stay."""
PREFILL_TOKENS = 64
LARGE = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=2, intermediate_size=1024)
"""Random weights, to see what widths and depths beyond the demo's do."""
LARGE_MEMORY: dict[str, dict[str, object]] = {
    "resident-85f": {
        "name": "resident-85f, larger memories", "trit_beats": 1 << 15, "memory_words": 1 << 14, "max_width": 1024,
        "max_state": 2048, "max_vocab": 256,
    },
    "stream-x16": {"name": "stream-x16, larger memory", "memory_words": 1 << 21},
}
"""The same machine with memory models in place of what its board has."""


@dataclass(frozen=True)
class Row:
    """One measurement: ``cycles`` for ``tokens`` of ``what`` with ``streams`` a pass."""

    preset: str
    what: str
    streams: int
    tokens: int
    cycles: int
    model_cycles: int | None
    lanes: int
    trits: int
    words: int
    resident: bool
    bytes_read: int
    clock_hz: int

    @property
    def passes(self) -> int:
        """How often the weights were read."""
        return -(-self.tokens // self.streams)

    @property
    def lane_use(self) -> float:
        """Share of the lanes' cycles that a trit of the model took."""
        return self.trits * self.passes / (self.lanes * self.cycles)

    @property
    def stream_idle(self) -> float | None:
        """Share of cycles in which the memory of words gave none; None where trits are resident."""
        return None if self.resident else 1 - self.words * self.passes / self.cycles

    @property
    def trit_share(self) -> float:
        """Share of the bytes read that are trits of the model."""
        return self.trits / (5 * self.bytes_read)

    @property
    def tokens_per_second(self) -> float:
        """At the preset's clock."""
        return self.tokens * self.clock_hz / self.cycles


def measure_decode(session: Session, streams: int) -> Row:
    """A step in the middle of a run of ``streams`` conversations."""
    vocab = session.program.vocab
    run = session.run([Feed(slot % vocab, slot, fresh=True) for slot in range(streams)], STEPS)
    return _row(session, "decode", streams, streams, run.cycles, run.words,
                token_cycles(session.program.model, session.config, streams).cycles)


def measure_prefill(session: Session, tokens: int, streams: int) -> Row:
    """A prompt of ``tokens`` tokens, ``streams`` a pass: cycles of a later pass, times the passes."""
    if tokens % streams:
        raise LuternError(f"a prompt of {tokens} tokens is no multiple of {streams} streams; choose one that is.")
    vocab = session.program.vocab
    run = prefill(_Narrow(session, streams), [place % vocab for place in range(tokens)], slot=0)
    return _row(session, "prefill", streams, tokens, run.cycles * tokens // streams, run.words, None)


class _Narrow:
    """A session that takes fewer streams."""

    def __init__(self, session: Session, streams: int) -> None:
        self.streams, self.slots, self.run, self.logits = streams, session.slots, session.run, session.logits


def _row(
    session: Session, what: str, streams: int, tokens: int, cycles: int, words: int, model_cycles: int | None
) -> Row:
    program: Program = session.program
    config: HwConfig = session.config
    extra = (streams - 1) * program.sizes.row_words * config.word_bytes
    return Row(
        config.name, what, streams, tokens, cycles, model_cycles, config.lanes, program.trits, words,
        config.source == "resident", program.bytes_per_token + extra, config.clock_hz,
    )
