"""The block that joins vectors with their gains."""

from typing import Any

import pytest
from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

from lutern.hw import gains
from lutern.hw.config import HwConfig
from lutern.hw.gains import GainJoin
from lutern.hw.layouts import sums_payload
from lutern.sim.runner import run_bench

SEED = 72
CASES = [
    (1, 1, 1, "none"),
    (2, 1, 1, "none"),
    (2, 1, 1, "random"),
    (2, 1, 1, "bursty"),
    (2, 1, 1, "alternating"),
    (1, 2, 2, "none"),
    (1, 2, 1, "none"),
    (1, 2, 2, "random"),
    (2, 4, 4, "none"),
    (2, 4, 3, "random"),
    (2, 4, 4, "bursty"),
    (2, 4, 4, "alternating"),
    (2, 4, 1, "alternating"),
]
"""Each case has P, T, the number of streams of the run, and the kind of pauses."""


class JoinOfSums(wiring.Component):
    """A join whose bounds meet sums, as in ``ResultsControl``. A register gives the bench a clock, even if T is 1."""

    def __init__(self, join: GainJoin) -> None:
        self.join = join
        config = join.config
        members: dict[str, Any] = {
            name: member
            for name, member in join.signature.members.items()
            if name not in ("bounds_stream", "bounds_index", "bounds_last")
        }
        super().__init__({**members, "i_sums": In(stream.Signature(sums_payload(config)))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.join = join = self.join
        m.d.sync += Signal(name="unused").eq(1)
        for name in ("i_op", "i_group", "i_x"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(join, name))
        wiring.connect(m, join.o, wiring.flipped(self.o))
        sums = self.i_sums.payload
        m.d.comb += [
            join.final_stream.eq(self.final_stream),
            join.bounds_stream.eq(sums.stream),
            join.bounds_index.eq(sums.index),
            join.bounds_last.eq(sums.last),
            self.o_bounds.payload.eq(join.o_bounds.payload),
            self.o_bounds.valid.eq(join.o_bounds.valid & self.i_sums.valid),
            join.o_bounds.ready.eq(self.o_bounds.ready & self.i_sums.valid),
            self.i_sums.ready.eq(self.o_bounds.ready & join.o_bounds.valid),
        ]
        return m


def run(lanes: int, streams: int, active: int, pause: str, kind: type[GainJoin] = GainJoin, width: int = 16) -> None:
    """Run the bench. ``width`` is the number of beats of the longest vector."""
    values = {"results_per_cycle": lanes, "streams": streams, "max_width": width * lanes, "max_vocab": 1}
    join = kind(HwConfig("bench", **values))  # type: ignore[arg-type]
    run_bench(
        JoinOfSums(join),
        "lutern.sim.benches.gain_join",
        seed=SEED,
        parameters={"config": values, "active": active, "pause": pause},
    )


@pytest.mark.parametrize(("lanes", "streams", "active", "pause"), CASES)
def test_gain_join(lanes: int, streams: int, active: int, pause: str) -> None:
    run(lanes, streams, active, pause)


def test_ring_of_any_depth() -> None:
    run(1, 2, 2, "random", width=11)


def test_mutation_of_the_bounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = gains.bound_value
    monkeypatch.setattr(gains, "bound_value", lambda item: exact(item) & ~64)
    with pytest.raises(AssertionError, match=rf"gain_join\.bounds: .* got 0x.* expected 0x.* seed {SEED}"):
        run(1, 1, 1, "none")


def test_a_ring_one_place_off_is_found() -> None:
    class Mutant(GainJoin):
        def _ring(self, m: Module, fresh: Value, index: Value, *control: Signal) -> Value:
            return super()._ring(m, fresh, index | 1, *control)

    with pytest.raises(AssertionError, match=rf"gain_join\.(x|bounds): .* got 0x.* expected 0x.* seed {SEED}"):
        run(1, 2, 2, "none", Mutant)
