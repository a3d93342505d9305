"""The head against the golden model."""

import pytest

from lutern.hw import head
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench

LATENCY = 3


def run(lanes: int, vocab: int = 24, source: str = "none", sink: str = "none", testcase: str | None = None) -> None:
    values = {"results_per_cycle": lanes, "max_vocab": 24}
    block = head.Head(HwConfig("bench", **values))
    assert block.latency == LATENCY
    run_bench(block, "lutern.sim.tb_head", seed=30 + lanes, testcase=testcase,
              parameters={"config": values, "source": source, "sink": sink, "latency": LATENCY, "vocab": vocab,
                          "vectors": 60})


@pytest.mark.parametrize(("lanes", "vocab"), [(1, 24), (1, 17), (2, 24), (2, 23), (4, 21), (4, 22)])
def test_tokens_logits_latency_and_reset(lanes: int, vocab: int) -> None:
    run(lanes, vocab)


@pytest.mark.parametrize(("source", "sink"), [("random", "random"), ("none", "bursty"), ("alternating", "after_valid")])
def test_pauses(source: str, sink: str) -> None:
    run(2, 23, source, sink)


@pytest.mark.parametrize(("constant", "bit"), [("LOWEST", 1 << 20), ("LOGIT_BITS", 1)])
def test_mutation_is_found(constant: str, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, constant, getattr(head, constant) ^ bit)
    with pytest.raises(AssertionError, match=r"head\.token: token \d+, cycle \d+: got 0x.* expected 0x.* seed 32"):
        run(2, 23, testcase="edges_then_random")
