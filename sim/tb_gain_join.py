"""Bench of the gain join: groups of every tuple size beside their vectors, and bounds to the rows of f."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import GAIN_BITS, GAINS_OP, TUPLE_GAINS, gathered_payload, x_payload
from lutern.model_ref.norm import X_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int
from lutern.sim.vectors import flat, split

KINDS = ((0, 1, 3), (0, 1, 1), (0, 0, 1), (1, 0, 0))
"""bounds, outer, matrices: of h, of v or y, of w, of the rows of f."""


class Bench:
    """Drives one GainJoin, and plays the unpacker and the sums of f."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes, self.draw = self.config.results_per_cycle, random.Random(self.seed)
        self.ops = StreamSource(dut, "i_op", pause=self.pause, seed=self.seed)
        self.groups = StreamSource(dut, "i_group", pause=self.pause, seed=self.seed + 1)
        self.x = StreamSource(dut, "i_x", pause=self.pause, seed=self.seed + 2)
        self.sink = StreamSink(dut, "o", pause=self.pause, seed=self.seed + 3)
        StreamSink(dut, "o_bounds", pause=self.pause, seed=self.seed + 4)
        self.board = Scoreboard("gain_join.x", seed=self.seed, bits=gathered_payload(self.config).size)
        self.bounds = Scoreboard("gain_join.bounds", seed=self.seed, bits=GAIN_BITS * self.lanes)
        self.monitors = {name: StreamMonitor(dut, name) for name in ("i_op", "i_group", "i_x")}
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        StreamMonitor(dut, "o_bounds", on_item=self.bounds.check)
        self.program: list[tuple[int, int]] = []  # (items, last) of every group

    def operation(self, bounds: int, outer: int, matrices: int, beats: int) -> None:
        draw, lanes, layout = self.draw, self.lanes, gathered_payload(self.config)
        self.ops.queue([pack(GAINS_OP, {"bounds": bounds, "outer": outer, "matrices": matrices})])
        items = 1 if bounds else outer + matrices
        for beat in range(beats):
            group, last = draw.getrandbits(TUPLE_GAINS * GAIN_BITS * lanes), int(beat == beats - 1)
            self.groups.queue([group])
            self.program.append((items, last))
            if bounds:
                self.bounds.expect(group & (1 << GAIN_BITS * lanes) - 1, index=beat)
                continue
            x = draw.getrandbits(X_BITS * lanes)
            self.x.queue([pack(x_payload(self.config), {"x": x, "last": last})])
            tuples = split(group, items * GAIN_BITS, lanes, signed=False) if items * GAIN_BITS < 63 else [
                group >> items * GAIN_BITS * lane & (1 << items * GAIN_BITS) - 1 for lane in range(lanes)]
            gains = [int(value) << (0 if outer else GAIN_BITS) for value in tuples]  # item 0 is w1
            self.board.expect(pack(layout, {"x": x, "gains": flat(gains, TUPLE_GAINS * GAIN_BITS), "outer": outer,
                                            "matrices": matrices, "last": last}), index=beat)

    async def follow(self) -> None:
        """`bounds_last` as the sums of f have it; `items` and `flush` in every cycle."""
        for items, last in self.program:
            while True:
                self.dut.bounds_last.value = last
                await FallingEdge(self.dut.clk)
                where, got = f"cycle {cycle_now()}, seed {self.seed}", to_int(self.dut.items)
                if to_int(self.dut.i_op__valid):
                    assert got == items, f"gain_join.items: {where}: got {got}, expected {items}"
                else:
                    assert got == 0 and not to_int(self.dut.i_group__ready), f"gain_join.items: {where}: no operation"
                fires = to_int(self.dut.i_group__valid) and to_int(self.dut.i_group__ready)
                if fires:
                    assert to_int(self.dut.flush) == last, f"gain_join.flush: {where}"
                await RisingEdge(self.dut.clk)
                if fires:
                    break


@cocotb.test()
async def vectors_and_bounds(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for beats in (1, 2, 9):
        for kind in KINDS:
            bench.operation(*kind, beats)
    for _ in range(40):
        bench.operation(*bench.draw.choice(KINDS), bench.draw.randrange(1, 12))
    await bench.follow()
    await ClockCycles(dut.clk, 10)
    bench.board.finish()
    bench.bounds.finish()
    assert not bench.ops.pending and not bench.x.pending
    if bench.pause == "none":
        cycles = [cycle for cycle, _ in bench.monitors["i_group"].items]
        assert cycles == [*range(cycles[0], cycles[0] + len(cycles))], "a bubble"
        assert [c for c, _ in bench.left.items] == [c for c, _ in bench.monitors["i_x"].items], "latency 0"
