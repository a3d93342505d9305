"""A session: one model on one machine, and the loop that turns a prompt into text.

    prompt ids ─► run, run, ... ─► chosen token (t = 0) or logits ─► sampler ─► next run

``Session`` drives whatever answers the protocol at the other end of a ``Link``: the simulated board or a serial port.
``GoldenSession`` answers the same calls from the integer model. Neither knows which text it makes: ``generate`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lutern.firmware.link import Client
from lutern.firmware.loader import load_words
from lutern.firmware.program import Program
from lutern.hw.config import HwConfig
from lutern.hw.protocol import DIGEST_BYTES, INFO, LOGITS, LOGITS_COUNT, RUN, RUN_DONE, SETUP, Opcode
from lutern.model_ref import head
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.model import Saturations
from lutern.model_ref.quantize import IntegerWeights

Progress = Callable[[int, int], None]
EMPTY_PROMPT = "the prompt is empty; give at least one character."


@dataclass(frozen=True)
class Run:
    """What a run of ``len(tokens)`` tokens gave; ``cycles`` and ``beats`` (of the ternary unit) of its last token.

    ``saturations``: beats of the elementwise path in which a value of h, i or gate was clipped (the integer model
    counts values). 0 for a model whose ranges are proved.
    """

    tokens: list[int]
    cycles: int
    beats: int
    saturations: int
    scale: tuple[int, int]


class Machine(Protocol):
    """What ``generate`` needs of a machine."""

    def run(self, token: int, count: int = 1, fresh: bool = False) -> Run:
        """Feed ``token``, then the chip's own choices, until ``count`` tokens are chosen."""

    def sums(self) -> NDArray[np.int64]:
        """Raw logits [V] of the last token."""


class Session:
    """A program, laid out for ``config``, loaded into the chip behind ``client``.

    Raises ``LuternError`` when the chip is not the one that ``config`` describes, or when what the chip's memory holds
    is not what was sent.
    """

    def __init__(self, client: Client, program: Program, config: HwConfig, progress: Progress | None = None) -> None:
        self.client = client
        self.config = config
        self.program = program
        self.info = INFO.unpack(client.transact(Opcode.INFO))
        wanted = bytes.fromhex(config.digest)[:DIGEST_BYTES]
        if self.info["hw_digest"] != wanted:
            raise LuternError(
                f"the chip was built for machine {self.info['hw_digest'].hex()}, but preset {config.name} is "
                f"{wanted.hex()}; choose the preset of the bitstream or rebuild it."
            )
        load_words(client, program.words, config.memory_words, progress=progress)
        self.set_up()

    def set_up(self) -> None:
        """Tell the chip where in its memory the model's spans are; a reset forgets it, the memory stays."""
        self.client.transact(Opcode.SETUP, SETUP.pack(**self.program.setup))

    def run(self, token: int, count: int = 1, fresh: bool = False) -> Run:
        """See ``Machine``. One transaction; the token loop closes on the chip."""
        reply = self.client.transact(Opcode.RUN, RUN.pack(token=token, count=count, fresh=int(fresh)))
        done = RUN_DONE.unpack(reply)
        tokens = np.frombuffer(reply, dtype="<u2", offset=RUN_DONE.byte_count).astype(int).tolist()
        return Run(
            tokens,
            done["cycles"],
            done["beats"],
            done["saturations"],
            (done["scale_mantissa"], done["scale_exponent"]),
        )

    def sums(self) -> NDArray[np.int64]:
        """Raw logits [V] of the last token, as kept on the chip."""
        parts = []
        for offset in range(0, self.program.vocab, LOGITS_COUNT):
            count = min(LOGITS_COUNT, self.program.vocab - offset)
            reply = self.client.transact(Opcode.LOGITS, LOGITS.pack(offset=offset, count=count))
            parts.append(np.frombuffer(reply, dtype="<i4"))
        return np.concatenate(parts).astype(np.int64)


class GoldenSession:
    """The integer model behind the same calls; cycles and beats are 0, it has none."""

    def __init__(self, weights: IntegerWeights) -> None:
        self.saturations = Saturations()
        self.model = FastModel(weights, self.saturations)
        self._state = self.model.initial_state(1)
        self._sums = np.zeros(weights.config.vocab_size, dtype=np.int64)

    def run(self, token: int, count: int = 1, fresh: bool = False) -> Run:
        """See ``Machine``."""
        self.saturations.counts.clear()
        if fresh:
            self._state = self.model.initial_state(1)
        tokens: list[int] = []
        scale = (0, 0)
        for _ in range(count):
            sums, scales, self._state = self.model.decode(np.array([token]), self._state)
            self._sums, scale = sums[0], (int(scales[0][0]), int(scales[1][0]))
            token = int(head.argmax(self._sums))
            tokens.append(token)
        return Run(tokens, 0, 0, sum(self.saturations.counts.values()), scale)

    def sums(self) -> NDArray[np.int64]:
        """See ``Machine``."""
        return self._sums


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: ``temperature`` 0 takes the chip's argmax; ``top_k`` 0 keeps all tokens."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise LuternError(f"the temperature is {self.temperature}; give 0 (argmax) or a positive number.")
        if self.top_k < 0:
            raise LuternError(f"top-k is {self.top_k}; give 0 (all tokens) or a positive number.")


def sample(logits: NDArray[np.float64], sampling: Sampling, random: np.random.Generator) -> int:
    """A token from softmax(logits / temperature), restricted to the ``top_k`` largest (lowest index on a tie)."""
    order = np.argsort(-logits, kind="stable")
    kept = order[: sampling.top_k or len(order)]
    scaled = (logits[kept] - logits[kept[0]]) / sampling.temperature
    weights = np.exp(scaled)
    return int(kept[np.searchsorted(np.cumsum(weights), random.random() * weights.sum(), side="right")])


def generate(machine: Machine, prompt: list[int], count: int, sampling: Sampling) -> Iterator[tuple[int, Run]]:
    """Feed a prompt (at least one token, from a zero state) and yield ``count`` tokens with the run each came from."""
    if not prompt:
        raise LuternError(EMPTY_PROMPT)
    random = np.random.default_rng(sampling.seed)
    for position, token in enumerate(prompt):
        run = machine.run(token, fresh=position == 0)
    for index in range(count):
        chosen = run.tokens[-1]
        if sampling.temperature > 0:
            scale = np.array([run.scale[0]]), np.array([run.scale[1]])
            chosen = sample(head.logits(machine.sums()[None], scale)[0], sampling, random)
        yield chosen, run
        if index + 1 < count:
            run = machine.run(chosen)
