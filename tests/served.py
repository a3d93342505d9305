"""A server of lutern.api.serving in a thread of the test, and calls to it that return the raw answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvicorn

import lutern
from letters import CONFIG, SEED, save_letters
from lutern.api.serving import Service, bind, make_app
from lutern.api.serving.server import address_of, make_server
from lutern.model_ref.synthetic import chain_checkpoint, random_checkpoint

TIMEOUT_S = 120.0
"""The largest number of seconds for a call. No call takes so long, even on a busy computer."""

TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"


def make_model(folder: Path, template: str = "", alphabet: bool = False) -> lutern.Model:
    """Return a small model with random weights, or with weights that write the alphabet."""
    numbers = dict(pairwise(range(1, 27)))
    checkpoint = chain_checkpoint(CONFIG, numbers, SEED) if alphabet else random_checkpoint(CONFIG, SEED)
    save_letters(folder, checkpoint=checkpoint)
    if template:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return lutern.load(folder)


def generate(model: lutern.Model, prompt: str, **options: Any) -> str:
    """Return the whole text that ``model.generate`` yields in pieces."""
    return "".join(model.generate(prompt, **options))


@dataclass(frozen=True)
class Served:
    """A running server and its address."""

    service: Service
    server: uvicorn.Server
    address: str
    port: int

    def call(
        self, method: str, path: str, fields: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Return status, JSON and headers of a response. ``fields`` are sent as JSON, unless they are bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            body = fields if isinstance(fields, bytes | None) else json.dumps(fields).encode()
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers

    def complete(self, **fields: Any) -> Any:
        """Return the answer of /v1/completions, whose status must be 200."""
        status, answer, _ = self.call("POST", "/v1/completions", fields)
        assert status == 200, answer
        return answer

    def events(self, path: str, **fields: Any) -> list[Any]:
        """Return the events of a streamed answer, which must end with [DONE]."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            body = json.dumps({**fields, "stream": True})
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            parts = response.read().decode().split("\n\n")
        assert parts.pop() == "" and parts.pop() == "data: [DONE]"
        return [json.loads(part.removeprefix("data: ")) for part in parts]


@contextlib.contextmanager
def served(service: Service) -> Iterator[Served]:
    """Run the service at a free port."""
    with bind("127.0.0.1", 0, service.key, service.limits) as listening:
        server = make_server(make_app(service))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server", daemon=True)
        thread.start()
        try:
            until(lambda: server.started)
            yield Served(service, server, address_of(listening), listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "the server must end"


def until(is_true: Callable[[], bool]) -> None:
    """Wait until ``is_true`` returns true because of another thread."""
    end = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < end, "the condition must become true"
        time.sleep(0.005)
