"""The thread that runs the machine: its queue, cancelled texts, failures, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from letters import CONFIG, letters_tokenizer
from lutern.api.serving.engine import Engine, Ticket, Update
from lutern.api.serving.errors import ApiError
from lutern.api.writing import Style
from lutern.firmware.conversations import Sampling
from lutern.firmware.session import Feed, GoldenSession, Run
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from served import TIMEOUT_S, until


class Held(GoldenSession):
    """The integer model, which computes only while ``gate`` is set. An exception in ``failure`` is raised in place of a
    run."""

    def __init__(self, weights: IntegerWeights) -> None:
        super().__init__(weights, 2, 2)
        self.gate, self.count, self.failure = threading.Event(), 0, list[Exception]()

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        assert self.gate.wait(TIMEOUT_S)
        self.count += 1
        if self.failure:
            raise self.failure.pop()
        return super().run(feeds, count, temperature=temperature, chained=chained)


class Asked:
    """A text that was requested: its ticket, and the events that were received for it."""

    def __init__(self, tokens: int = 5) -> None:
        self.heard: list[Update] = []
        style = Style(tokens, Sampling(0.8, seed=3), (), ())
        self.ticket = Ticket(0, letters_tokenizer(), [1, 2], style, self.heard.append)

    @property
    def is_done(self) -> bool:
        return bool(self.heard) and self.heard[-1].is_last

    @property
    def text(self) -> str:
        return "".join(update.text for update in self.heard)


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(CONFIG, 7))


@pytest.fixture
def machine(weights: IntegerWeights) -> Held:
    return Held(weights)


@pytest.fixture
def engine(machine: Held) -> Iterator[Engine]:
    """Yield an engine for two texts in flight and two texts that wait."""
    engine = Engine(machine, 2)
    engine.start()
    yield engine
    machine.gate.set()
    engine.stop()


def refusal(engine: Engine, *asked: Asked) -> ApiError:
    with pytest.raises(ApiError) as caught:
        engine.submit([one.ticket for one in asked])
    return caught.value


def test_requests_beyond_the_queue_are_refused(engine: Engine, machine: Held) -> None:
    """A request is accepted or refused with all of its texts. There is room again when other texts have ended."""
    asked = [Asked() for _ in range(4)]
    engine.submit([one.ticket for one in asked[:3]])
    error = refusal(engine, Asked(), Asked())
    assert (error.status, error.code, error.headers) == (429, "rate_limit_exceeded", {"Retry-After": "1"})
    assert str(error) == "1 texts wait already, and no more may wait; send the request again in a moment."
    engine.submit([asked[3].ticket])
    assert refusal(engine, Asked()).status == 429
    machine.gate.set()
    until(lambda: all(one.is_done for one in asked))
    assert len({one.text for one in asked}) == 1 and len(asked[0].text) == 5
    assert [update.count for update in asked[0].heard] == [1, 2, 3, 4, 5] and asked[0].heard[-1].ended == "length"
    again = [Asked() for _ in range(4)]
    engine.submit([one.ticket for one in again])
    until(lambda: all(one.is_done for one in again))


def test_cancelled_texts(engine: Engine, machine: Held) -> None:
    """Texts in flight and a text that waits are cancelled, and another text takes their place."""
    asked = [Asked(1000) for _ in range(4)]
    engine.submit([one.ticket for one in asked])
    until(lambda: machine.gate.is_set() or not engine._inbox)
    engine.cancel([asked[0].ticket, asked[3].ticket])
    engine.cancel([asked[1].ticket])
    machine.gate.set()
    until(lambda: len(asked[2].heard) > 3)
    engine.cancel([asked[2].ticket])
    last = Asked()
    engine.submit([last.ticket])
    until(lambda: last.is_done)
    assert not any(one.is_done for one in asked) and asked[3].heard == []
    count = machine.count
    engine.cancel([last.ticket])  # this text has ended, so the call has no effect
    one = Asked(1)
    engine.submit([one.ticket])
    until(lambda: one.is_done)
    assert machine.count == count + 1, "the machine must not run without a request"


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (LuternError("The cable is out."), 503, "the machine failed: The cable is out."),
        (ZeroDivisionError("defect"), 500, "the server has a defect, which its log describes; tell its administrator."),
    ],
)
def test_a_machine_that_fails(
    engine: Engine, machine: Held, failure: Exception, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The texts in the engine receive the error, and later texts are answered."""
    asked = [Asked() for _ in range(4)]
    machine.failure.append(failure)
    engine.submit([one.ticket for one in asked])
    machine.gate.set()
    until(lambda: all(one.is_done for one in asked))
    errors = [one.heard[-1].error for one in asked]
    assert [error and (error.status, error.message) for error in errors] == [(status, message)] * 4
    assert str(failure) in caplog.text
    again = [Asked() for _ in range(4)]
    engine.submit([one.ticket for one in again])
    until(lambda: all(one.is_done for one in again))
    assert {len(one.text) for one in again} == {5}


def test_each_repair_is_logged_once(machine: Held, caplog: pytest.LogCaptureFixture) -> None:
    repairs = ["Block 3 of the weights was damaged in memory."]
    engine = Engine(machine, 2, repairs)
    engine.start()
    machine.gate.set()
    first, second = Asked(), Asked()
    engine.submit([first.ticket])
    until(lambda: first.is_done)
    repairs.append("The embedding of token 7 was damaged in memory.")
    engine.submit([second.ticket])
    until(lambda: second.is_done)
    engine.stop()
    assert [record.message for record in caplog.records] == repairs


def test_the_end(weights: IntegerWeights) -> None:
    """Texts in flight receive an error, and later texts are refused."""
    machine = Held(weights)
    engine = Engine(machine, 2)
    engine.start()
    asked = [Asked(100_000) for _ in range(3)]
    engine.submit([one.ticket for one in asked])
    machine.gate.set()
    until(lambda: len(asked[0].heard) > 0)
    engine.stop()
    assert [one.heard[-1].error and one.heard[-1].error.status for one in asked] == [503] * 3
    assert refusal(engine, Asked()).message == "the server is being stopped; send the request to another server."
