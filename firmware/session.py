"""A session: one model on one machine, and its runs.

    feeds (token, slot, seed) ─► run ─► chosen tokens, one per stream and step; logits if the host requests them

``Session`` uses the machine at the other end of a ``Link``: a simulated board, or a board at a serial port. If the
chip ends a run because its memory has damaged weights, ``Session.run`` repairs the weights and repeats the run.
``GoldenSession`` has the same methods, and computes with the integer model. Neither class handles prompts;
``conversations.py`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.host_weights import HostWeights
from lutern.firmware.limits import state_slots
from lutern.firmware.link import Client, LinkError, RefusedError
from lutern.firmware.loader import BackDoor, Progress, load_sections
from lutern.firmware.program import Program
from lutern.firmware.schedule import LAYER, phase_names
from lutern.hw.protocol import (
    COUNTER_NAMES,
    COUNTER_STRIDE,
    COUNTERS,
    COUNTERS_COUNT,
    COUNTERS_DONE,
    DAMAGE_DONE,
    DIGEST_BYTES,
    FEED,
    INFO,
    LOGITS,
    LOGITS_COUNT,
    LOGITS_DONE,
    RUN,
    RUN_DONE,
    RUN_TOKENS,
    SETUP,
    STEP_LIMIT_CYCLES,
    Damage,
    ErrorCode,
    Opcode,
)
from lutern.model_ref import head
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.fixed import Int
from lutern.model_ref.model import IntegerModel, Saturations
from lutern.model_ref.quantise import IntegerWeights
from lutern.model_ref.sampling import TEMPERATURE_BITS, TEMPERATURE_FRAC_BITS, Gumbel, scores

MOST_REPAIRS = 3
"""Largest number of repairs in a run. A memory that is damaged again after each repair cannot store weights."""


@dataclass(frozen=True)
class Feed:
    """The first token, state and seed of one stream of a run.

    token
        The first token.
    slot
        Place of the conversation's state.
    fresh
        Whether the run starts from a zero state.
    seed
        State of the stream's random generator, which is not used at temperature 0.
    """

    token: int
    slot: int = 0
    fresh: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Run:
    """The result of a run.

    tokens
        ``tokens[step][stream]``.
    cycles
        Number of cycles of the last step.
    beats
        Number of beats of the ternary unit in the last step.
    words
        Number of words that the memory returned in the last step.
    saturations
        Number of beats of the elementwise path in which a value of h, i or gate was clipped (the integer model counts
        values). The number is 0 for a model whose ranges are proved.
    """

    tokens: list[list[int]]
    cycles: int = 0
    beats: int = 0
    words: int = 0
    saturations: int = 0


@dataclass(frozen=True)
class Logits:
    """Raw logits of one stream: ``sums [k]`` of ``tokens [k]`` (the whole vocabulary, or the best), and their scale."""

    tokens: NDArray[np.int64]
    sums: NDArray[np.int64]
    scale: tuple[int, int]

    def real(self) -> NDArray[np.float64]:
        """Return the logits as real numbers."""
        scale = np.array([self.scale[0]]), np.array([self.scale[1]])
        return np.asarray(head.logits(self.sums[None], scale)[0])


class Machine(Protocol):
    """The interface through which conversations use a machine.

    ``streams`` is the largest number of feeds in a run. ``slots`` is the number of states that it stores.
    """

    streams: int
    slots: int

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        """Choose ``count`` tokens for every feed. If ``chained``, the feeds are the next tokens of one conversation."""

    def logits(self, stream: int = 0) -> Logits:
        """Return the raw logits of a stream's last token."""


def temperature_word(temperature: float) -> int:
    """Return a temperature in the format u4.12; raise ``LuternError`` if it does not fit."""
    word = round(temperature * (1 << TEMPERATURE_FRAC_BITS)) if math.isfinite(temperature) else -1
    if not 0 <= word < 1 << TEMPERATURE_BITS:
        highest = (1 << TEMPERATURE_BITS - TEMPERATURE_FRAC_BITS) - 1
        raise LuternError(f"the temperature is {temperature}; give 0 (the likeliest) to {highest}.")
    return word


class Session:
    """A program, loaded into the chip at the other end of ``client``, or sent to the chip in every run.

    A ``LuternError`` is raised if the chip is not the machine for which the program was laid out, or if the chip's
    memory does not hold what was sent.

    Parameters
    ----------
    client
        The link to the chip.
    program
        The program.
    door
        The chip's memory, if the host reaches it without the chip; see ``loader.load_sections``.
    is_loaded
        If true, the model is in the memory already, and the memory is not compared.

    Attributes
    ----------
    repairs
        A sentence for each run that was repeated.
    """

    def __init__(
        self,
        client: Client,
        program: Program,
        progress: Progress | None = None,
        door: BackDoor | None = None,
        *,
        is_loaded: bool = False,
    ) -> None:
        self.client = client
        self.config = config = program.hw_config
        self.program = program
        self.streams = config.streams
        self.slots = state_slots(program.model_config, config, program.embedding_bits)
        self.info = INFO.unpack(client.transact(Opcode.INFO))
        wanted = bytes.fromhex(config.chip_digest)[:DIGEST_BYTES]
        if self.info["hw_digest"] != wanted:
            raise LuternError(
                f"the chip was built for machine {self.info['hw_digest'].hex()}, but preset {config.name} is "
                f"{wanted.hex()}; choose the preset of the bitstream or rebuild it."
            )
        self.repairs: list[str] = []
        self._door = door
        self._history: dict[int, list[int]] = {}  # by slot: the tokens that its state was made from
        self.weights: HostWeights | None = None
        if config.memory == "host":
            client.server = self.weights = HostWeights(program, config.memory_words)
        else:
            if not is_loaded:
                load_sections(client, program.sections, progress=progress, door=door)
            client.token_cycles = program.step_limit * STEP_LIMIT_CYCLES
        self.set_up()

    def set_up(self) -> None:
        """Send SETUP, which contains the addresses and sizes of the model in the chip's memory. A reset
        clears SETUP, but not the memory."""
        self.client.transact(Opcode.SETUP, SETUP.pack(**self.program.setup))
        if self.weights is not None:
            self.weights.begin()

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        """See ``Machine``. A run is one transaction, because the chip itself feeds each chosen token to the next step.

        If the chip ends a run because weights are damaged or a step takes too long, the run returns no tokens. The
        memory is then compared with the program and repaired. All tokens of the conversations are fed again, which
        restores their states, and the run is repeated. After ``MOST_REPAIRS`` repairs the error is raised.
        """
        if not 0 < len(feeds) <= self.streams or not 0 < count * len(feeds) <= RUN_TOKENS:
            raise LuternError(
                f"a run of {count} tokens for each of {len(feeds)} streams was asked for, but {self.config.name} takes "
                f"up to {self.streams} streams and {RUN_TOKENS} tokens; split it."
            )
        for attempt in range(MOST_REPAIRS + 1):
            try:
                if attempt:
                    self._replay(feeds)
                run = self._run_once(feeds, count, temperature, chained)
            except RefusedError as error:
                if attempt == MOST_REPAIRS or not self._repair(error):
                    raise
            else:
                self._note(feeds, run, chained)
                return run
        raise AssertionError("the last attempt returns or raises")

    def _repair(self, error: RefusedError) -> bool:
        """Repair the memory and set the chip up, if damaged weights may be the cause of the refusal; return whether
        the memory was repaired.
        """
        damage = DAMAGE_DONE.unpack(self.client.transact(Opcode.DAMAGE))
        if damage["kind"] not in tuple(Damage):
            raise LinkError(
                f"The board answered DAMAGE with kind {damage['kind']}, but {max(Damage)} is the largest; use "
                "gateware and program of the same release."
            )
        kind = Damage(damage["kind"])
        lost = error.code == ErrorCode.NOT_SET_UP and kind != Damage.NONE  # the answer with the reason was lost
        if error.code not in (ErrorCode.WEIGHTS_DAMAGED, ErrorCode.RUN_TOO_LONG) and not lost:
            return False
        load_sections(self.client, self.program.sections, door=self._door)
        self.set_up()
        self.repairs.append(self._damage_text(kind, damage["place"]))
        return True

    def _damage_text(self, kind: Damage, place: int) -> str:
        """Return a sentence about the damage that the chip found."""
        done = "the model was compared and loaded again, and the run repeated"
        if kind == Damage.RECORDS:
            blocks = self.program.blocks
            first, words = blocks[min(place, len(blocks) - 1)]
            where = f"words {first:,} to {first + words - 1:,}"
            return f"Block {place} of the weights ({where}) was damaged in memory; {done}."
        if kind == Damage.ROW:
            return f"The embedding of token {place} was damaged in memory; {done}."
        if kind == Damage.TRITS:
            return f"Trits were damaged in block RAM; {done}."
        return f"A token took too long, and no weights were found damaged; {done}."

    def _replay(self, feeds: Sequence[Feed]) -> None:
        """Feed the tokens of these conversations again, which restores their states."""
        for slot in {feed.slot: feed for feed in feeds if not feed.fresh}:
            tokens = self._history.get(slot, [])
            for first in range(0, len(tokens), self.streams):
                some = tokens[first : first + self.streams]
                again = [Feed(token, slot, fresh=first + place == 0) for place, token in enumerate(some)]
                self._run_once(again, 1, 0.0, len(some) > 1)

    def _note(self, feeds: Sequence[Feed], run: Run, chained: bool) -> None:
        """Store the tokens from which the states were made."""
        for stream, feed in enumerate(feeds):
            if feed.fresh and not (chained and stream):
                self._history[feed.slot] = []
            chosen = [] if chained else [step[stream] for step in run.tokens[:-1]]
            self._history.setdefault(feed.slot, []).extend([feed.token, *chosen])

    def _run_once(self, feeds: Sequence[Feed], count: int, temperature: float, chained: bool) -> Run:
        stride = self.program.state_stride
        command = RUN.pack(
            count=count, temperature=temperature_word(temperature), streams=len(feeds), chained=int(chained)
        )
        for feed in feeds:
            command += FEED.pack(token=feed.token, state_base=feed.slot * stride, fresh=int(feed.fresh), seed=feed.seed)
        reply = self.client.transact(Opcode.RUN, command)
        done = RUN_DONE.unpack(reply)
        tokens = np.frombuffer(reply, dtype="<u2", offset=RUN_DONE.byte_count).astype(int)
        self._check_tokens(tokens)
        return Run(
            tokens.reshape(count, -1).tolist(), done["cycles"], done["beats"], done["words"], done["saturations"]
        )

    def _check_tokens(self, tokens: NDArray[np.int64]) -> None:
        """Raise ``LinkError`` for tokens that the model does not have, because no later code checks the tokens."""
        wrong = (tokens < 0) | (tokens >= self.program.vocab)
        if wrong.any():
            raise LinkError(
                f"The board answered with token {tokens[wrong][0]}, but its model has {self.program.vocab} tokens; "
                "load the model again, and run lutern selftest if it stays so."
            )

    def logits(self, stream: int = 0) -> Logits:
        """See ``Machine``. The logits are read from the chip."""
        vocab, best = self.program.vocab, self.config.top_k
        items = 2 * min(best, vocab) if best else vocab
        parts = []
        for offset in range(0, items, LOGITS_COUNT):
            count = min(LOGITS_COUNT, items - offset)
            reply = self.client.transact(Opcode.LOGITS, LOGITS.pack(stream=stream, offset=offset, count=count))
            scale = LOGITS_DONE.unpack(reply)
            parts.append(np.frombuffer(reply, dtype="<i4", offset=LOGITS_DONE.byte_count))
        numbers = np.concatenate(parts).astype(np.int64)
        sums, tokens = (numbers[0::2], numbers[1::2]) if best else (numbers, np.arange(vocab))
        self._check_tokens(tokens)
        return Logits(tokens, sums, (scale["scale_mantissa"], scale["scale_exponent"]))

    def counters(self) -> NDArray[np.int64]:
        """Return the cycles of the last token, phase by phase: [phases, ``COUNTER_NAMES``].

        ``schedule.phase_names`` lists the phases. The phase of a matrix ends with its last beat of trits.
        """
        phases, room = len(phase_names(self.program.model_config.num_hidden_layers)), self.config.counted_phases
        if not room:
            raise LuternError(f"{self.config.name} has no counters; build it with them: lutern build --counters.")
        if phases > room:
            raise LuternError(
                f"a token of this model has {phases} phases, but the counters of {self.config.name} hold "
                f"{room}; choose a model of at most {(room - len(phase_names(0))) // len(LAYER)} layers."
            )
        numbers, total = [], phases * COUNTER_STRIDE
        for offset in range(0, total, COUNTERS_COUNT):
            count = min(COUNTERS_COUNT, total - offset)
            reply = self.client.transact(Opcode.COUNTERS, COUNTERS.pack(offset=offset, count=count))
            if COUNTERS_DONE.unpack(reply)["phases"] != phases:
                raise LuternError(
                    "no token was chosen since the machine was set up, so nothing is counted; let it run first."
                )
            numbers.append(np.frombuffer(reply, dtype="<u4", offset=COUNTERS_DONE.byte_count))
        return np.concatenate(numbers).astype(np.int64).reshape(phases, COUNTER_STRIDE)[:, : len(COUNTER_NAMES)]


class GoldenSession:
    """The integer model, with the methods of ``Session``. In a ``Run`` of this class, cycles, beats and words are 0.

    model
        The class of the model. Both classes of models compute the same numbers.
    trace
        A function that is called like ``model_ref.model.Trace``, but with the streams of the values as an additional
        first argument.
    state
        S of all conversations, [layers, slots, d].
    """

    def __init__(
        self,
        weights: IntegerWeights,
        streams: int = 1,
        slots: int = 1,
        model: type[IntegerModel] = FastModel,
        trace: Callable[[Sequence[int], str, int, Int], None] | None = None,
    ) -> None:
        self.streams, self.slots = streams, slots
        self.weights = weights
        self.saturations = Saturations()
        self.model = model(weights, self.saturations)
        self._trace = trace
        self.state = self.model.initial_state(slots)
        self._sums = np.zeros((streams, weights.config.vocab_size), dtype=np.int64)
        self._scale = np.zeros((2, streams), dtype=np.int64)

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        """See ``Machine``."""
        self.saturations.counts.clear()
        generator = Gumbel(np.array([feed.seed for feed in feeds]))
        slots = [feed.slot for feed in feeds]
        self.state[:, [feed.slot for feed in feeds if feed.fresh]] = 0
        ids = np.array([feed.token for feed in feeds])
        tokens = []
        for _ in range(count):
            for streams in [[stream] for stream in range(len(feeds))] if chained else [list(range(len(feeds)))]:
                self._decode(streams, [slots[stream] for stream in streams], ids[streams])
            sums, scale = self._sums[: len(feeds)], (self._scale[0, : len(feeds)], self._scale[1, : len(feeds)])
            ids = generator.choose(sums, scores(sums, self.weights.lm_head.cut, scale), temperature_word(temperature))
            tokens.append([int(token) for token in ids])
        return Run(tokens, saturations=sum(self.saturations.counts.values()))

    def _decode(self, streams: list[int], slots: list[int], ids: Int) -> None:
        trace = None if self._trace is None else partial(self._trace, streams)
        sums, scale, state = self.model.decode(ids, self.state[:, slots], trace)
        self.state[:, slots] = state
        self._sums[streams] = sums
        self._scale[0, streams], self._scale[1, streams] = scale

    def logits(self, stream: int = 0) -> Logits:
        """See ``Machine``."""
        scale = int(self._scale[0, stream]), int(self._scale[1, stream])
        return Logits(np.arange(self._sums.shape[1]), self._sums[stream].copy(), scale)
