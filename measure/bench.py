"""Measures a machine with a model on the simulated board: cycles, use of lanes and memory, and tokens/s.

    preset, model ─► program ─► simulated board ─► RUN of three steps: counters of the last step ─► Row
                                              └──► prefill of a prompt                        ─► Row
    builds of ``lutern build`` ─► newest build of the machine ─► the clock that this build reached

Definitions, used throughout Lutern:

- *lane use* = trits of the model / (lanes x cycles of a pass)
- *stream idle* = fraction of the cycles of a pass in which the memory returned no word (source "streamed")
- *trit share* = trits of the model / (5 x bytes read in a pass)
- *bound* = tokens/s if, in every cycle, the lanes took trits (source "resident") or the memory returned words

A pass reads the weights once and computes ``streams`` tokens. Only ``golden_tokens_per_second`` depends on the speed of
this computer. A pass of the demo takes 3 thousand (resident-1024) to 200 thousand (stream-x16) cycles of the simulated
board.
"""

from __future__ import annotations

import hashlib
import pickle
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lutern.boards import cache
from lutern.boards.build import MANIFEST, REPORT
from lutern.firmware.conversations import prefill
from lutern.firmware.link import Client
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, Session
from lutern.hw.config import TRITS_PER_BYTE, HwConfig
from lutern.measure.cluster import Job, Workers
from lutern.measure.cycles import token_cycles
from lutern.measure.word_rate import peak_word_hz
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.quantise import IntegerWeights
from lutern.sim.board import SimulatedBoard, simulated

STEPS = 3
"""Steps of a measured run. From the second step on, all readers of memory are equally far ahead in each step."""
PREFILL_TOKENS = 64
LARGE = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=2, intermediate_size=1024)
"""A model with random weights, for machines with larger widths and memories than the demo needs."""
LARGE_MEMORY: dict[str, dict[str, object]] = {
    "resident-1024": {
        "name": "resident-1024, Q 32, larger memories",
        "codes_per_cycle": 32,
        "trit_beats": 1 << 15,
        "memory_words": 1 << 14,
        "max_width": 1024,
        "max_state": 2048,
        "max_vocab": 256,
    },
    "stream-x16": {"name": "stream-x16, larger memory", "memory_words": 1 << 21},
}
"""Fields that replace the fields of these presets. The machines then have larger memories than their boards have."""


@dataclass(frozen=True)
class Row:
    """One measurement. ``what`` ("decode" or "prefill") of ``tokens`` tokens took ``cycles``, with ``streams`` per
    pass.

    ``cycles`` is the mean over the prompts, and ``deviation`` the standard deviation. ``clock`` names the source of
    ``clock_hz``: a build, or the preset. If ``line`` is true, the host sends the weights, and the link limits the
    speed. ``words_per_cycle`` is the largest number of words that the memory returns per cycle of the machine.
    """

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
    clock_hz: float
    clock: str = "target"
    deviation: float = 0.0
    line: bool = False
    words_per_cycle: float = 1.0

    @property
    def passes(self) -> int:
        """How many times the weights were read."""
        return -(-self.tokens // self.streams)

    @property
    def lane_use(self) -> float:
        """Fraction of the cycles of all lanes in which a lane takes a trit of the model."""
        return self.trits * self.passes / (self.lanes * self.cycles)

    @property
    def stream_idle(self) -> float | None:
        """Fraction of the cycles in which the memory of words returned no word; None if trits are resident."""
        return None if self.resident else 1 - self.words * self.passes / self.cycles

    @property
    def trit_share(self) -> float:
        """Fraction of the read bytes that contain trits of the model."""
        return self.trits / (TRITS_PER_BYTE * self.bytes_read)

    @property
    def tokens_per_second(self) -> float:
        """Tokens/s of all streams at ``clock_hz``."""
        return self.tokens * self.clock_hz / self.cycles

    @property
    def bound(self) -> float | None:
        """Tokens/s that the lanes or the memory allow.

        None if the link limits the speed, because the link is no limit of the chip.
        """
        if self.line:
            return None
        cycles = self.trits / self.lanes if self.resident else self.words / self.words_per_cycle
        return self.streams * self.clock_hz / cycles

    @property
    def share(self) -> float | None:
        """``tokens_per_second`` divided by the bound; None if there is no bound."""
        return None if self.bound is None else self.tokens_per_second / self.bound


def measure(config: HwConfig, weights: IntegerWeights, prompts: int = 1) -> Iterator[Row]:
    """Measure decoding with one stream and with all streams, and the prefill of a prompt, on the simulated board.

    Decoding is measured after each of ``prompts`` first tokens.
    """
    return _measure(config, weights, range(prompts), has_prefill=True)


def measure_by(crew: Workers, config: HwConfig, weights: IntegerWeights, prompts: int) -> list[Row]:
    """Return the rows of ``measure``, measured by workers. Each job measures one prompt.

    With a DRAM the cycles of a prompt depend a little on when the memory refreshes, so the mean may differ from the
    mean of ``measure``.
    """
    about = cache.digest(config.digest, weights.config.digest, weights_digest(weights))
    shared = crew.share(f"weights-{about}", weights)
    jobs = [Job(f"bench-{about}-{prompt}", measure_prompt, (config, shared, prompt)) for prompt in range(prompts)]
    results = crew.run_whole(jobs)
    return [_together([rows[place] for rows in results if place < len(rows)]) for place in range(len(results[0]))]


def measure_prompt(config: HwConfig, weights: IntegerWeights, prompt: int) -> list[Row]:
    """Return the rows of prompt number ``prompt``. Only the rows of prompt 0 include a prefill. A worker runs this."""
    return list(_measure(config, weights, range(prompt, prompt + 1), has_prefill=prompt == 0))


def _together(rows: list[Row]) -> Row:
    cycles = [row.cycles for row in rows]
    return replace(rows[0], cycles=round(statistics.mean(cycles)), deviation=statistics.pstdev(cycles))


def weights_digest(weights: IntegerWeights) -> str:
    """Return a digest of all values of the weights."""
    return hashlib.sha256(pickle.dumps(weights)).hexdigest()


def _measure(config: HwConfig, weights: IntegerWeights, prompts: range, has_prefill: bool) -> Iterator[Row]:
    program = lay_out(weights, config)
    first_tokens = [index * 7 % program.vocab for index in prompts]
    machine: Any = simulated(config)
    part = getattr(machine, "part_timings", None)  # for the cycles of memory and machine in the same time
    clocks = Fraction(round(part.clock_hz), config.clock_hz).as_integer_ratio() if part else None
    with SimulatedBoard(machine, memory_clock=clocks) as board:
        session = Session(Client(board), program, door=board if board.has_back_door else None)
        yield measure_decode(session, 1, first_tokens)
        streams = min(session.streams, session.slots)
        if streams > 1:
            yield measure_decode(session, streams, first_tokens)
        if config.streams > 1 and has_prefill:
            yield measure_prefill(session, PREFILL_TOKENS, config.streams)


def measure_decode(session: Session, streams: int, first_tokens: Sequence[int] = (0,)) -> Row:
    """Measure a step in the middle of a run of ``streams`` conversations, once for each first token."""
    program, config = session.program, session.config
    vocab, bits = program.vocab, program.embedding_bits
    runs = [
        session.run([Feed((slot + token) % vocab, slot, fresh=True) for slot in range(streams)], STEPS)
        for token in first_tokens
    ]
    cycles = [run.cycles for run in runs]
    exact = config.memory == "block"
    modelled = token_cycles(program.model_config, config, streams, embedding_bits=bits).cycles if exact else None
    return _row(
        session,
        "decode",
        streams,
        streams,
        round(statistics.mean(cycles)),
        runs[0].words,
        modelled,
        statistics.pstdev(cycles),
    )


def measure_prefill(session: Session, tokens: int, streams: int) -> Row:
    """Measure a prompt of ``tokens`` tokens, ``streams`` tokens per pass.

    The cycles are the cycles of the last pass times the number of passes.
    Raises ``LuternError`` if ``tokens`` is no multiple of ``streams``.
    """
    if tokens % streams:
        raise LuternError(f"a prompt of {tokens} tokens is not a multiple of {streams} streams; choose a multiple.")
    vocab = session.program.vocab
    run = prefill(_Narrow(session, streams), [place % vocab for place in range(tokens)], slot=0)
    return _row(session, "prefill", streams, tokens, run.cycles * tokens // streams, run.words, None, 0.0)


def golden_tokens_per_second(weights: IntegerWeights, tokens: int) -> float:
    """Return the tokens/s of the integer model on this computer, with one stream."""
    model = FastModel(weights)
    state = model.initial_state(1)
    ids = np.zeros(1, dtype=np.int64)
    begin = time.perf_counter()
    for _ in range(tokens):
        logits, state = model.step(ids, state)
        ids = np.argmax(logits, axis=-1)
    return tokens / (time.perf_counter() - begin)


@dataclass(frozen=True)
class BuiltClock:
    """The frequency that the clock ``sync`` of a build reached."""

    board: str
    hz: float


def built_clock(config: HwConfig, board: str = "") -> BuiltClock | None:
    """Return the clock of the newest build of a machine (on ``board``, if given).

    Taps, kind of cells and target clock of the build may differ from the machine's.
    """
    clocks = (_clock_of(path, config, board) for path in cache.newest("builds", f"*/{MANIFEST}"))
    return next((clock for clock in clocks if clock is not None), None)


def _clock_of(path: Path, config: HwConfig, board: str) -> BuiltClock | None:
    """Return the clock of a build; None if the build is damaged or is not of the machine."""
    try:
        manifest = cache.kept_json(path)
        built = config.with_(debug_tap=False, cells="ecp5")
        wanted = (config.clock_hz, round(manifest["clocks_hz"]["sync"]))  # a PLL cannot make every clock exactly
        digests = [built.with_(clock_hz=hz).digest for hz in wanted]
        if manifest["machine_digest"] not in digests or board not in ("", manifest["board"]):
            return None
        clocks = cache.kept_json(path.with_name(REPORT))["best"]["clocks"]
        return BuiltClock(manifest["board"], next(c["achieved_hz"] for c in clocks if c["domain"] == "sync"))
    except (ValueError, KeyError, TypeError, StopIteration):
        return None


class _Narrow:
    """A session that uses fewer streams than its machine has."""

    def __init__(self, session: Session, streams: int) -> None:
        self.streams, self.slots, self.run, self.logits = streams, session.slots, session.run, session.logits


def _row(
    session: Session,
    what: str,
    streams: int,
    tokens: int,
    cycles: int,
    words: int,
    model_cycles: int | None,
    deviation: float,
) -> Row:
    program: Program = session.program
    config: HwConfig = session.config
    return Row(
        config.name,
        what,
        streams,
        tokens,
        cycles,
        model_cycles,
        config.lanes,
        program.trits,
        words,
        config.source == "resident",
        program.bytes_per_pass(streams),
        config.clock_hz,
        deviation=deviation,
        line=config.memory == "host",
        words_per_cycle=peak_word_hz(config) / config.clock_hz,
    )
