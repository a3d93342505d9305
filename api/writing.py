"""How texts are written on any machine: options, several prompts at once, turns of a conversation, and what it took.

    prompts, Style ─► Texts ─► converse ─► (which, text) as it becomes certain ─► Figures
    turns, Style ───► Talk ──► Dialogue ─► text; the conversation's state stays on the machine

A machine is what ``firmware.session.Machine`` describes: the integer model, the simulated board, a chip at a port.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from lutern.api.figures import Figures, figures_of, session_of
from lutern.firmware.conversations import EMPTY_PROMPT, Dialogue, Piece, converse
from lutern.firmware.host_sampling import Sampling
from lutern.firmware.session import Machine, Run
from lutern.model_ref.chat import Chat
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.errors import LuternError
from lutern.model_ref.text_stream import Writing
from lutern.model_ref.tokenizer import Tokenizer

TOKENS = 200
TEMPERATURE = 0.8
"""Where neither the user nor the model's generation_config.json gives one."""


class StyleOptions(TypedDict, total=False):
    """How a text is written.

    ``tokens``: at most so many, 200 if not given. ``temperature``: 0 takes the likeliest token. ``top_k``, ``top_p``,
    ``min_p``, ``repetition_penalty``: see ``firmware.host_sampling.Sampling``; with one of these the host chooses, and
    4 bytes a token of the vocabulary come over the link for every token. What is not given is that of the model's
    generation_config.json, else temperature 0.8 alone. ``seed``: of the choice; prompt i has seed + i. ``stop``: texts
    ahead of which to end. ``ignore_eos``: go on after the end-of-text token. ``begin``: feed the tokens that the
    tokenizer puts ahead of a text.
    """

    tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    stop: Sequence[str]
    ignore_eos: bool
    begin: bool


class Options(StyleOptions, total=False):
    """The options of ``generate``, ``generate_all`` and ``talk``: those of ``StyleOptions``, and ``chat``: a prompt is
    a message to a chat model, put into its template."""

    chat: bool


@dataclass(frozen=True)
class Style:
    """How a text goes on: at most ``count`` tokens, each chosen by ``sampling``, up to a token of ``ends`` or ahead of
    a text of ``stops``; ``begin``: with the tokens that the tokenizer puts ahead of a text."""

    count: int
    sampling: Sampling
    ends: tuple[int, ...]
    stops: tuple[str, ...]
    begin: bool = True

    def write(self, tokenizer: Tokenizer, prompt: list[int], hidden: bool) -> Writing:
        """The text that goes on from a prompt; ``hidden``: without the prompt's."""
        return Writing(tokenizer, prompt, self.ends, self.stops, hidden)


def choose_sampling(
    conventions: Conventions, seed: int, asked: Mapping[str, float | None]
) -> tuple[Sampling, list[str]]:
    """What the user asks for, else what generation_config.json says, else the temperature alone; and the names of those
    that come from the file. Raises LuternError for a number that is out of range."""
    chosen = {name: value for name, value in asked.items() if value is not None}
    of_file = {name: value for name, value in conventions.sampling.items() if name not in chosen}
    values = {"temperature": TEMPERATURE, **of_file, **chosen}
    top_k = int(values.pop("top_k", 0))
    named = [f"{name} {value:g}" for name, value in of_file.items()]
    try:
        return Sampling(seed=seed, top_k=top_k, **values), named
    except LuternError as error:
        if not named:
            raise
        raise LuternError(f"with {', '.join(named)} of generation_config.json: {error}") from error


def style_of(
    tokenizer: Tokenizer,
    *,
    tokens: int = TOKENS,
    seed: int = 1,
    stop: Sequence[str] = (),
    ignore_eos: bool = False,
    begin: bool = True,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
) -> tuple[Style, list[str]]:
    """The style that options mean, and what of it generation_config.json decided; see ``StyleOptions``."""
    if tokens < 1:
        raise LuternError(f"{tokens} tokens were asked for; give 1 or more.")
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "" in stops:
        raise LuternError("a text to stop at is empty; give the text to end at.")
    conventions = tokenizer.conventions
    asked = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    sampling, of_file = choose_sampling(conventions, seed, asked)
    ends = () if ignore_eos else conventions.eos
    return Style(tokens, sampling, ends, (*stops, *conventions.stops), begin), of_file


def encode_prompts(tokenizer: Tokenizer, texts: Sequence[str], chat: bool, begin: bool) -> list[list[int]]:
    """Token numbers of every prompt, in a chat of every question by the tokenizer's template."""
    if not chat:
        return [tokenizer.encode_prompt(text, begin=begin) for text in texts]
    ids = [Chat(tokenizer).ask(text)[0] for text in texts]
    if not all(ids):
        raise LuternError(EMPTY_PROMPT)
    return ids


class Texts:
    """Texts that go on from several prompts, all in flight at once.

    Members
    -------
    texts : list of Writing
        One a prompt.
    runs : list of Run
        The runs of the machine so far.
    """

    def __init__(
        self, machine: Machine, tokenizer: Tokenizer, prompts: Sequence[list[int]], style: Style, hidden: bool
    ) -> None:
        self.machine, self.prompts, self.style = machine, prompts, style
        self.texts = [style.write(tokenizer, prompt, hidden) for prompt in prompts]
        self.runs: list[Run] = []
        self._seconds = 0.0

    def pieces(self) -> Iterator[tuple[int, str]]:
        """(prompt, text) as text becomes certain, the prompt's own first unless it is hidden; a text may be empty."""
        for which, text in enumerate(self.texts):
            yield which, text.take()
        begin = time.monotonic()
        pieces = converse(self.machine, self.prompts, self.style.count, self.style.sampling, finished=self._push)
        for piece in kept(pieces, self.runs):
            self._seconds = time.monotonic() - begin
            yield piece.which, self.texts[piece.which].take()

    def rest(self) -> Iterator[tuple[int, str]]:
        """What is left to print of every text when no more tokens come."""
        for which, text in enumerate(self.texts):
            yield which, text.finish()

    @property
    def count(self) -> int:
        """Tokens written so far, of all texts."""
        return sum(text.count for text in self.texts)

    def figures(self) -> Figures:
        """What it took so far."""
        fed = sum(len(prompt) - 1 for prompt in self.prompts)
        return figures_of(self.machine, self.runs, fed + self.count, self._seconds)

    def _push(self, which: int, token: int) -> bool:
        return self.texts[which].push(token)


class Talk:
    """A conversation of several turns. Its state stays on the machine: only what is new is fed, unless the chat's
    template writes what was said in another way, or a stop text was cut off.

    Members
    -------
    runs : list of Run
        The runs of the machine so far.
    """

    def __init__(self, machine: Machine, tokenizer: Tokenizer, style: Style, chat: bool) -> None:
        self._machine, self._tokenizer, self._style = machine, tokenizer, style
        self._dialogue, self._chat = Dialogue(machine, style.sampling), Chat(tokenizer) if chat else None
        if self._chat is not None:
            self._chat.check()
        self.runs: list[Run] = []
        self._held: list[int] = []  # all tokens so far
        self._said, self._whole = "", False
        self._steps, self._seconds = 0, 0.0
        self._text: Writing | None = None

    def say(self, turn: str) -> Iterator[str]:
        """Feed a turn, and go on from it: pieces of the answer as they become certain.

        Raises LuternError for a turn that the tokenizer cannot encode. A turn that is not iterated to its end was never
        answered whole; the next one then feeds all that was said again.
        """
        tokens, goes_on = self._tokens(turn)
        dialogue, style = self._dialogue, self._style
        if not goes_on:
            dialogue.restart()
            self._held = []
        elif dialogue.pending in style.ends:
            dialogue.pending = None  # what follows says how the text goes on behind its end
            self._held.pop()
        self._held += tokens
        self._text = text = style.write(self._tokenizer, self._held, True)
        before, is_done = time.monotonic(), False
        try:
            for piece in kept(dialogue.turn(tokens, style.count, lambda which, token: text.push(token)), self.runs):
                self._held += piece.tokens
                yield text.take()
            yield text.finish()
            is_done = True
        finally:
            self._seconds += time.monotonic() - before
            self._steps += len(tokens) + text.count
            self._said += text.text
            self._whole = is_done and not isinstance(text.ended_by, str)  # else the state holds more than was written
            if self._chat is not None:
                self._chat.answered(text.text, whole=self._whole)

    def rest(self) -> str:
        """What is left to print of the last answer, where it was broken off."""
        return "" if self._text is None else self._text.finish()

    def figures(self) -> Figures | None:
        """What all turns took; None where nothing ran yet."""
        return figures_of(self._machine, self.runs, self._steps, self._seconds) if self.runs else None

    def _tokens(self, turn: str) -> tuple[list[int], bool]:
        """Tokens of a turn, and whether they go on from what the machine's state holds."""
        if self._chat is not None:
            return self._chat.ask(turn)
        start, self._said = len(self._said), self._said + turn
        if self._whole:
            return self._tokenizer.encode_body(self._said, start), True
        return self._tokenizer.encode_prompt(self._said, begin=self._style.begin), False


def kept(pieces: Iterator[Piece], runs: list[Run]) -> Iterator[Piece]:
    """The same pieces; every run that they come from is added to ``runs`` once."""
    for piece in pieces:
        if not runs or runs[-1] is not piece.run:
            runs.append(piece.run)
        yield piece


def texts_of(
    machine: Machine,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    chat: bool = False,
    **options: Unpack[StyleOptions],
) -> Texts:
    """Texts that go on from prompts, checked and encoded; see ``Options``."""
    style, _ = style_of(tokenizer, **options)
    if (session := session_of(machine)) is not None:
        style.sampling.check_kept(session.config.top_k)
    return Texts(machine, tokenizer, encode_prompts(tokenizer, prompts, chat, style.begin), style, hidden=True)


def generate(machine: Machine, tokenizer: Tokenizer, prompt: str, **options: Unpack[Options]) -> Iterator[str]:
    """Pieces of a text that goes on from a prompt."""
    return pieces_of(texts_of(machine, tokenizer, [prompt], **options))


def pieces_of(texts: Texts) -> Iterator[str]:
    """Pieces of the first text, without empty ones."""
    return (text for _, text in all_pieces(texts))


def all_pieces(texts: Texts) -> Iterator[tuple[int, str]]:
    """(prompt, piece) of all texts, without empty ones."""
    for which, text in texts.pieces():
        if text:
            yield which, text
    for which, text in texts.rest():
        if text:
            yield which, text


__all__ = [
    "TEMPERATURE",
    "Options",
    "Style",
    "StyleOptions",
    "Talk",
    "Texts",
    "all_pieces",
    "choose_sampling",
    "encode_prompts",
    "generate",
    "kept",
    "pieces_of",
    "style_of",
    "texts_of",
]
