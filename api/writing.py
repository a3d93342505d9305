"""Writes texts on any machine: several prompts in parallel, or the turns of a conversation.

    prompts, Style ─► Texts ─► converse ─► (prompt, text) when no later token can change the text ─► Figures
    turns, Style ───► Talk ──► Dialogue ─► text                                                    ─► Figures

In a ``Talk``, the conversation's state stays on the machine. A machine is any object with the interface
``firmware.session.Machine``: the integer model, the simulated board, or a chip at a port.
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
"""The temperature if neither the user nor the model's generation_config.json gives a temperature."""


class StyleOptions(TypedDict, total=False):
    """The options of a text.

    ``tokens``: the largest number of tokens to write, 200 by default. ``temperature``: 0 chooses the likeliest token.
    ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty``: see ``firmware.host_sampling.Sampling``. If one of these
    four options is given, the host chooses the token, and the link transfers 4 V bytes for every token (V: size of the
    vocabulary). Options that are not given come from the model's generation_config.json. If this file gives no
    temperature, the temperature is 0.8. ``seed``: seed of the choice, where prompt i uses seed + i. ``stop``: texts
    before which the written text ends. ``ignore_eos``: continue after the end-of-text token. ``begin``: feed the tokens
    that the tokenizer puts before a text.
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
    """The options of ``generate`` and ``generate_all``: the options of ``StyleOptions``, and ``chat``.

    ``chat``: put each prompt into the template of a chat model as a message.
    """

    chat: bool


@dataclass(frozen=True)
class Style:
    """The rules by which a text continues: at most ``count`` tokens, each chosen by ``sampling``.

    The text ends with a token of ``ends`` or before a text of ``stops``. ``begin``: feed the tokens that the tokenizer
    puts before a text.
    """

    count: int
    sampling: Sampling
    ends: tuple[int, ...]
    stops: tuple[str, ...]
    begin: bool = True

    def write(self, tokenizer: Tokenizer, prompt: list[int], hidden: bool) -> Writing:
        """Return a new text that continues a prompt. ``hidden``: leave out the prompt's own text."""
        return Writing(tokenizer, prompt, self.ends, self.stops, hidden)


def choose_sampling(
    conventions: Conventions, seed: int, asked: Mapping[str, float | None]
) -> tuple[Sampling, list[str]]:
    """Return the sampling, and a text for each option that comes from generation_config.json.

    The user's options have priority over generation_config.json. If neither gives a temperature, the temperature is
    ``TEMPERATURE``. Raises LuternError for a number that is out of range.
    """
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
    """Return the style of the options of ``StyleOptions``, and the options that generation_config.json decided.

    Raises LuternError for an option that is out of range.
    """
    if tokens < 1:
        raise LuternError(f"{tokens} tokens were asked for; give 1 or more.")
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "" in stops:
        raise LuternError("a text of stop is empty; give the text at which to end.")
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
    """Return the token numbers of every prompt. If ``chat`` is set, each prompt is a message in the tokenizer's
    template."""
    if not chat:
        return [tokenizer.encode_prompt(text, begin=begin) for text in texts]
    ids = [Chat(tokenizer).ask(text)[0] for text in texts]
    if not all(ids):
        raise LuternError(EMPTY_PROMPT)
    return ids


class Texts:
    """Texts that continue several prompts in parallel.

    Members
    -------
    texts : list of Writing
        One text for each prompt.
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
        """Yield pairs of a prompt's number and new text that no later token can change. The texts of the prompts come
        first, unless they are hidden. A text may be empty."""
        for which, text in enumerate(self.texts):
            yield which, text.take()
        begin = time.monotonic()
        pieces = converse(self.machine, self.prompts, self.style.count, self.style.sampling, finished=self._push)
        for piece in kept(pieces, self.runs):
            self._seconds = time.monotonic() - begin
            yield piece.which, self.texts[piece.which].take()

    def rest(self) -> Iterator[tuple[int, str]]:
        """After the last token, yield the end of every text that ``pieces`` did not yield."""
        for which, text in enumerate(self.texts):
            yield which, text.finish()

    @property
    def count(self) -> int:
        """The number of tokens written so far in all texts."""
        return sum(text.count for text in self.texts)

    def figures(self) -> Figures:
        """Return the figures so far."""
        fed = sum(len(prompt) - 1 for prompt in self.prompts)
        return figures_of(self.machine, self.runs, fed + self.count, self._seconds)

    def _push(self, which: int, token: int) -> bool:
        return self.texts[which].push(token)


class Talk:
    """A conversation of several turns, whose state stays on the machine.

    Normally, only new text is fed. All text is fed again if the chat's template writes earlier text differently, if a
    stop text was cut off, or if an answer was not read to its end.

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
        """Feed a turn, and yield pieces of the answer when no later token can change them.

        Raises LuternError for a turn that the tokenizer cannot encode. If you do not iterate to the end of the answer,
        the answer is incomplete, and the next turn feeds all text again.
        """
        tokens, goes_on = self._tokens(turn)
        dialogue, style = self._dialogue, self._style
        if not goes_on:
            dialogue.restart()
            self._held = []
        elif dialogue.pending in style.ends:
            dialogue.pending = None  # the next turn decides which token follows the end
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
            # a stop text cuts the answer, so the machine's state contains tokens that the answer lacks
            self._whole = is_done and not isinstance(text.ended_by, str)
            if self._chat is not None:
                self._chat.answered(text.text, whole=self._whole)

    def rest(self) -> str:
        """Return the part of the last answer that was not yielded, if the answer was broken off."""
        return "" if self._text is None else self._text.finish()

    def figures(self) -> Figures | None:
        """Return the figures of all turns, or None if nothing ran yet."""
        return figures_of(self._machine, self.runs, self._steps, self._seconds) if self.runs else None

    def _tokens(self, turn: str) -> tuple[list[int], bool]:
        """Return the tokens of a turn, and whether the turn continues from the state in the machine."""
        if self._chat is not None:
            return self._chat.ask(turn)
        start, self._said = len(self._said), self._said + turn
        if self._whole:
            return self._tokenizer.encode_body(self._said, start), True
        return self._tokenizer.encode_prompt(self._said, begin=self._style.begin), False


def kept(pieces: Iterator[Piece], runs: list[Run]) -> Iterator[Piece]:
    """Yield the pieces. Append the run of each piece to ``runs``, but each run only once."""
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
    """Return texts that continue prompts by the rules in ``Options``. This call checks options and prompts."""
    style, _ = style_of(tokenizer, **options)
    if (session := session_of(machine)) is not None:
        style.sampling.check_kept(session.config.top_k)
    return Texts(machine, tokenizer, encode_prompts(tokenizer, prompts, chat, style.begin), style, hidden=True)


def generate(machine: Machine, tokenizer: Tokenizer, prompt: str, **options: Unpack[Options]) -> Iterator[str]:
    """Return pieces of a text that continues a prompt."""
    return pieces_of(texts_of(machine, tokenizer, [prompt], **options))


def pieces_of(texts: Texts) -> Iterator[str]:
    """Yield the pieces of all texts without the numbers of the prompts. Empty pieces are left out."""
    return (text for _, text in all_pieces(texts))


def all_pieces(texts: Texts) -> Iterator[tuple[int, str]]:
    """Yield pairs of a prompt's number and a piece, for all texts. Empty pieces are left out."""
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
