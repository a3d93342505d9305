"""Sends the answer to a request: one JSON object at the end, or server-sent events while the text is written.

Update ─► queue of this request ─► Shape: completion or chat ─► one JSON object, or events data: {...}, data: [DONE]

If the client disconnects, or reads nothing for ``Limits.patience_s``, the texts of its request are cancelled.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import JSONResponse, Response

from lutern.api.serving.engine import Update
from lutern.api.serving.errors import ApiError
from lutern.api.serving.requests import ChatRequest, TextRequest
from lutern.api.serving.service import Service

NO_STORE = {"Cache-Control": "no-store"}


class Mail:
    """A queue of updates from the engine's thread to the coroutine of one request."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Update] = asyncio.Queue()

    def post(self, update: Update) -> None:
        """Add an update. Any thread may call this function."""
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, update)
        except RuntimeError:  # the server has ended, and no request waits
            return

    async def read(self, texts: int) -> AsyncIterator[Update]:
        """Yield updates until ``texts`` texts have ended, or up to the first error."""
        while texts:
            update = await self._queue.get()
            yield update
            texts = 0 if update.error is not None else texts - update.is_last


class Shape:
    """The API objects of one request, which is a completion or a chat."""

    def __init__(self, service: Service, wanted: TextRequest) -> None:
        self._chat = isinstance(wanted, ChatRequest)
        self._figures = wanted.figures
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": service.name,
        }

    def whole(self, texts: list[str], ends: list[str | None], usage: dict[str, int]) -> dict[str, Any]:
        """Return the whole answer, which is sent at the end."""
        choices = [
            self._choice(which, end, message={"role": "assistant", "content": text, "refusal": None})
            if self._chat
            else self._choice(which, end, text=text)
            for which, (text, end) in enumerate(zip(texts, ends, strict=True))
        ]
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """Return an event that contains a part of the answer."""
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, **more}

    def first(self, which: int) -> dict[str, Any] | None:
        """Return the event that precedes a chat's text, or None for a completion."""
        role = {"role": "assistant", "content": ""}
        return self.chunk([self._choice(which, None, delta=role)]) if self._chat else None

    def part(self, update: Update) -> dict[str, Any]:
        """Return the event of an update."""
        text = update.text
        if not self._chat:
            choice = self._choice(update.which, update.ended, text=text)
        else:
            choice = self._choice(update.which, update.ended, delta={"content": text} if text else {})
        more = {"lutern": {"tokens": update.count, "cycles": update.cycles}} if self._figures else {}
        return self.chunk([choice], **more)

    def _choice(self, which: int, end: str | None, **content: Any) -> dict[str, Any]:
        return {"index": which, **content, "logprobs": None, "finish_reason": end}


class Answer(Response):
    """The answer to a request, which is sent while the machine writes. If the client disconnects, its texts are
    cancelled."""

    def __init__(self, service: Service, wanted: TextRequest, mail: Mail) -> None:
        self.status_code = 200
        self.background = None
        self._service, self._wanted, self._mail = service, wanted, mail
        self._shape = Shape(service, wanted)
        self._prompt_tokens = 0
        self._tickets: list[Any] = []

    @classmethod
    async def begin(cls, service: Service, wanted: TextRequest) -> Answer:
        """Check a request and put its texts into the queue. Raises ``ApiError``."""
        answer = cls(service, wanted, Mail())
        tickets = await service.tickets(wanted, answer._mail.post)
        service.engine.submit(tickets)
        answer._tickets = tickets
        answer._prompt_tokens = sum(len(ticket.conversation.prompt) for ticket in tickets[:: wanted.n])
        return answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the answer. Stop if the client disconnects."""
        sending = asyncio.ensure_future(
            self._events(send) if self._wanted.stream else self._whole(scope, receive, send)
        )
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            pass  # the client read nothing, so the connection is closed when this function returns
        finally:
            sending.cancel()
            leaving.cancel()
            self._service.engine.cancel(self._tickets)

    async def _whole(self, scope: Any, receive: Any, send: Any) -> None:
        texts, counts = [""] * len(self._tickets), [0] * len(self._tickets)
        ends: list[str | None] = [None] * len(self._tickets)
        async for update in self._mail.read(len(self._tickets)):
            if update.error is not None:
                await error_response(update.error)(scope, receive, send)
                return
            texts[update.which] += update.text
            counts[update.which], ends[update.which] = update.count, update.ended
        body = self._shape.whole(texts, ends, self._usage(counts))
        async with asyncio.timeout(self._service.limits.patience_s):
            await JSONResponse(body, headers=NO_STORE)(scope, receive, send)

    async def _events(self, send: Any) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no", **NO_STORE}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": raw})
        counts, begun = [0] * len(self._tickets), set[int]()
        async for update in self._mail.read(len(self._tickets)):
            if update.error is not None:
                await self._data(send, update.error.body)
                break
            counts[update.which] = update.count
            first = None if update.which in begun else self._shape.first(update.which)
            begun.add(update.which)
            if first is not None:
                await self._data(send, first)
            if update.text or update.is_last or self._wanted.figures:
                await self._data(send, self._shape.part(update))
        else:
            if self._wanted.stream_options.include_usage:
                await self._data(send, self._shape.chunk([], usage=self._usage(counts)))
        await self._send(send, _body(b"data: [DONE]\n\n", False))

    async def _data(self, send: Any, event: dict[str, Any]) -> None:
        await self._send(send, _body(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode(), True))

    async def _send(self, send: Any, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._service.limits.patience_s):
            await send(message)

    def _usage(self, counts: list[int]) -> dict[str, int]:
        written = sum(counts)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self._prompt_tokens + written,
        }


def error_response(error: ApiError) -> JSONResponse:
    """Return the response of an error."""
    return JSONResponse(error.body, error.status, headers={**NO_STORE, **error.headers})


def _body(content: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _gone(receive: Any) -> None:
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


__all__ = ["Answer", "error_response"]
