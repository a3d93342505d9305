"""Conversations: which conversation runs when, and no conversation changes the text of another conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from lutern.firmware.conversations import EMPTY_PROMPT, Dialogue, Piece, Sampling, converse, generate, prefill, sample
from lutern.firmware.session import Feed, GoldenSession, Logits, Run
from lutern.hw.protocol import RUN_TOKENS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

VOCAB = 37
PROMPTS = [[3], [1, 2, 3, 4, 5, 6, 7, 8, 9], [7, 7, 7], [5, 6, 7, 8], [1, 2], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11]]


class Fake:
    """A machine whose next token is a hash of all tokens of a slot so far and of the generator's state. ``Fake`` stores
    the runs, and asserts that a machine can do each run."""

    def __init__(self, streams: int, slots: int) -> None:
        self.streams, self.slots = streams, slots
        self.states: dict[int, int] = {}
        self.runs: list[tuple[list[Feed], int, float, bool]] = []
        self.last: list[int] = []

    def run(self, feeds: Sequence[Feed], count: int = 1, *, temperature: float = 0.0, chained: bool = False) -> Run:
        assert 0 < len(feeds) <= self.streams and 0 < count * len(feeds) <= RUN_TOKENS
        slots = [feed.slot for feed in feeds]
        assert all(slot in range(self.slots) for slot in slots)
        assert len(set(slots)) == (1 if chained else len(slots)), "streams of a run must not write the same state"
        assert not chained or count == 1
        self.runs.append((list(feeds), count, temperature, chained))
        held, steps = [feed.token for feed in feeds], []
        for step in range(count):
            for stream, feed in enumerate(feeds):
                before = 0 if feed.fresh and step == 0 else self.states[feed.slot]
                state = (before * 31 + held[stream] + 1) % 1_000_003
                self.states[feed.slot] = state
                held[stream] = (state * 7 + (feed.seed + step if temperature else 0) * 13) % VOCAB
            steps.append(list(held))
        self.last = list(held)
        return Run(steps)

    def logits(self, stream: int = 0) -> Logits:
        """Logits that put all weight on three tokens near the last choice."""
        near = (self.last[stream] - np.arange(VOCAB)) % VOCAB
        return Logits(np.arange(VOCAB), np.where(near < 3, 100 - near, 0).astype(np.int64), (1, 0))


def texts(pieces: Iterator[Piece], prompts: Sequence[Sequence[int]] = PROMPTS) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in prompts]
    for piece in pieces:
        written[piece.which] += piece.tokens
    return written


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    config = ModelConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    return integer_weights(random_checkpoint(config, 7))


# ---------------------------------------------------------------------------------- order of the runs


def test_late_joiners_take_the_slots_of_those_that_end() -> None:
    machine = Fake(streams=2, slots=2)
    prompts = [[1], [2], [3, 4, 5], [6]]
    assert [len(text) for text in texts(converse(machine, prompts, 4, Sampling(), burst=2), prompts)] == [4] * 4
    shape = [([feed.slot for feed in feeds], count, chained) for feeds, count, _, chained in machine.runs]
    assert shape == [
        ([0], 1, False),
        ([1], 1, False),
        ([0, 1], 2, False),
        ([0, 1], 1, False),
        # prompts 0 and 1 have ended: the three tokens of prompt 2 are two blocks, and prompt 3 takes the other slot
        ([1, 1], 1, True),
        ([1], 1, False),
        ([0], 1, False),
        ([1, 0], 2, False),
        ([1, 0], 1, False),
    ]
    assert [[feed.fresh for feed in feeds] for feeds, *_ in machine.runs].count([True, False]) == 1


def test_fewer_slots_than_streams() -> None:
    machine = Fake(streams=4, slots=1)
    texts(converse(machine, PROMPTS, 3, Sampling()))
    assert {feed.slot for feeds, *_ in machine.runs for feed in feeds} == {0}
    assert max(len(feeds) for feeds, *_ in machine.runs) == 4, "blocks of a prompt must use all streams"


def test_one_token_each_needs_no_step() -> None:
    machine = Fake(streams=4, slots=4)
    assert [len(text) for text in texts(converse(machine, PROMPTS, 1, Sampling()))] == [1] * 6
    fed = [feed.token for feeds, *_ in machine.runs for feed in feeds]
    assert fed == [token for prompt in PROMPTS for token in prompt]


def test_a_burst_keeps_to_the_limit_of_a_run() -> None:
    machine = Fake(streams=4, slots=4)
    alone = texts(converse(machine, PROMPTS[:1], 300, Sampling(), burst=1000), PROMPTS[:1])
    assert len(alone[0]) == 300 and [count for _, count, *_ in machine.runs] == [1, 128, 128, 43]
    machine.runs.clear()
    texts(converse(machine, PROMPTS[:4], 100, Sampling(), burst=1000), PROMPTS[:4])
    assert [count for feeds, count, _, chained in machine.runs if len(feeds) == 4 and not chained] == [32, 32, 32, 3]


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9])
def test_prefill_in_blocks(length: int) -> None:
    """A prompt is fed in blocks of four. Only the feed of the first token starts with state zero (``fresh``), and only
    the choice of the last stream is used."""
    machine = Fake(streams=4, slots=3)
    prompt = list(range(10, 10 + length))
    run = prefill(machine, prompt, slot=2, seed=5)
    sizes = [len(feeds) for feeds, *_ in machine.runs]
    assert sizes == [4] * (length // 4) + ([length % 4] if length % 4 else [])
    assert [chained for *_, chained in machine.runs] == [size > 1 for size in sizes]
    fed = [feed for feeds, *_ in machine.runs for feed in feeds]
    assert fed == [Feed(token, 2, fresh=place == 0, seed=5) for place, token in enumerate(prompt)]
    single = Fake(streams=1, slots=3)
    assert run.tokens[0][-1] == prefill(single, prompt, slot=0).tokens[0][0]
    assert machine.states[2] == single.states[0]


def test_empty_prompts_are_refused_before_anything_runs() -> None:
    machine = Fake(streams=2, slots=2)
    with pytest.raises(LuternError, match=EMPTY_PROMPT):
        next(converse(machine, [[1], []], 4, Sampling()))
    assert not machine.runs


def test_no_prompts_or_no_tokens_need_no_run() -> None:
    machine = Fake(streams=2, slots=2)
    assert list(converse(machine, [], 4, Sampling())) == [] and list(converse(machine, [[1]], 0, Sampling())) == []
    assert not machine.runs


# ---------------------------------------------------------------------------------- when a text ends


@pytest.mark.parametrize("burst", [1, 3, 100])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_a_text_ends_with_the_token_that_finishes_it(streams: int, burst: int) -> None:
    """A text may also end in the middle of a burst. The other texts continue unchanged, and the slot of the ended text
    is used again."""
    whole = texts(converse(Fake(streams, streams), PROMPTS, 40, Sampling(0.8), burst=burst))
    ends = {token for text in whole for token in text[3:5]}
    heard: list[list[int]] = [[] for _ in PROMPTS]

    def finished(which: int, token: int) -> bool:
        heard[which].append(token)
        return token in ends

    written = texts(converse(Fake(streams, streams), PROMPTS, 40, Sampling(0.8), burst=burst, finished=finished))
    for text, got in zip(whole, written, strict=True):
        place = next(place for place, token in enumerate(text) if token in ends)
        assert got == text[: place + 1]
    assert heard == written


# ---------------------------------------------------------------------------------- several turns


SEVERAL = [[3, 1, 4], [1, 5], [9, 2, 6, 5, 3]]


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_k=4, seed=3)], ids=["greedy", "on the host"])
def test_turns_are_one_conversation(weights: IntegerWeights, sampling: Sampling, streams: int) -> None:
    """Several turns give the same text as feeding all tokens again, but each token is fed only once. After a restart,
    the first turn writes the same text again."""
    machine = GoldenSession(weights, streams, 1)
    dialogue, fed = Dialogue(machine, sampling), list[int]()
    first: list[int] = []
    for turn in SEVERAL:
        got = [token for piece in dialogue.turn(turn, 4) for token in piece.tokens]
        fed += turn
        if not sampling.on_host:
            anew = Dialogue(GoldenSession(weights), sampling)
            assert got == [token for piece in anew.turn(fed, 4) for token in piece.tokens]
        fed += got
        first = first or got
        assert len(got) == 4 and dialogue.pending == got[-1]
    golden, state = GoldenSession(weights), machine.state
    prefill(golden, fed[:-1], 0)
    assert np.array_equal(golden.state, state), "the state must include all tokens except the last one"
    dialogue.restart()
    assert sampling.on_host or first == [token for piece in dialogue.turn(SEVERAL[0], 4) for token in piece.tokens]


def test_each_token_is_fed_once() -> None:
    machine = Fake(streams=2, slots=1)
    dialogue = Dialogue(machine, Sampling())
    said = [[token for piece in dialogue.turn(turn, 3) for token in piece.tokens] for turn in SEVERAL]
    fed = [feed for feeds, *_ in machine.runs for feed in feeds]
    assert [feed.token for feed in fed] == [
        token for turn, answer in zip(SEVERAL, said, strict=True) for token in [*turn, *answer]
    ][:-1]
    assert [feed.fresh for feed in fed] == [True] + [False] * (len(fed) - 1)
    dialogue.restart()
    with pytest.raises(LuternError, match=EMPTY_PROMPT):
        next(dialogue.turn([], 3))


# ---------------------------------------------------------------------------------- how tokens are chosen


@pytest.mark.parametrize(("given", "text"), [((-0.1, 0), "temperature is -0.1"), ((1.0, -1), "top-k is -1")])
def test_samplings_that_are_refused(given: tuple[float, int], text: str) -> None:
    with pytest.raises(LuternError, match=text):
        Sampling(*given)


def test_either_the_chip_or_the_host_samples() -> None:
    """Either the chip samples at the temperature, or the host samples and the chip has temperature 0."""
    for sampling, wanted in ((Sampling(0.8), 0.8), (Sampling(0.8, top_k=3), 0.0), (Sampling(0.0), 0.0)):
        machine = Fake(streams=2, slots=2)
        texts(converse(machine, PROMPTS, 4, sampling, burst=3))
        assert {temperature for *_, temperature, _ in machine.runs} == {wanted}
        most = max(count for _, count, *_ in machine.runs)
        assert most == (1 if sampling.top_k else 3), "a run must have one step if the host chooses each token"


def test_tokens_chosen_by_the_host_are_fed() -> None:
    machine = Fake(streams=2, slots=2)
    written = texts(converse(machine, PROMPTS[:2], 6, Sampling(100.0, top_k=3, seed=1)), PROMPTS[:2])
    steps = [feeds for feeds, _, _, chained in machine.runs if len(feeds) == 2 and not chained][-5:]
    for which, text in enumerate(written):
        assert [feeds[which].token for feeds in steps] == text[:-1]


def test_sample() -> None:
    logits = Logits(np.arange(4), np.array([5, 9, 9, 1]), (1, 0))
    random = np.random.default_rng(0)
    assert sample(logits, Sampling(0.0), random) == 1, "the lowest of equally likely tokens must be chosen"
    shuffled = Logits(np.array([2, 1, 3, 0]), np.array([9, 9, 1, 5]), (1, 0))
    assert sample(shuffled, Sampling(0.0), random) == 1, "the choice must not depend on the order of the logits"
    assert {sample(logits, Sampling(2.0, top_k=2), random) for _ in range(100)} == {1, 2}
    share = np.mean([sample(logits, Sampling(4.0), random) == 0 for _ in range(4000)])
    assert abs(share - np.exp(-1) / (2 + np.exp(-1) + np.exp(-2))) < 0.03


# ---------------------------------------------------------------------------------- other conversations change nothing

SAMPLINGS = {
    "greedy": Sampling(0.0),
    "on the chip": Sampling(0.8, seed=5),
    "on the host": Sampling(0.8, top_k=8, seed=5),
    "seed 0": Sampling(1.5, seed=0),
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize(("streams", "slots", "burst"), [(4, 4, 3), (4, 2, 1), (1, 1, 8), (2, 4, 2)])
def test_a_conversation_among_others_has_the_text_that_it_has_alone(
    weights: IntegerWeights, sampling: Sampling, streams: int, slots: int, burst: int
) -> None:
    written = texts(converse(GoldenSession(weights, streams, slots), PROMPTS, 7, sampling, burst))
    for which, prompt in enumerate(PROMPTS):
        own = Sampling(sampling.temperature, sampling.top_k, sampling.seed + which)
        alone = [token for token, _ in generate(GoldenSession(weights), prompt, 7, own)]
        assert written[which] == alone, f"prompt {which}"
    assert sampling.temperature == 0 or len({tuple(text) for text in written}) == len(PROMPTS), "texts must differ"


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_burst_is_its_single_steps(weights: IntegerWeights, temperature: float) -> None:
    wanted = texts(converse(GoldenSession(weights, 4, 4), PROMPTS, 20, Sampling(temperature, seed=3), burst=1))
    for burst in (2, 7, 100):
        pieces = converse(GoldenSession(weights, 4, 4), PROMPTS, 20, Sampling(temperature, seed=3), burst)
        assert texts(pieces) == wanted


def test_prefill_in_blocks_leaves_the_state_of_single_tokens(weights: IntegerWeights) -> None:
    several, single = GoldenSession(weights, 4, 3), GoldenSession(weights)
    prompt = PROMPTS[-1]
    blocks, steps = prefill(several, prompt, slot=2), prefill(single, prompt, slot=0)
    assert blocks.tokens[0][-1] == steps.tokens[0][0]
    last = several.logits(len(blocks.tokens[0]) - 1)
    assert np.array_equal(last.sums, single.logits().sums) and last.scale == single.logits().scale
    assert several.run([Feed(5, 2)], count=9).tokens == single.run([Feed(5)], count=9).tokens


def test_a_slot_is_used_again_from_zero(weights: IntegerWeights) -> None:
    machine = GoldenSession(weights)
    prompts = [PROMPTS[1], PROMPTS[1]]
    first, second = texts(converse(machine, prompts, 9, Sampling()), prompts)
    assert first == second


def test_greedy_is_the_largest_logit_of_the_first_sampled_step(weights: IntegerWeights) -> None:
    """Sampling on the chip uses the same logits. At a very low temperature, the chip chooses the most likely token."""
    greedy, cold = GoldenSession(weights), GoldenSession(weights)
    wanted = [token for token, _ in generate(greedy, PROMPTS[0], 12, Sampling(0.0))]
    real = greedy.logits().real()
    assert wanted[-1] == int(np.argmax(real))
    assert wanted == [token for token, _ in generate(cold, PROMPTS[0], 12, Sampling(1 / 4096))]
    hot = [token for token, _ in generate(cold, PROMPTS[0], 12, Sampling(8.0))]
    assert hot != wanted
