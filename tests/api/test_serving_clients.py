"""A server of the OpenAI API: clients that disconnect, do not read or do not send delay no other client."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import lutern
from lutern.api.serving import Limits, Service
from served import TEMPLATE, Served, generate, make_model, served, until


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lutern.Model:
    return make_model(tmp_path_factory.mktemp("models") / "letters", TEMPLATE)


@pytest.fixture(scope="module")
def server(model: lutern.Model) -> Iterator[Served]:
    with served(Service(model, limits=Limits(tokens=100_000, prompt_tokens=128, body_bytes=5000))) as server:
        yield server


def begin(server: Served, **fields: Any) -> socket.socket:
    """Open a connection, send a request, read nothing, and return the connection."""
    body = json.dumps({"prompt": "a", **fields}).encode()
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.connect(("127.0.0.1", server.port))
    head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    opened.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    return opened


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away(server: Served, stream: bool) -> None:
    """The server stops the text of a client that disconnects. All its 100,000 tokens would take minutes."""
    engine = server.service.engine
    with begin(server, max_tokens=100_000, stream=stream):
        until(lambda: engine._open == 1)
    until(lambda: engine._open == 0)
    assert len(engine._batch) == 0
    server.complete(prompt="a", max_tokens=1)


def test_clients_that_never_read(model: lutern.Model) -> None:
    """Other clients are answered. The connections of clients that never read are closed after ``patience_s``."""
    limits = Limits(tokens=100_000, patience_s=1.0)
    with served(Service(model, limits=limits)) as server:
        silent = [begin(server, max_tokens=100_000, stream=True, figures=True) for _ in range(3)]
        engine = server.service.engine
        until(lambda: engine._open == 3)
        assert server.complete(prompt="ab", max_tokens=9)["choices"][0]["text"] == generate(model, "ab", tokens=9)
        until(lambda: engine._open == 0 and not server.server.server_state.connections)
        for one in silent:
            one.close()


def test_a_full_queue(model: lutern.Model) -> None:
    with served(Service(model, limits=Limits(tokens=100_000, queue=0))) as server:
        engine = server.service.engine
        connections = [begin(server, max_tokens=100_000) for _ in range(engine.capacity)]
        until(lambda: engine._open == engine.capacity)
        status, answer, headers = server.call("POST", "/v1/completions", {"prompt": "a"})
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "rate_limit_exceeded", "1")
        with openai.OpenAI(base_url=f"{server.address}v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError):
                client.completions.create(model="letters", prompt="a")
        for connection in connections:
            connection.close()
        until(lambda: engine._open == 0)
        assert server.complete(prompt="a", max_tokens=1)


def test_request_whose_body_never_arrives(model: lutern.Model) -> None:
    with served(Service(model, limits=Limits(patience_s=0.2))) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 408 and b"did not come within 0.2 s" in response.read()
        connection.close()
