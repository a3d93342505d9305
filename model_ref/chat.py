"""Renders chats with the tokenizer's template, and encodes the part of a chat that the model has not read yet.

messages ─► template (sandboxed jinja2) ─► text ─┬─ beginning of the text, which the model has read: not sent again
                                                 └─ rest of the text ─► tokens of the next turn
"""

from __future__ import annotations

import datetime
import json
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lutern.model_ref.bounded import TooMuch, bounded
from lutern.model_ref.errors import LuternError, reason_of
from lutern.model_ref.tokenizer import Tokenizer

Message = dict[str, str]
MAX_CHAT_CHARACTERS = 1 << 22
SECONDS, MEMORY_BYTES = 5.0, 1 << 26
"""The most processor time and memory of one rendering. A published template needs a millisecond and less than a
megabyte."""
NO_TEMPLATE = "the tokenizer of this model has no chat template; leave --chat out; --interactive needs no template."
_EXTENSIONS: list[type[Extension] | str] = [loopcontrols]


class _Refused(Exception):
    """The error that a template raises with ``raise_exception``."""


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also limits products of texts. A template comes with the model and is not trusted."""

    intercepted_binops = frozenset(["*", "**", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        small = isinstance(right, int) and right <= 1000 and operator == "*"  # a text times a number
        if not (numbers or small) or (operator == "**" and max(abs(left), abs(right)) > 100):
            raise jinja2.exceptions.SecurityError(f"the template computes {operator} of something large or no number")
        return super().call_binop(context, operator, left, right)


def render(tokenizer: Tokenizer, messages: list[Message], *, answer: bool = True) -> str:
    """Return the text of a chat by the tokenizer's template. If ``answer`` is set, the text ends where the model's next
    answer begins.

    Raises ``LuternError`` if there is no template, or if the template fails, refuses the chat, or needs too much time
    or memory.
    """
    template = tokenizer.conventions.chat_template
    if not template:
        raise LuternError(NO_TEMPLATE)
    try:
        environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=_EXTENSIONS)
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        with bounded(SECONDS, MEMORY_BYTES):
            text = environment.from_string(template).render(
                messages=messages, add_generation_prompt=answer, **tokenizer.conventions.tokens
            )
    except _Refused as error:
        raise LuternError(f"the chat template refuses this chat: {reason_of(error)}.") from error
    except (TooMuch, MemoryError) as error:
        raise LuternError(
            f"the chat template takes more than {SECONDS:g} s or {MEMORY_BYTES >> 20} MiB for one chat; leave out "
            "--chat, or correct the template."
        ) from error
    except Exception as error:  # a template can raise anything that Python's operators raise
        raise LuternError(
            f"the chat template fails ({reason_of(error)}); leave out --chat, or correct the template."
        ) from error
    if len(text) > MAX_CHAT_CHARACTERS:
        raise LuternError(f"the chat template makes more than {MAX_CHAT_CHARACTERS} characters; correct it.")
    return text


def _refuse(message: str) -> None:
    raise _Refused(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON in the form that the published templates expect: neither letters nor HTML characters are escaped."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


class Chat:
    """The messages of a chat so far, and the part of their text that the model has read."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.messages: list[Message] = []
        self._read: tuple[str, ...] = ()  # the text that the model has read, in the forms that a template may write

    def check(self) -> None:
        """Refuse a tokenizer whose template cannot render a question."""
        render(self._tokenizer, [{"role": "user", "content": "?"}])

    def ask(self, question: str) -> tuple[list[int], bool]:
        """Return the tokens of the next turn, and whether these tokens continue from the model's state. If the state
        cannot be continued, return the tokens of the whole chat."""
        self.messages.append({"role": "user", "content": question})
        text = render(self._tokenizer, self.messages)
        read = next((read for read in self._read if text.startswith(read) and len(text) > len(read)), "")
        self._read = (text,)
        return self._tokenizer.encode_body(text, len(read)), bool(read)

    def answered(self, answer: str, *, whole: bool) -> None:
        """Append the model's answer. If the answer is not ``whole``, the model's state contains other text than the
        chat, so the next turn sends the whole chat."""
        self.messages.append({"role": "assistant", "content": answer})
        written = [answer, answer.strip(), f" {answer.strip()}"] if whole else []
        self._read = tuple(self._read[0] + text for text in written)


__all__ = ["Chat", "Message", "render"]
