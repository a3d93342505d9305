"""A server of the OpenAI API: texts are those of `generate`, errors are those of the API, nobody holds others up."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest

import lutern
from lutern.api.serving import Limits, Service
from lutern.model_ref.checkpoint import save_checkpoint
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import chain_checkpoint, random_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer
from served import Served, served, until

SEED = 9
CONFIG = lutern.ModelConfig(vocab_size=27, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
LETTERS = " abcdefghijklmnopqrstuvwxyz"
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant"
CLIENTS, TOKENS = 64, 20


def make_model(folder: Path, template: str = "", alphabet: bool = False) -> lutern.Model:
    """A small model of random weights, or of weights that write the alphabet."""
    numbers = dict(pairwise(range(1, 27)))
    checkpoint = chain_checkpoint(CONFIG, numbers, SEED) if alphabet else random_checkpoint(CONFIG, SEED)
    save_checkpoint(folder, CONFIG, checkpoint.tensors)
    (folder / "tokenizer.json").write_text(Tokenizer(character_tokenizer(LETTERS)).to_json())
    if template:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return lutern.load(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lutern.Model:
    return make_model(tmp_path_factory.mktemp("models") / "letters", TEMPLATE)


@pytest.fixture(scope="module")
def server(model: lutern.Model) -> Iterator[Served]:
    with served(Service(model, limits=Limits(tokens=100_000, prompt_tokens=128, body_bytes=5000))) as server:
        yield server


def generate(model: lutern.Model, prompt: str, **options: Any) -> str:
    return "".join(model.generate(prompt, **options))


def load_test(server: Served, wanted: Callable[[int], str]) -> None:
    """All clients at once, half of them reading events: nothing is lost, every text is the one that is wanted."""
    start = threading.Barrier(CLIENTS)

    def client(which: int) -> str:
        fields = {"prompt": PROMPTS[which % len(PROMPTS)], "max_tokens": TOKENS, "seed": which, **KINDS[which % 4]}
        start.wait()
        if which % 2:
            events = server.events("/v1/completions", **fields)
            assert [event["choices"][0]["finish_reason"] for event in events[-2:]] == [None, "length"]
            return "".join(event["choices"][0]["text"] for event in events)
        answer = server.complete(**fields)
        assert answer["usage"]["completion_tokens"] == TOKENS
        return str(answer["choices"][0]["text"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        texts = list(pool.map(client, range(CLIENTS)))
    assert texts == [wanted(which) for which in range(CLIENTS)]
    assert len(set(texts)) > CLIENTS // 2


PROMPTS = ["a", "once upon a time", "the cat", "zz"]
KINDS: list[dict[str, float]] = [{"temperature": 0.8}, {"temperature": 0.8}, {"temperature": 1.2}, {"top_p": 0.9}]


# ---------------------------------------------------------------------------------- texts


def test_a_completion(server: Served, model: lutern.Model) -> None:
    answer = server.complete(model="letters", prompt="ab", max_tokens=12, temperature=0.9, seed=4)
    assert answer["id"].startswith("cmpl-") and answer["object"] == "text_completion" and answer["model"] == "letters"
    (choice,) = answer["choices"]
    assert choice["text"] == generate(model, "ab", tokens=12, temperature=0.9, seed=4)
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 12, "total_tokens": 14}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0},
        {"temperature": 1.3, "seed": 7},
        {"top_p": 0.7, "seed": 2},
        {"top_k": 3, "min_p": 0.1, "seed": 3},
        {"repetition_penalty": 1.4, "temperature": 0},
    ],
)
def test_options_mean_what_they_mean_to_generate(server: Served, model: lutern.Model, options: dict[str, Any]) -> None:
    text = server.complete(prompt="ab", max_tokens=9, **options)["choices"][0]["text"]
    assert text == generate(model, "ab", tokens=9, **options)


def test_several_prompts_and_several_texts(server: Served, model: lutern.Model) -> None:
    """Text i has seed + i; prompts may be token numbers."""
    answer = server.complete(prompt=["ab", "the cat"], n=2, max_tokens=5, seed=2)
    wanted = [
        generate(model, prompt, tokens=5, seed=2 + i) for i, prompt in enumerate(["ab", "ab", "the cat", "the cat"])
    ]
    assert [choice["text"] for choice in answer["choices"]] == wanted
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 20, "total_tokens": 29}
    for prompt in (model.encode("ab"), [model.encode("ab")]):
        assert server.complete(prompt=prompt, max_tokens=5, seed=2)["choices"][0]["text"] == wanted[0]


def test_a_stream(server: Served, model: lutern.Model) -> None:
    fields = {"prompt": ["ab", "c"], "max_tokens": 6, "stream_options": {"include_usage": True}, "figures": True}
    *events, last = server.events("/v1/completions", **fields)
    for which, prompt in enumerate(["ab", "c"]):
        own = [event for event in events if event["choices"][0]["index"] == which]
        text = "".join(event["choices"][0]["text"] for event in own)
        assert text == generate(model, prompt, tokens=6, seed=1 + which)
        assert [event["choices"][0]["finish_reason"] for event in own] == [None] * 5 + ["length"]
        assert [event["lutern"] for event in own] == [{"tokens": 1 + i, "cycles": 0} for i in range(6)]
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 15
    assert len({event["id"] for event in events}) == 1


def test_where_a_text_ends(tmp_path: Path) -> None:
    """Ahead of a stop text, which is never sent in part, or with so many tokens."""
    with served(Service(make_model(tmp_path / "m", alphabet=True))) as server:
        answer = server.complete(prompt="ab", max_tokens=20, temperature=0, stop="hi")
        assert answer["choices"][0]["text"] == "cdefg" and answer["choices"][0]["finish_reason"] == "stop"
        events = server.events("/v1/completions", prompt="ab", max_tokens=20, temperature=0, stop=["xyz", "hi"])
        assert [event["choices"][0]["text"] for event in events] == ["c", "d", "e", "f", "g", ""]
        assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_chat(server: Served, model: lutern.Model) -> None:
    """Messages go through the model's template; text parts are joined, and what a client sends back is taken."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "who "}, {"type": "text", "text": "is it"}]},
    ]
    fields = {"max_completion_tokens": 8, "temperature": 0}
    status, answer, _ = server.call("POST", "/v1/chat/completions", {"messages": messages, **fields})
    text = generate(model, "system be brief user who is it assistant", tokens=8, temperature=0)
    message = answer["choices"][0]["message"]
    assert status == 200 and message == {"role": "assistant", "content": text, "refusal": None}
    assert answer["object"] == "chat.completion" and answer["usage"]["completion_tokens"] == 8
    events = server.events("/v1/chat/completions", messages=messages, **fields)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == text
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    again = [*messages, message, {"role": "user", "content": "why"}]
    status, answer, _ = server.call("POST", "/v1/chat/completions", {"messages": again, **fields})
    whole = f"system be brief user who is it assistant {text} user why assistant"
    assert answer["choices"][0]["message"]["content"] == generate(model, whole, tokens=8, temperature=0)


def test_the_official_client(server: Served, model: lutern.Model) -> None:
    with openai.OpenAI(base_url=f"{server.address}v1", api_key="none", max_retries=0) as client:
        assert [one.id for one in client.models.list()] == ["letters"]
        assert client.models.retrieve("letters").owned_by == "lutern"
        wanted = generate(model, "ab", tokens=9, temperature=0.5, seed=3)
        options: dict[str, Any] = {"model": "letters", "max_tokens": 9, "temperature": 0.5, "seed": 3}
        done = client.completions.create(prompt="ab", user="me", **options)
        assert done.choices[0].text == wanted and done.usage and done.usage.completion_tokens == 9
        parts = client.completions.create(prompt="ab", stream=True, **options)
        assert "".join(part.choices[0].text for part in parts) == wanted
        chat = client.chat.completions.create(messages=[{"role": "user", "content": "ab"}], **options)
        wanted = generate(model, "user ab assistant", tokens=9, temperature=0.5, seed=3)
        assert chat.choices[0].message.content == wanted and chat.choices[0].finish_reason == "length"
        events = client.chat.completions.create(messages=[{"role": "user", "content": "ab"}], stream=True, **options)
        assert "".join(event.choices[0].delta.content or "" for event in events) == wanted
        with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'; this server has 'letters'"):
            client.completions.create(model="gpt", prompt="ab")
        with pytest.raises(openai.BadRequestError, match="no token for '!'") as caught:
            client.completions.create(model="letters", prompt="a!")
        assert caught.value.type == "invalid_request_error"


def test_many_clients(model: lutern.Model) -> None:
    with served(Service(model)) as server:
        load_test(server, lambda which: text_of(model, which))


def text_of(model: lutern.Model, which: int) -> str:
    """What client ``which`` of the load test is to get."""
    options: dict[str, Any] = KINDS[which % 4]
    return generate(model, PROMPTS[which % len(PROMPTS)], tokens=TOKENS, seed=which, **options)


@pytest.mark.slow
def test_many_clients_on_a_board(model: lutern.Model) -> None:
    """Whose passes they share: a machine with four streams takes fewer than one a token."""
    machine = lutern.preset("tiny").with_(name="tiny-four", streams=4, max_state=512, counters=True)
    with model.simulate(machine) as board, served(Service(model, board)) as server:
        runs, run = list[int](), board.session.run

        def counted(feeds: Any, *args: Any, **options: Any) -> Any:
            runs.append(len(feeds))
            return run(feeds, *args, **options)

        board.session.run = counted  # type: ignore[method-assign]
        load_test(server, lambda which: text_of(model, which))
        assert len(runs) < CLIENTS * TOKENS * 2 // 3 and max(runs) == 4
        models = server.call("GET", "/v1/models")[1]["data"][0]["lutern"]
        assert (models["machine"], models["streams"], models["where"]) == ("tiny-four", 4, "simulated")
        (event,) = server.events("/v1/completions", prompt="a", max_tokens=1, figures=True)
        assert event["lutern"]["cycles"] == model.estimate(machine).cycles


# ---------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fields", "message", "code", "param"),
    [
        ({}, "the field prompt is missing; give it.", "missing_required_parameter", "prompt"),
        ({"prompt": 3}, "the prompt must be a text, token numbers, or a list of one of them.", None, "prompt"),
        ({"prompt": ["a", 1]}, "the prompt must be a text, token numbers, or a list of one of them.", None, "prompt"),
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
        ({"prompt": "a", "stop": [""]}, "a text to stop at is empty", None, None),
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


def test_nulls_and_what_asks_for_nothing(server: Served) -> None:
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
    """With a status where nothing was sent, with an event where the answer had begun; later ones are answered."""
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


# ---------------------------------------------------------------------------------- clients that misbehave


def begin(server: Served, **fields: Any) -> socket.socket:
    """A connection on which a request was sent and nothing was read."""
    body = json.dumps({"prompt": "a", **fields}).encode()
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.connect(("127.0.0.1", server.port))
    head = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    opened.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body)
    return opened


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away(server: Served, stream: bool) -> None:
    """Its text ends; 100,000 tokens would take minutes."""
    engine = server.service.engine
    with begin(server, max_tokens=100_000, stream=stream):
        until(lambda: engine._open == 1)
    until(lambda: engine._open == 0)
    assert len(engine._batch) == 0
    server.complete(prompt="a", max_tokens=1)


def test_clients_that_never_read(model: lutern.Model) -> None:
    """Others are answered, and in the end their connections are closed."""
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


def test_a_body_that_does_not_come(model: lutern.Model) -> None:
    with served(Service(model, limits=Limits(patience_s=0.2))) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.putrequest("POST", "/v1/completions")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "10")
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 408 and b"did not come within 0.2 s" in response.read()
        connection.close()
