"""The unit that keeps the largest few logits, against the golden model."""

from typing import Any

import pytest

from lutern.hw import top_k
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench


def run(
    lanes: int, vocab: int, kept: int, source: str = "none", testcase: Any = None, streams: int = 1, active: int = 1
) -> None:
    values: dict[str, Any] = {
        "results_per_cycle": lanes,
        "max_vocab": 40,
        "max_width": 16,
        "streams": streams,
        "top_k": kept,
    }
    run_bench(
        top_k.TopK(HwConfig("bench", **values)),
        "lutern.sim.benches.top_k",
        seed=40 + lanes,
        testcase=testcase,
        parameters={"config": values, "source": source, "vocab": vocab, "vectors": 20, "active": active},
    )


@pytest.mark.parametrize(
    ("lanes", "vocab", "kept"),
    [
        (1, 23, 5),
        (4, 37, 4),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 40, 8), (2, 40, 6), (2, 39, 6))),
    ],
)
def test_entries_cycles_and_reset(lanes: int, vocab: int, kept: int) -> None:
    run(lanes, vocab, kept)


@pytest.mark.parametrize(("lanes", "vocab", "kept"), [(1, 40, 1), (2, 5, 8), (1, 7, 8)])
def test_one_logit_or_all_logits_are_kept(lanes: int, vocab: int, kept: int) -> None:
    run(lanes, vocab, kept, testcase=["edges_then_random", "vectors_back_to_back"])


@pytest.mark.parametrize("source", ["none", "random"])
@pytest.mark.parametrize(
    ("lanes", "vocab", "active"),
    [(2, 39, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, 40, 4), (2, 39, 4)))],
)
def test_streams(lanes: int, vocab: int, active: int, source: str) -> None:
    run(lanes, vocab, 6, source, streams=4, active=active)


def test_pauses() -> None:
    run(2, 40, 6, "bursty")


@pytest.mark.parametrize(("constant", "value"), [("LOWEST", 0), ("WALK_BITS", top_k.WALK_BITS - 4)])
def test_mutation_is_found(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_k, constant, value)
    with pytest.raises(AssertionError, match=r"top_k\.data: stream 0: address \d+: got -?\d+, expected -?\d+, seed 42"):
        run(2, 40, 6, testcase="edges_then_random")


def test_top_k_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k is 0"):
        top_k.TopK(HwConfig("bench"))
