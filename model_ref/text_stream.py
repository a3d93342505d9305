"""Turns a conversation's tokens into text while they arrive.

    tokens ─► wait until a run of bytes is complete ─► DecodeStream ─► wait while a stop text may begin ─► printed text

A later token never changes text that was printed. All printed parts together are the decoding of the whole sequence up
to the first stop text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tokenizers.decoders import DecodeStream

from lutern.model_ref.tokenizer import Tokenizer, is_panic


class TextStream:
    """A decoder for tokens that arrive one after another. Special tokens give no text. An incomplete character waits
    for its other bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream: DecodeStream | None = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._held: list[int] = []  # a run of byte tokens, which must be decoded together
        self._given = ""

    def push(self, tokens: Sequence[int]) -> str:
        """Add tokens, and return the new text that no later token can change."""
        self._tokens += tokens
        self._held += tokens
        if self._stream is None or not tokens or not self._tokenizer.ends_run(tokens[-1]):
            return ""
        try:
            new = self._stream.step(self._tokenizer.library, self._held) or ""
        except BaseException as error:  # the decoder would change earlier text, so ``finish`` returns the rest
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self._stream, new = None, ""
        self._held = []
        self._given += new
        return new

    def finish(self) -> str:
        """Return the part of the decoding of all tokens that ``push`` has not returned."""
        whole = self._tokenizer.text_of(self._tokens)
        new = whole[len(self._given) :]
        self._given += new
        return new


class Writing:
    """The text of one conversation, which ends with a token of ``ends`` or before the first text of ``stops``.

    Unless ``hidden``, the printed text begins with the prompt. Stop texts are searched only after the prompt.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        ends: Collection[int] = (),
        stops: Sequence[str] = (),
        hidden: bool = False,
    ) -> None:
        self._ends, self._stops = frozenset(ends), [stop for stop in stops if stop]
        self._stream = TextStream(tokenizer)
        self._text = self._stream.push(prompt)
        self._first = len(tokenizer.text_of(prompt))
        self._printed = self._first if hidden else 0
        self.count = 0
        self.ended_by: int | str | None = None
        """The token or the stop text that ended the text. None: the text has not ended."""

    @property
    def text(self) -> str:
        """The text after the prompt."""
        return self._text[self._first :]

    def push(self, token: int) -> bool:
        """Add the next token. Return whether the text has ended."""
        self.count += 1
        if token in self._ends:
            self.ended_by = token
        self._add(self._stream.push([token]))
        return self.ended_by is not None

    def take(self) -> str:
        """Return the text that has become printable since the last call."""
        return self._print(len(self._text) - self._open())

    def finish(self) -> str:
        """Return all text that has not been printed."""
        if not isinstance(self.ended_by, str):
            self._add(self._stream.finish())
        return self._print(len(self._text))

    def _add(self, new: str) -> None:
        if not new:
            return
        searched = max(self._first, len(self._text) - max(map(len, self._stops), default=0))
        self._text += new
        found = [(place, stop) for stop in self._stops if (place := self._text.find(stop, searched)) >= 0]
        if found:
            place, self.ended_by = min(found)
            self._text = self._text[:place]

    def _open(self) -> int:
        """Return the number of characters at the end that may begin a stop text."""
        if self.ended_by is not None:
            return 0
        end = self._text[self._first :]
        lengths = (k for stop in self._stops for k in range(1, len(stop)) if end.endswith(stop[:k]))
        return max(lengths, default=0)

    def _print(self, end: int) -> str:
        new = self._text[self._printed : end]
        self._printed = max(self._printed, end)
        return new


__all__ = ["TextStream", "Writing"]
