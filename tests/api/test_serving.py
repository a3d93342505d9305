"""A server of the OpenAI API returns the texts of `generate`, for one client and for many clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

import lutern
from lutern.api.serving import Limits, Service
from served import TEMPLATE, Served, generate, make_model, served

CLIENTS, TOKENS = 64, 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> lutern.Model:
    return make_model(tmp_path_factory.mktemp("models") / "letters", TEMPLATE)


@pytest.fixture(scope="module")
def server(model: lutern.Model) -> Iterator[Served]:
    with served(Service(model, limits=Limits(tokens=100_000, prompt_tokens=128, body_bytes=5000))) as server:
        yield server


def load_test(server: Served, wanted: Callable[[int], str]) -> None:
    """All clients send a request at the same time, and half of them read events. Every client must get its whole
    text."""
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
def test_options_equal_those_of_generate(server: Served, model: lutern.Model, options: dict[str, Any]) -> None:
    text = server.complete(prompt="ab", max_tokens=9, **options)["choices"][0]["text"]
    assert text == generate(model, "ab", tokens=9, **options)


def test_several_prompts_and_several_texts(server: Served, model: lutern.Model) -> None:
    """Text i has the seed ``seed + i``. A prompt may consist of token numbers."""
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
    """A text ends before a stop text, no part of which is ever sent, or after the requested number of tokens."""
    with served(Service(make_model(tmp_path / "m", alphabet=True))) as server:
        answer = server.complete(prompt="ab", max_tokens=20, temperature=0, stop="hi")
        assert answer["choices"][0]["text"] == "cdefg" and answer["choices"][0]["finish_reason"] == "stop"
        events = server.events("/v1/completions", prompt="ab", max_tokens=20, temperature=0, stop=["xyz", "hi"])
        assert [event["choices"][0]["text"] for event in events] == ["c", "d", "e", "f", "g", ""]
        assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_chat(server: Served, model: lutern.Model) -> None:
    """Messages pass through the model's template, and text parts of a message are joined. A client may send an answer
    back as a message."""
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
    """Return the text that client ``which`` of the load test must receive."""
    options: dict[str, Any] = KINDS[which % 4]
    return generate(model, PROMPTS[which % len(PROMPTS)], tokens=TOKENS, seed=which, **options)


@pytest.mark.slow
def test_many_clients_on_a_board(model: lutern.Model) -> None:
    """Clients share the passes of the board: a machine with four streams needs less than one pass per token."""
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
