"""The sequencer distributes operations, also with full queues, and feeds tokens of several streams back on the chip."""

import pytest
from amaranth.hdl import Const, Elaboratable, Module, Value

from lutern.hw import sequencer
from lutern.hw.config import HwConfig
from lutern.sim.runner import run_bench


def run(
    pause: str = "none",
    testcase: str | None = None,
    streams: int = 1,
    block: type[sequencer.Sequencer] = sequencer.Sequencer,
) -> None:
    run_bench(
        block(HwConfig("bench", streams=streams)),
        "lutern.sim.benches.sequencer",
        seed=41,
        testcase=testcase,
        parameters={"pause": pause, "latency": 2, "depth": 5, "streams": streams},
    )


@pytest.mark.parametrize("streams", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("pause", ["none", "random", "bursty", "alternating"])
def test_operations_and_tokens(pause: str, streams: int) -> None:
    run(pause, streams=streams)


def test_mutation_of_the_depth_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "QUEUE_DEPTH", 4)
    with pytest.raises(AssertionError, match="4 operations in a queue"):
        run(testcase="a_full_queue_stops_the_stream")


class Eager(sequencer.Sequencer):
    """A mutant in which any operation may begin a pass."""

    def _in_order(self, m: Module) -> Value:
        return Const(1)


def test_mutation_of_the_order_is_found() -> None:
    with pytest.raises(AssertionError, match=r"2 accepted of \[\] .* seed 41"):
        run(testcase="a_pass_begins_with_its_row", block=Eager)


class WrongRow(sequencer.Sequencer):
    """A mutant that requests every row for stream 0."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        m.d.comb += self.o_start.payload.stream.eq(0)
        return m


class WrongFresh(sequencer.Sequencer):
    """A mutant that never marks a state as fresh."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        m.d.sync += self.fresh.eq(0)
        return m


class WrongBases(sequencer.Sequencer):
    """A mutant that places the state of every stream at address 0."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        m.d.sync += self.bases.eq(0)
        return m


class WrongWords(sequencer.Sequencer):
    """A mutant that reports the number of beats as the number of words."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        m.d.comb += self.words.eq(self.beats)
        return m


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (WrongRow, "asked for, .* wanted"),
        (WrongFresh, "is held, expected"),
        (WrongBases, "'bases': 0.* is held, expected"),
        (WrongWords, "words.*expected"),
    ],
)
def test_mutation_of_the_loop_is_found(block: type[sequencer.Sequencer], text: str) -> None:
    with pytest.raises(AssertionError, match=f"cycle .*, token .*, seed 41.*{text}"):
        run(testcase="tokens_loop_on_the_chip", streams=4, block=block)
