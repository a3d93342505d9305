"""Reads the body of a request, checks its fields, and returns the style and the prompts of its texts.

    body ─► JSON ─► remove nulls and fields that change nothing ─► CompletionRequest, ChatRequest ─► Style, prompts

An unknown field is refused, and so is a field that Lutern does not support if its value would change the text. The
error message contains the name of the field.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lutern.api.serving.errors import ApiError
from lutern.api.serving.limits import Limits
from lutern.api.writing import TOKENS, Style, style_of
from lutern.model_ref.chat import Message
from lutern.model_ref.errors import quoted
from lutern.model_ref.tokenizer import Tokenizer

LARGEST_SEED = (1 << 32) - 1
"""The largest seed, since the generators on the chip have 32 bits."""
MOST_STOPS, MOST_STOP_CHARACTERS = 16, 256
"""The largest number of stop texts, and the largest number of characters of a stop text. After every token, the text is
searched for each stop text."""
DRAINED = 8
"""A body of up to ``DRAINED`` times the largest size is read to its end. In this way the client receives the error, not
a broken connection."""

_IGNORED = ("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", "verbosity")
"""Fields that are ignored because they do not change the text."""
_NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (),
}
"""Fields of the OpenAI API that Lutern does not support, each with the values that change nothing."""


def _joined(value: Any) -> Any:
    """Return the text of a message. A message may be a list of parts."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError('every part must be {"type": "text", "text": ...}')
    return "".join(part["text"] for part in value)


class Turn(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_joined)]
    name: str = ""


class StreamOptions(BaseModel):
    """Options of a stream of events."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False


class TextRequest(BaseModel):
    """The fields of both kinds of requests. ``figures``: add the figures of each text (docs/serving.md)."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n: int = Field(1, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int = Field(1, ge=0, le=LARGEST_SEED)
    stop: str | list[Annotated[str, Field(max_length=MOST_STOP_CHARACTERS)]] = []
    ignore_eos: bool = False
    figures: bool = False

    def most_tokens(self) -> int | None:
        """Return the number of tokens that the request asks for."""
        return self.max_tokens

    def style(self, tokenizer: Tokenizer, limits: Limits, which: int) -> Style:
        """Return the style of the text with the number ``which``. The seed of this text is the seed of the request plus
        ``which``."""
        tokens = self.most_tokens()
        if tokens is not None and tokens > limits.tokens:
            raise ApiError(
                400, f"{tokens} tokens are asked for, {limits.tokens} are the most; ask for fewer.", param="max_tokens"
            )
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        if len(stops) > MOST_STOPS or max(map(len, stops), default=0) > MOST_STOP_CHARACTERS:
            raise ApiError(
                400, f"give at most {MOST_STOPS} stop texts of {MOST_STOP_CHARACTERS} characters.", param="stop"
            )
        style, _ = style_of(
            tokenizer,
            tokens=min(TOKENS, limits.tokens) if tokens is None else tokens,
            seed=self.seed + which,
            stop=stops,
            ignore_eos=self.ignore_eos,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )
        return style


class CompletionRequest(TextRequest):
    """The body of POST /v1/completions. ``prompt``: a text or a list of token numbers, or a list of several texts or of
    several such lists."""

    prompt: str | list[str] | list[int] | list[list[int]]

    def prompts(self) -> list[str | list[int]]:
        """Return each prompt as a text, or as token numbers."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        numbers = [item for item in given if isinstance(item, int)]
        return [numbers] if numbers else [item for item in given if isinstance(item, str | list)]


class ChatRequest(TextRequest):
    """The body of POST /v1/chat/completions."""

    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    def most_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def chat(self) -> list[Message]:
        """Return the messages in the form that a template needs."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]


Kind = TypeVar("Kind", bound=TextRequest)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request. Raises ``ApiError`` for a body that is too large, arrives too slowly, or has
    another type."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON; send it with Content-Type: application/json.")
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.patience_s):
            async for part in request.stream():
                size += len(part)
                if size > DRAINED * limits.body_bytes:
                    break
                if size <= limits.body_bytes:
                    parts.append(part)
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {limits.patience_s:g} s; send it at once.") from None
    if size > limits.body_bytes:
        raise ApiError(413, f"the body is larger than {limits.body_bytes:,} bytes; send a smaller one.")
    return b"".join(parts)


def parse(kind: type[Kind], body: bytes) -> Kind:
    """Return the request in a body. Raises ``ApiError`` for a body that is no valid request."""
    try:
        fields = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is no JSON; send an object of fields.") from None
    if not isinstance(fields, dict):
        raise ApiError(400, f"the body is {quoted(fields)}; send an object of fields.")
    fields = _without_nulls(fields)
    for name in _IGNORED:
        fields.pop(name, None)
    for name, harmless in _NOT_BUILT.items():
        if name in fields and fields.pop(name) not in harmless:
            raise ApiError(400, f"{name} is not built; leave it out.", "unsupported_parameter", name)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error) from None


def _no_number(text: str) -> None:
    raise ValueError(text)


def _without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a body without the null fields of the body and of its messages. Clients send such fields because they send
    back the messages that they received."""
    kept = {name: value for name, value in fields.items() if value is not None}
    messages = kept.get("messages")
    if isinstance(messages, list):
        kept["messages"] = [_without_nulls(item) if isinstance(item, dict) else item for item in messages]
    return kept


def _refusal(error: ValidationError) -> ApiError:
    """Return the error of the first wrong field."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"] if not (isinstance(part, str) and "[" in part) and part != "str"]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"there is no field {quoted(name)}; leave it out.", "unknown_parameter", name[:80])
    if first["type"] == "missing":
        return ApiError(400, f"the field {name} is missing; give it.", "missing_required_parameter", name)
    if name.partition(".")[0] == "prompt":
        return ApiError(
            400,
            "the prompt must be a text, token numbers, or a list of texts or of lists of token numbers.",
            None,
            "prompt",
        )
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return ApiError(400, f"{name} is {quoted(first['input'])}; it {said}.".replace("it every", "every"), None, name)


__all__ = ["ChatRequest", "CompletionRequest", "StreamOptions", "TextRequest", "Turn", "parse", "read_body"]
