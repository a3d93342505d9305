"""The sequencer: operations dealt, queues full, tokens looping on the chip."""

import pytest

from lutern.hw import sequencer
from lutern.sim.runner import run_bench


def run(pause: str = "none", testcase: str | None = None) -> None:
    run_bench(sequencer.Sequencer(), "lutern.sim.tb_sequencer", seed=41, testcase=testcase,
              parameters={"pause": pause, "latency": 2, "depth": 5})


@pytest.mark.parametrize("pause", ["none", "random", "bursty", "alternating"])
def test_operations_and_tokens(pause: str) -> None:
    run(pause)


def test_mutation_of_the_depth_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "QUEUE_DEPTH", 4)
    with pytest.raises(AssertionError, match="4 operations in a queue"):
        run(testcase="a_full_queue_stops_the_stream")
