"""Conversations that start and end at any time: each conversation writes the text that it writes alone, and no
conversation waits for the long prompt of another."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import pytest

from lutern.firmware.batching import Batch
from lutern.firmware.conversations import Conversation, Sampling, generate
from lutern.firmware.session import Feed, GoldenSession, Run
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

VOCAB = 37
SAMPLINGS = [
    Sampling(0.0),
    Sampling(0.8, seed=5),
    Sampling(0.8, seed=6),
    Sampling(1.5, seed=7),
    Sampling(0.8, top_k=8, seed=8),
    Sampling(0.0, repetition_penalty=1.3),
]


class Watched(GoldenSession):
    """The integer model, which stores how many feeds each run had, and whether they belong to one prompt."""

    def __init__(self, weights: IntegerWeights, streams: int) -> None:
        super().__init__(weights, streams, streams)
        self.runs: list[tuple[int, bool]] = []

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        assert 0 < len(feeds) <= self.streams and (chained or len({feed.slot for feed in feeds}) == len(feeds))
        self.runs.append((len(feeds), chained))
        return super().run(feeds, count, temperature=temperature, chained=chained)


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    config = ModelConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    return integer_weights(random_checkpoint(config, 7))


@pytest.fixture(scope="module")
def single(weights: IntegerWeights) -> GoldenSession:
    """Return a session that runs one conversation at a time."""
    return GoldenSession(weights)


def alone(single: GoldenSession, one: tuple[list[int], int, Sampling]) -> list[int]:
    prompt, count, sampling = one
    return [token for token, _ in generate(single, prompt, count, sampling)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("streams", [1, 3, 8])
def test_no_conversation_changes_the_text_of_another(
    weights: IntegerWeights, single: GoldenSession, streams: int, seed: int
) -> None:
    """Each conversation writes the text that it writes alone. Prompts, lengths, samplings and times are random, and
    some conversations are dropped before their end."""
    draw = random.Random(seed)
    wanted = [
        (
            [draw.randrange(VOCAB) for _ in range(draw.choice([1, 2, 9, 20]))],
            draw.randint(1, 12),
            draw.choice(SAMPLINGS),
        )
        for _ in range(24)
    ]
    machine = Watched(weights, streams)
    batch, written, dropped = Batch(machine), defaultdict[int, list[int]](list), set[int]()
    coming = [Conversation(0, *one) for one in wanted]  # which is 0, so the seed is sampling.seed
    for which, one in enumerate(coming):
        one.which = which
    there: list[Conversation] = []
    while coming or len(batch):
        for _ in range(draw.randrange(4)):
            if coming:
                there.append(coming.pop())
                batch.add(there[-1])
        if there and draw.random() < 0.2:
            gone = draw.choice(there)
            if gone.which % 3 == 0:
                batch.drop(gone)
                dropped.add(gone.which)
        for piece in batch.round():
            assert piece.which not in dropped or len(written[piece.which]) == wanted[piece.which][1]
            written[piece.which] += piece.tokens
    for which, given in enumerate(wanted):
        text = alone(single, given)
        got = written[which]
        assert got == (text[: len(got)] if which in dropped else text), f"conversation {which}, seed {seed}"
    assert 0 < len(dropped) < 9 and max(size for size, chained in machine.runs if not chained) >= min(streams, 2)


def test_a_long_prompt_does_not_delay_others(weights: IntegerWeights) -> None:
    """A run of a block of the long prompt and a run of the other conversation's next token take turns. The run of the
    last block of a prompt chooses the first token after the prompt."""
    machine = Watched(weights, 2)
    batch = Batch(machine)
    batch.add(Conversation(0, [1], 30, Sampling()))
    list(batch.round())
    batch.add(Conversation(1, list(range(20)), 1, Sampling()))
    machine.runs.clear()
    for _ in range(10):
        pieces = list(batch.round())
        assert [piece.which for piece in pieces if piece.which == 0] == [0]
    assert machine.runs == [(2, True), (1, False)] * 10
    assert sorted(piece.which for piece in pieces) == [0, 1], "the last block of a prompt must give its first token"


def test_a_token_that_ends_a_conversation_frees_its_slot(weights: IntegerWeights) -> None:
    heard: list[tuple[int, int]] = []

    def finished(which: int, token: int) -> bool:
        heard.append((which, token))
        return which == 0

    batch = Batch(GoldenSession(weights, 1, 1), finished)
    for which in range(2):
        batch.add(Conversation(which, [3], 3, Sampling()))
    while len(batch):
        list(batch.round())
    assert [which for which, _ in heard] == [0, 1, 1, 1]


def test_all_conversations_are_dropped(weights: IntegerWeights, single: GoldenSession) -> None:
    """Conversations are dropped during a prompt, during a text, and while they wait. After that, the slots of these
    conversations are free."""
    batch = Batch(GoldenSession(weights, 2, 2))
    for which, length in enumerate((1, 9, 2)):
        batch.add(Conversation(which, [5] * length, 9, Sampling()))
    list(batch.round())
    assert len(batch) == 3 and batch.capacity == 2
    batch.clear()
    assert len(batch) == 0 and list(batch.round()) == []
    batch.add(Conversation(7, [1, 2, 3], 4, Sampling()))
    written = []
    while len(batch):
        written += [token for piece in batch.round() for token in piece.tokens]
    assert written == alone(single, ([1, 2, 3], 4, Sampling(seed=7)))


def test_equal_temperatures_share_a_pass(weights: IntegerWeights) -> None:
    machine = Watched(weights, 4)
    batch = Batch(machine)
    for which, temperature in enumerate((0.5, 0.7, 0.5, 0.7)):
        batch.add(Conversation(which, [1], 9, Sampling(temperature)))
    for _ in range(4):
        list(batch.round())
    machine.runs.clear()
    list(batch.round())
    assert machine.runs == [(2, False), (2, False)]
