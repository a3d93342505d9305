"""A server of the OpenAI API: each error has the form and the HTTP status that the API defines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import lutern
from lutern.api.serving import Limits, Service
from lutern.model_ref.errors import LuternError
from served import TEMPLATE, Served, make_model, served


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lutern.Model:
    return make_model(tmp_path_factory.mktemp("models") / "letters", TEMPLATE)


@pytest.fixture(scope="module")
def server(model: lutern.Model) -> Iterator[Served]:
    with served(Service(model, limits=Limits(tokens=100_000, prompt_tokens=128, body_bytes=5000))) as server:
        yield server


@pytest.mark.parametrize(
    ("fields", "message", "code", "param"),
    [
        ({}, "the field prompt is missing; give it.", "missing_required_parameter", "prompt"),
        (
            {"prompt": 3},
            "the prompt must be a text, token numbers, or a list of texts or of lists of token numbers.",
            None,
            "prompt",
        ),
        (
            {"prompt": ["a", 1]},
            "the prompt must be a text, token numbers, or a list of texts or of lists of token numbers.",
            None,
            "prompt",
        ),
        ({"prompt": []}, "0 texts are asked for; ask for 1 to 16.", None, "n"),
        ({"prompt": "a", "n": 17}, "17 texts are asked for; ask for 1 to 16.", None, "n"),
        ({"prompt": ""}, "the prompt is empty; give at least one character.", None, None),
        ({"prompt": [99]}, "token 99 at position 0 is outside the vocabulary of 27 tokens", None, None),
        ({"prompt": "\ud800"}, "the tokenizer cannot encode the text", None, None),
        ({"prompt": "a" * 129}, "a prompt has 129 tokens, 128 are the most", "context_length_exceeded", None),
        (
            {"prompt": "a", "max_tokens": 100_001},
            "100001 tokens are asked for, 100000 are the most",
            None,
            "max_tokens",
        ),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens is 0; it should be greater", None, "max_tokens"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens is True; it should be a valid integer", None, "max_tokens"),
        ({"prompt": "a", "temperature": 99}, "the temperature is 99.0; give 0", None, None),
        ({"prompt": "a", "temperature": "1"}, "temperature is '1'; it should be a valid number", None, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top-p is 0.0; give a number above 0", None, None),
        ({"prompt": "a", "seed": -1}, "seed is -1; it should be greater", None, "seed"),
        ({"prompt": "a", "seed": 1 << 32}, "seed is 4294967296; it should be less", None, "seed"),
        ({"prompt": "a", "stop": [""]}, "a text of stop is empty", None, None),
        ({"prompt": "a", "stop": ["a"] * 17}, "give at most 16 stop texts of 256 characters", None, "stop"),
        ({"prompt": "a", "stop": "a" * 257}, "give at most 16 stop texts of 256 characters", None, "stop"),
        ({"prompt": "a", "logprobs": 3}, "logprobs is not built; leave it out.", "unsupported_parameter", "logprobs"),
        ({"prompt": "a", "fields": 3}, "there is no field 'fields'; leave it out.", "unknown_parameter", "fields"),
        ([1], "the body is [1]; send an object of fields.", None, None),
        (b"{", "the body is no JSON; send an object of fields.", None, None),
        (b"\xff", "the body is no JSON; send an object of fields.", None, None),
        (b'{"prompt": "a", "temperature": NaN}', "the body is no JSON; send an object of fields.", None, None),
        (b"[" * 4000, "the body is no JSON; send an object of fields.", None, None),
    ],
)
def test_wrong_fields(server: Served, fields: Any, message: str, code: str | None, param: str | None) -> None:
    status, answer, _ = server.call("POST", "/v1/completions", fields)
    error = answer["error"]
    assert status == 400 and error["message"].startswith(message), error
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages is []; it "),
        ([{"role": "user"}], "the field messages.0.content is missing"),
        (
            [{"role": "robot", "content": "a"}],
            "messages.0.role is 'robot'; it should be 'system', 'user' or 'assistant'",
        ),
        ([{"role": "user", "content": 3}], "messages.0.content is 3; it should be a valid string"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content is [{"),
        ("hello", "messages is 'hello'; it should be a valid list"),
    ],
)
def test_wrong_messages(server: Served, messages: Any, message: str) -> None:
    status, answer, _ = server.call("POST", "/v1/chat/completions", {"messages": messages})
    assert status == 400 and answer["error"]["message"].startswith(message), answer


def test_nulls_and_options_without_effect(server: Served) -> None:
    fields = {
        "temperature": None,
        "logprobs": None,
        "frequency_penalty": 0,
        "user": "me",
        "suffix": None,
        "echo": False,
    }
    assert server.complete(prompt="a", max_tokens=1, **fields)["choices"][0]["finish_reason"] == "length"


def test_a_model_without_a_template(tmp_path: Path) -> None:
    with served(Service(make_model(tmp_path / "plain"), name="other")) as server:
        fields = {"messages": [{"role": "user", "content": "a"}]}
        status, answer, _ = server.call("POST", "/v1/chat/completions", fields)
        assert status == 400 and answer["error"]["message"] == "other has no chat template; use /v1/completions."


def test_other_statuses(server: Served) -> None:
    for method, path, fields, headers, status in (
        ("GET", "/v1/nothing", None, {}, 404),
        ("DELETE", "/v1/models", None, {}, 405),
        ("GET", "/v1/models/other", None, {}, 404),
        ("POST", "/v1/completions", {"prompt": "a", "model": "other"}, {}, 404),
        ("POST", "/v1/completions", {"prompt": "a"}, {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/completions", b" " * 5001, {}, 413),
        ("GET", "/v1/models", None, {"Host": "example.org"}, 403),
        ("GET", "/", None, {"Host": "example.org:80"}, 403),
        ("GET", "/v1/models", None, {"Host": "[::1"}, 403),
        ("GET", "/v1/models", None, {"Host": "localhost@example.org"}, 403),
        ("GET", "/nothing", None, {"Host": "[::1"}, 404),
    ):
        found, answer, _ = server.call(method, path, fields, headers)
        assert found == status and set(answer["error"]) == {"message", "type", "param", "code"}, (path, answer)
    for host in ("localhost:1", "127.0.0.1", "[::1]:8000", "lutern.localhost"):
        assert server.call("GET", "/health", None, {"Host": host})[:2] == (200, {"status": "ok"})


def test_a_key(model: lutern.Model) -> None:
    with served(Service(model, key="sésame".encode().hex())) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}, {"Authorization": "é"}):
            status, answer, sent = server.call("GET", "/v1/models", None, headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key") and sent[
                "WWW-Authenticate"
            ] == "Bearer"
        good = {"Authorization": f"bearer {server.service.key}"}
        assert server.call("GET", "/v1/models", None, good)[0] == 200
        assert server.call("GET", "/health")[0] == 200
        with openai.OpenAI(base_url=f"{server.address}v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError, match="the key is missing or wrong"):
                client.models.list()
        with openai.OpenAI(base_url=f"{server.address}v1", api_key=server.service.key) as client:
            assert client.models.list().data[0].id == "letters"


def test_a_machine_that_fails(model: lutern.Model) -> None:
    """If the answer is not streamed, the client receives the error as an HTTP status. A streamed answer that has begun
    receives an event. Later requests are answered."""
    service = Service(model)
    machine = service.engine._batch._machine
    run = machine.run

    def fails(*args: Any, **options: Any) -> Any:
        raise LuternError("The cable is out.")

    with served(service) as server:
        machine.run = fails  # type: ignore[method-assign]
        status, answer, _ = server.call("POST", "/v1/completions", {"prompt": "a"})
        error = {"message": "the machine failed: The cable is out.", "type": "server_error", "param": None}
        assert (status, answer) == (503, {"error": {**error, "code": "machine_failed"}})
        assert server.events("/v1/completions", prompt="a") == [answer]
        with openai.OpenAI(base_url=f"{server.address}v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError, match="The cable is out"):
                client.completions.create(model="letters", prompt="a")
            with pytest.raises(openai.APIError, match="The cable is out"):
                list(client.completions.create(model="letters", prompt="a", stream=True))
        machine.run = run  # type: ignore[method-assign]
        assert server.complete(prompt="a", max_tokens=2)["usage"]["completion_tokens"] == 2
