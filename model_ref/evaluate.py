"""Computes the bits per token of a float or integer model on a text. The training report uses the same method.

    bits = mean over counted tokens of  -log2 softmax(logits)[next token]

With a character tokenizer, a token is a character. The text is divided into parallel streams of equal length. A
remainder at the end of the text is not used. The state is zero at the beginning of every stream, and continues to the
end of the stream. Every stream begins with the tokens that the tokenizer puts before a text, and all tokens after these
are counted. If there are no such tokens, each stream's first token is not counted. The model computes one step for each
token of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer

VALIDATION_SHARE = 0.05  # share of the text at its end that is not used for training


class SteppedModel(Protocol):
    """A model that can be evaluated. A step decodes one token of every stream. Only the model itself uses the state."""

    def initial_state(self, streams: int) -> Any: ...

    def step(self, ids: NDArray[np.int64], state: Any) -> tuple[NDArray[Any], Any]: ...


def split(ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the training part (the first 95 % of the tokens) and the validation part (the last 5 %)."""
    cut = int(len(ids) * (1 - VALIDATION_SHARE))
    return ids[:cut], ids[cut:]


def bits_per_character(
    model: SteppedModel,
    ids: ArrayLike,
    streams: int = 64,
    progress: Callable[[int, int], None] | None = None,
    ahead: Sequence[int] = (),
) -> float:
    """Return the bits per token of ``model`` on the token numbers ``ids``. Every stream begins with the tokens
    ``ahead``.

    ``progress(done, total)`` is called after every step. Raises ``LuternError`` if the text is too short.
    """
    tokens = np.asarray(ids, dtype=np.int64)
    length = len(tokens) // streams if streams > 0 else 0
    if length < 2:
        raise LuternError(
            f"{len(tokens)} characters are too few for {streams} streams; give at least {2 * max(streams, 1)}."
        )
    tokens = tokens[: length * streams].reshape(streams, length).T  # [length, streams]
    first = np.array(ahead, dtype=np.int64)[:, None].repeat(streams, axis=1)
    tokens = np.concatenate([first, tokens])
    uncounted = max(0, len(ahead) - 1)
    total = len(tokens) - 1
    state = model.initial_state(streams)
    nats = 0.0
    for position in range(total):
        logits, state = model.step(tokens[position], state)
        if position >= uncounted:
            nats += float(_surprise(np.asarray(logits, np.float64), tokens[position + 1]).sum())
        if progress is not None:
            progress(position + 1, total)
    return nats / ((total - uncounted) * streams) / float(np.log(2))


def counted(tokenizer: Tokenizer, ids: NDArray[np.int64], streams: int) -> tuple[int, int]:
    """Return the numbers of characters and of tokens that ``bits_per_character`` counts.

    All tokens are counted, except each stream's first token if the tokenizer puts no tokens before a text.
    """
    length = len(ids) // streams
    left_out = 0 if tokenizer.ahead else 1
    characters = 0
    for start in range(0, length * streams, length):
        before = max(0, start + left_out - 1)  # a decoder drops the first space of a text
        part = ids[before : start + length].tolist()
        characters += len(tokenizer.text_of(part)) - len(tokenizer.text_of(part[: start + left_out - before]))
    return max(characters, 1), (length - left_out) * streams


def _surprise(logits: NDArray[np.float64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -ln softmax(logits)[wanted] of each stream as [B], from logits [B, V] and wanted [B] (B: streams, V:
    vocabulary)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    partition = np.log(np.exp(shifted).sum(axis=-1))
    return np.asarray(partition - shifted[np.arange(len(wanted)), wanted])
