"""The head against the golden model."""

from typing import Any

import pytest

from lutern.hw import head
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench

LATENCY = {1: 8, 2: 9, 4: 10}
TOKENS_TESTS = ["edges_then_random", "every_vector_can_be_read", "reset_in_mid_vector"]


def run(
    lanes: int,
    vocab: int = 24,
    source: str = "none",
    sink: str = "none",
    testcase: Any = TOKENS_TESTS,
    streams: int = 1,
    active: int = 1,
    **changes: int,
) -> None:
    values: dict[str, Any] = {
        "results_per_cycle": lanes,
        "max_vocab": 24,
        "max_width": 16,
        "streams": streams,
        **changes,
    }
    config = HwConfig("bench", **values)
    assert head.Head.latency_of(config) == LATENCY[lanes]
    run_bench(
        head.Head(config),
        "lutern.sim.benches.head",
        seed=30 + lanes,
        testcase=testcase,
        parameters={
            "config": values,
            "source": source,
            "sink": sink,
            "latency": LATENCY[lanes],
            "vocab": vocab,
            "vectors": 20,
            "active": active,
        },
    )


@pytest.mark.parametrize(
    ("lanes", "vocab"),
    [(1, 17), (2, 23), (4, 22), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 24), (2, 24), (4, 21)))],
)
def test_tokens_logits_latency_and_reset(lanes: int, vocab: int) -> None:
    run(lanes, vocab)


@pytest.mark.parametrize(
    ("lanes", "vocab", "active"),
    [(2, 23, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 17, 4), (2, 23, 4), (2, 24, 1)))],
)
def test_streams(lanes: int, vocab: int, active: int) -> None:
    run(lanes, vocab, streams=4, active=active)


@pytest.mark.parametrize(("source", "sink"), [("random", "random"), ("none", "bursty"), ("alternating", "after_valid")])
def test_pauses(source: str, sink: str) -> None:
    run(2, 23, source, sink)
    run(2, 23, source, sink, streams=4, active=3)


@pytest.mark.parametrize(("streams", "active"), [(1, 1), (4, 3)])
@pytest.mark.parametrize("sink", ["none", "random"])
def test_with_top_k(streams: int, active: int, sink: str) -> None:
    run(2, 23, sink, sink, streams=streams, active=active, top_k=5)


@pytest.mark.parametrize("lut_ram_depth", [64, 704])  # the table in block RAM, and in logic
def test_every_table_entry(lut_ram_depth: int) -> None:
    run(2, testcase="every_table_entry", streams=4, lut_ram_depth=lut_ram_depth)


@pytest.mark.parametrize(
    ("constant", "value"), [("LOWEST", 0), ("JUMP", head.JUMP + 1), ("FIRST_SEED", head.FIRST_SEED ^ 1 << 31)]
)
def test_mutation_is_found(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, constant, value)
    with pytest.raises(AssertionError, match=r"head\.token: token \d+, cycle \d+: got 0x.* expected 0x.* seed 32"):
        run(2, 23, testcase="edges_then_random")


@pytest.mark.parametrize(
    ("entry", "half"), [pytest.param(31, head.NOISE_HALF, marks=pytest.mark.slow), (703, head.NOISE_HALF), (-1, 0)]
)
def test_mutation_of_the_noise_is_found(entry: int, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = head.TABLE_WORDS
    monkeypatch.setattr(head, "TABLE_WORDS", [word ^ 8 * (at == entry) for at, word in enumerate(words)])
    monkeypatch.setattr(head, "NOISE_HALF", half)
    with pytest.raises(AssertionError, match=r"head\.token: token \d+, cycle \d+: got 0x.* expected 0x.* seed 32"):
        run(2, testcase="every_table_entry", streams=4)
