"""Runs a model on a machine: the simulated board, or a chip at a port. Both kinds of machine have the same methods.

Model.simulate("sim-64") ─► SimulatedBoard ─┐
open_machine("/dev/ttyUSB0") ─► port ───────┴─► Client ─► Session ─► Machine: generate, logits, count
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lutern.api import Progress
from lutern.api.figures import Figures
from lutern.api.models import SHIPPED, Model, load, open_checkpoint
from lutern.api.ports import known_machines, open_port
from lutern.api.writing import Options, StyleOptions, Talk, Texts, all_pieces, pieces_of, style_of, texts_of
from lutern.firmware.limits import lacks, preset_for, reasons
from lutern.firmware.link import Client
from lutern.firmware.opening import load_session, machine_of
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.phases import Token, check_countable, count_token
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.quantise import IntegerWeights
from lutern.sim import waves
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.lockstep import LockStep
from lutern.sim.verilate import verilate

SIM_PRESETS = "resident-85f", "sim-64"
"""Machines to simulate by default. The first machine that holds the model is used. The machine with more lanes comes
first, because it simulates a token faster."""


class Machine:
    """A machine with the model that is loaded into it. ``Model.simulate`` and ``open_machine`` return a ``Machine``.

    A ``Machine`` is a context manager, which closes the port or the simulation at its end.

    Members
    -------
    config : HwConfig
        Lanes, memory, clock and limits of the machine.
    where : str
        "simulated", or the port of the machine.
    model : Model
        The loaded model, or None before ``load``.
    """

    def __init__(
        self, client: Client, config: HwConfig, where: str, stack: ExitStack, board: SimulatedBoard | None = None
    ) -> None:
        self.client, self.config, self.where = client, config, where
        self.model: Model | None = None
        self._stack, self._board = stack, board
        self._session: Session | None = None
        self._machine: Session | LockStep | None = None
        self._lock_step: LockStep | None = None
        self._texts: Texts | None = None

    def __repr__(self) -> str:
        model = "no model" if self.model is None else self.model.name
        return f"<Machine {self.config.name}, {self.where}: {self.config.lanes} lanes, {model}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the port, or free the simulation. Afterwards the machine cannot be used."""
        self._session = self._machine = None
        self._stack.close()

    def load(
        self, model: Model | str, *, check: bool = False, over_link: bool = False, progress: Progress | None = None
    ) -> Self:
        """Load a model into the machine's memory. Parts of the memory that already contain the model are compared, but
        not written again.

        Parameters
        ----------
        model : Model or str
            A model, or a name that ``lutern.load`` opens.
        check, over_link : bool
            As in ``Model.simulate``, only for a simulated board.
        progress : Progress
            Called with the bytes that are compared, sent, and verified.

        Raises
        ------
        LuternError
            The machine does not hold the model, its memory does not keep the model, or ``check`` is given for a machine
            that is not simulated.
        """
        model = model if isinstance(model, Model) else load(model)
        board = self._board
        if check and board is None:
            raise LuternError(f"only a simulated board can be checked, and {self.where} is none; leave check out.")
        check_held(model, self.config)
        if board is None:
            session = load_session(self.client, self.config, model.weights, progress)
        else:
            door = board if board.has_back_door and not over_link else None
            session = Session(self.client, lay_out(model.weights, self.config), progress=progress, door=door)
        self.model, self._session, self._texts = model, session, None
        self._lock_step = LockStep(session, board, model.weights, FastModel) if check and board is not None else None
        self._machine = self._lock_step or session
        return self

    @property
    def session(self) -> Session:
        """The session with the chip, for calls that this class lacks. Raises LuternError if no model is loaded."""
        if self._session is None:
            raise LuternError("no model is loaded into the machine, or it was closed; call load(model) first.")
        return self._session

    @property
    def machine(self) -> Session | LockStep:
        """The object that chooses the tokens: the session, or the lock step that checks it."""
        return self._machine or self.session

    @property
    def streams(self) -> int:
        """The largest number of conversations that share a pass of the weights."""
        return self.session.streams

    @property
    def slots(self) -> int:
        """The number of conversations whose state the machine can store."""
        return self.session.slots

    @property
    def repairs(self) -> list[str]:
        """Sentences, one for each time that damaged weights in the machine's memory were loaded again."""
        return self.session.repairs

    @property
    def checked(self) -> int:
        """The number of values that were compared with the integer model, which is 0 if ``check`` was not given."""
        return self._lock_step.checked if self._lock_step is not None else 0

    def generate(self, prompt: str, **options: Unpack[Options]) -> Iterator[str]:
        """Continue a text.

        Parameters
        ----------
        prompt : str
            The text to continue. An empty text means the beginning-of-text token, if the model has such a token.
        options
            The options of ``lutern.api.writing.Options``.

        Returns
        -------
        iterator of str
            Pieces of the text after the prompt. A piece is yielded as soon as no later token can change it. The machine
            runs while you iterate, one token at a time. The text ends when you stop.

        Raises
        ------
        LuternError
            In the call: an option is out of range, a character has no token, or an option needs all logits but the
            machine keeps only the best logits. During iteration: the line breaks, the memory does not keep the
            weights, or ``check`` was given and a value differs from the integer model's value.
        """
        return pieces_of(self._begin([prompt], **options))

    def generate_all(self, prompts: Sequence[str], **options: Unpack[Options]) -> Iterator[tuple[int, str]]:
        """Continue several texts in parallel, ``streams`` texts in each pass, and yield pairs (prompt, piece).

        ``prompt`` is the index of the prompt in ``prompts``. ``generate`` with ``seed`` + ``prompt`` writes the same
        text. The errors are the same as in ``generate``.
        """
        return all_pieces(self._begin(prompts, **options))

    def talk(self, *, chat: bool = False, **options: Unpack[StyleOptions]) -> Talk:
        """Begin a conversation of several turns, whose state stays on the machine.

        ``talk.say(text)`` iterates over an answer. ``chat``: use the model's chat template. Raises LuternError if the
        model has no template. Other errors are the same as in ``generate``.
        """
        model = self._loaded()
        style, _ = style_of(model.tokenizer, **options)
        style.sampling.check_kept(self.config.top_k)
        return Talk(self.machine, model.tokenizer, style, chat)

    def logits(self, tokens: str | ArrayLike) -> NDArray[np.float64]:
        """Return the logits float64 [n, V] after each of n tokens, computed on the machine (V: vocabulary).

        ``tokens``: a text, or token numbers. The result equals ``Model.logits`` exactly. The link transfers 4 V bytes
        for each token, and the state of the conversation in slot 0 is lost. Raises LuternError for a machine that keeps
        only the best logits.
        """
        ids, best = self._loaded().token_numbers(tokens), self.config.top_k
        if best and best < self._loaded().config.vocab_size:
            raise LuternError(f"{self.config.name} keeps its {best} best logits; choose a machine that keeps all.")
        rows = []
        for place, token in enumerate(ids.tolist()):
            self.machine.run([Feed(token, fresh=place == 0)])
            rows.append(self.machine.logits().real())
        return np.stack(rows)

    def count(self, streams: int = 1) -> Token:
        """Return where the cycles of a pass of ``streams`` tokens go, phase by phase, from the counters of the chip.

        Each of ``token.phases`` has a part (such as "layer 0"), a name, its cycles, the cycles of the cycle model, and
        counts of cycles by cause. The counts of causes for the lanes add up to the cycles exactly.
        ``token.total(name)`` is the sum of a count over all phases. Conversations in the machine are lost. Raises
        LuternError if the machine was not simulated or built with ``counters=True``.
        """
        if self._board is not None:
            check_countable(self.config)
        return count_token(self.session, streams)

    def record_waves(
        self, path: str | os.PathLike[str], cycles: tuple[int, int], signals: Sequence[str] | None = None
    ) -> AbstractContextManager[None]:
        """Record signals while a ``with`` block runs: ``with machine.record_waves("out.vcd", (0, 5000)): ...``.

        Parameters
        ----------
        path : path
            The file: NAME.vcd, or NAME.fst if GTKWave is installed. A view for GTKWave is written into NAME.gtkw.
        cycles : (int, int)
            The first clock cycle to record and the cycle after the last, counted from the beginning of the block.
        signals : sequence of str
            Names below the top module, such as ``decoder.norm`` or ``decoder.*__valid``. Default:
            ``sim.waves.DEFAULT``.

        Raises
        ------
        LuternError
            The machine was not simulated with ``with_waves=True``, there is no such signal, the file has another
            ending, or the block ends before the first cycle.
        """
        if self._board is None or not self._board.has_waves:
            raise LuternError(f"{self.where} has no waves; simulate the machine with_waves=True.")
        return waves.recorded(self._board, Path(path), cycles, signals or waves.DEFAULT)

    @property
    def figures(self) -> Figures:
        """The figures of the last ``generate`` or ``generate_all``. Raises LuternError if there was no such call."""
        if self._texts is None:
            raise LuternError("the machine has written no text yet; iterate over generate(...) first.")
        return self._texts.figures()

    def _loaded(self) -> Model:
        if self.model is None:
            raise LuternError("no model is loaded into the machine; call load(model) first.")
        return self.model

    def _begin(self, prompts: Sequence[str], **options: Any) -> Texts:
        self._texts = texts_of(self.machine, self._loaded().tokenizer, prompts, **options)
        return self._texts


def open_machine(
    port: str | os.PathLike[str],
    model: Model | str | None = None,
    *,
    baud: int | None = None,
    machine: str | HwConfig | None = None,
    memory: str | os.PathLike[str] | None = None,
    record: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Machine:
    """Open the chip at a port, and load a model if one is given.

    Parameters
    ----------
    port : str
        A serial port such as /dev/ttyUSB0. For a machine with AXI4 next to this processor: axi:DEVICE@BASE,... DEVICE
        is the device of the machine's registers, and each BASE is the address at which the words of a port begin.
    model : Model or str
        The model to load. If no model is given, call ``Machine.load`` later.
    baud : int
        Baud rate of a serial port. Default: the first of the known rates at which the chip answers.
    machine : str or HwConfig
        The machine that the chip must have. Default: any preset, or any machine whose bitstream was built on this
        computer.
    memory : path
        File that maps the memory of a machine with AXI4, such as /dev/mem. The model is written through this file.
    record : path
        File into which the traffic of the port is recorded. ``lutern link dump`` reads this file.
    progress : Progress
        Called with the number of loaded bytes.

    Raises
    ------
    LuternError
        The port cannot be opened, the chip does not answer, the chip is not a machine of this release, the machine does
        not hold the model, or its memory does not keep the model.
    """
    paths = [None if path is None else Path(path) for path in (record, memory)]
    with ExitStack() as stack:
        link = stack.enter_context(open_port(os.fspath(port), baud, *paths))
        client = Client(link)
        among = known_machines() if machine is None else [machine_named(machine)]
        opened = Machine(client, machine_of(client, *among), os.fspath(port), stack)
        if model is not None:
            opened.load(model, progress=progress)
        opened._stack = stack.pop_all()
    return opened


class LoadOptions(TypedDict, total=False):
    """The options of ``Machine.load``."""

    check: bool
    over_link: bool
    progress: Progress | None


def simulate(
    model: Model, machine: str | HwConfig | None, counters: bool, with_waves: bool, **options: Unpack[LoadOptions]
) -> Machine:
    """Implement ``Model.simulate``. A model that does not fit is refused before anything is compiled."""
    config = machine_named(machine) if machine is not None else first_that_holds(model.weights)
    config = config.with_(counters=True) if counters else config
    check_held(model, config)
    with ExitStack() as stack:
        component = simulated(config)
        library = verilate(component, waves=True) if with_waves else None
        board = stack.enter_context(SimulatedBoard(component, library=library))
        opened = Machine(Client(board), config, "simulated", stack, board)
        opened.load(model, **options)
        opened._stack = stack.pop_all()
    return opened


def machine_named(machine: str | HwConfig) -> HwConfig:
    """Return the preset with this name. Any other machine is returned unchanged."""
    return preset(machine) if isinstance(machine, str) else machine


def largest_shipped(hw_config: HwConfig) -> str | None:
    """Return the name of the largest shipped model that a machine holds, or None if no shipped model fits."""
    return next((name for name in SHIPPED if not lacks(open_checkpoint(name).config, hw_config)), None)


def check_held(model: Model, hw_config: HwConfig) -> None:
    """Refuse a model that a machine does not hold. The message names a shipped model that fits this machine, or a
    preset that holds this model."""
    found = lacks(model.config, hw_config, model.embedding_bits)
    if found:
        shipped = largest_shipped(hw_config) if model.name in SHIPPED else None
        if shipped is not None:
            instead = f"of the shipped models {shipped} fits"
        elif name := preset_for(model.config, model.embedding_bits):
            instead = f"choose a machine that holds it, such as {name} (lutern inspect lists all)"
        else:
            instead = "choose a smaller model"
        raise LuternError(f"{model.name} does not fit {hw_config.name}: {reasons(found).rstrip('.')}; {instead}.")


def first_that_holds(weights: IntegerWeights) -> HwConfig:
    """Return the machine that is simulated for a model if the user chooses no machine."""
    *others, last = map(preset, SIM_PRESETS)
    bits = weights.embeddings.bits
    return next((config for config in others if not lacks(weights.config, config, bits)), last)


__all__ = [
    "SIM_PRESETS",
    "Machine",
    "check_held",
    "first_that_holds",
    "largest_shipped",
    "machine_named",
    "open_machine",
    "simulate",
]
