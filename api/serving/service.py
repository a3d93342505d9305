"""Defines the service that requests use: a model on a machine, its name, and the texts that a request begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lutern.api.figures import session_of
from lutern.api.machines import Machine
from lutern.api.models import Model
from lutern.api.serving.engine import Engine, Ticket, Update
from lutern.api.serving.errors import ApiError
from lutern.api.serving.limits import Limits
from lutern.api.serving.requests import ChatRequest, CompletionRequest, TextRequest
from lutern.firmware.session import GoldenSession
from lutern.model_ref import chat
from lutern.model_ref.errors import LuternError

GOLDEN_STREAMS = 16
"""Number of texts that the integer model computes together. With more texts, the time per text would not be shorter."""


class Service:
    """A model and the machine that computes it.

    Parameters
    ----------
    model : Model
        The model that writes.
    machine : Machine
        A simulated board or a chip at a port, with the model loaded. Default: the integer model.
    limits : Limits
        The limits of a request.
    name : str
        The model's name in the API. Default: the last part of the model's name or path.
    key : str
        The key that clients must send. Empty: clients need no key.
    only_local : bool
        Answer only requests whose host is a name of this computer, so that web pages of other hosts cannot use the
        server.
    """

    def __init__(
        self,
        model: Model,
        machine: Machine | None = None,
        *,
        limits: Limits | None = None,
        name: str = "",
        key: str = "",
        only_local: bool = True,
    ) -> None:
        self.model, self.limits = model, limits or Limits()
        self.name = name or Path(model.name).name
        self.key, self.only_local = key, only_local
        self.created = int(time.time())
        self.where = "integer model" if machine is None else machine.where
        inner = GoldenSession(model.weights, GOLDEN_STREAMS, GOLDEN_STREAMS) if machine is None else machine.machine
        session = session_of(inner)
        self.config = None if session is None else session.config
        self.engine = Engine(inner, self.limits.queue, () if session is None else session.repairs)
        self.tokenizer = model.tokenizer

    @property
    def has_chat(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self.tokenizer.conventions.chat_template)

    def describe(self) -> dict[str, Any]:
        """Return the model as an object of the API. Its field ``lutern`` describes the machine."""
        config = self.config
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "lutern",
            "lutern": {
                "where": self.where,
                "machine": None if config is None else config.name,
                "lanes": None if config is None else config.lanes,
                "clock_hz": None if config is None else config.clock_hz,
                "streams": self.engine.capacity,
                "chat": self.has_chat,
                "parameters": self.model.config.trits,
                "synthetic": self.model.synthetic,
            },
        }

    def check_model(self, name: str | None) -> None:
        """Refuse the name of another model."""
        if name is not None and name != self.name:
            raise ApiError(
                404, f"there is no model {name[:80]!r}; this server has {self.name!r}.", "model_not_found", "model"
            )

    async def tickets(self, wanted: TextRequest, publish: Callable[[Update], None]) -> list[Ticket]:
        """Check a request, and return the texts that it begins. As in ``generate_all``, text i uses the request's
        seed + i."""
        self.check_model(wanted.model)
        try:
            prompts = await self._prompts(wanted)
            count = len(prompts) * wanted.n
            if not 0 < count <= self.limits.texts:
                raise ApiError(400, f"{count} texts are asked for; ask for 1 to {self.limits.texts}.", param="n")
            styles = [wanted.style(self.tokenizer, self.limits, which) for which in range(count)]
            if self.config is not None:
                styles[0].sampling.check_kept(self.config.top_k)
        except LuternError as error:
            raise ApiError(400, str(error)) from error
        return [
            Ticket(which, self.tokenizer, prompts[which // wanted.n], style, publish)
            for which, style in enumerate(styles)
        ]

    async def _prompts(self, wanted: TextRequest) -> list[list[int]]:
        """Return the token numbers of every prompt of a request."""
        if isinstance(wanted, ChatRequest):
            if not self.has_chat:
                raise ApiError(400, f"{self.name} has no chat template; use /v1/completions.", "no_chat_template")
            text = chat.render(self.tokenizer, wanted.chat())  # in the main thread, which the rendering's timer needs
            encoded = [await asyncio.to_thread(self.tokenizer.encode_body, text)]
        else:
            assert isinstance(wanted, CompletionRequest)
            given = wanted.prompts()
            encoded = await asyncio.to_thread(lambda: [self._encode(prompt) for prompt in given])
        longest = max(map(len, encoded), default=0)
        if longest > self.limits.prompt_tokens:
            raise ApiError(
                400,
                f"a prompt has {longest:,} tokens, {self.limits.prompt_tokens:,} are the most; send a shorter one.",
                "context_length_exceeded",
            )
        if not all(encoded):
            raise ApiError(400, "the prompt has no tokens; give at least one character.")
        return encoded

    def _encode(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode_prompt(prompt)
        numbers: list[int] = self.model.token_numbers(prompt).tolist()
        return numbers


__all__ = ["GOLDEN_STREAMS", "Service"]
