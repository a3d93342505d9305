"""Bench of the gain join: groups of every tuple size beside their vectors, and bounds to the rows of f."""

import itertools
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import GAINS_OP, ITEM_BITS, TUPLE_GAINS, gathered_payload, sums_payload, x_payload
from lutern.model_ref.norm import X_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack
from lutern.sim.vectors import blocks, flat

KINDS = ((0, 1, 3), (0, 1, 1), (0, 0, 1), (1, 0, 0))
"""bounds, outer, matrices: of h, of v or y, of w, of the rows of f."""
INPUTS = ("i_op", "i_group", "i_x", "i_sums")


class Bench:
    """Drives one GainJoin, and plays the unpacker and the sums of f."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.streams = parameters["streams"]
        self.lanes, self.draw = self.config.results_per_cycle, random.Random(self.seed)
        self.sources = {name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index)
                        for index, name in enumerate(INPUTS)}
        self.sinks = [StreamSink(dut, name, pause=self.pause, seed=self.seed + 10 + index)
                      for index, name in enumerate(("o", "o_bounds"))]
        self.board = Scoreboard("gain_join.x", seed=self.seed, bits=gathered_payload(self.config).size)
        self.bounds = Scoreboard("gain_join.bounds", seed=self.seed, bits=ITEM_BITS * self.lanes)
        self.entered = {name: StreamMonitor(dut, name) for name in INPUTS}
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        StreamMonitor(dut, "o_bounds", on_item=self.bounds.check)
        self.program: list[tuple[int, int]] = []  # (items, beats) of every operation
        dut.final_stream.value = self.streams - 1

    def operation(self, bounds: int, outer: int, matrices: int, beats: int, block: int) -> None:
        """Queue all that belongs to an operation: so many beats a stream, in blocks of ``block``."""
        draw, lanes = self.draw, self.lanes
        self.sources["i_op"].queue([pack(GAINS_OP, {"bounds": bounds, "outer": outer, "matrices": matrices})])
        items = 1 if bounds else outer + matrices
        self.program.append((items, beats))
        groups = [draw.getrandbits(TUPLE_GAINS * ITEM_BITS * lanes) for _ in range(beats)]
        self.sources["i_group"].queue(groups)
        for stream, index in blocks(beats, block, self.streams):
            group, place = groups[index], {"stream": stream, "index": index, "last": int(index == beats - 1)}
            where = {"token": stream, "layer": len(self.program) - 1, "index": index}
            if bounds:
                self.sources["i_sums"].queue(
                    [pack(sums_payload(self.config), {"sums": draw.getrandbits(16), **place})])
                self.bounds.expect(group & (1 << ITEM_BITS * lanes) - 1, **where)
                continue
            x = draw.getrandbits(X_BITS * lanes)
            self.sources["i_x"].queue([pack(x_payload(self.config), {"x": x, **place})])
            width = items * ITEM_BITS
            gains = [(group >> width * lane & (1 << width) - 1) << (0 if outer else ITEM_BITS)  # item 0 is w1
                     for lane in range(lanes)]
            self.board.expect(pack(gathered_payload(self.config), {
                "x": x, "gains": flat(gains, TUPLE_GAINS * ITEM_BITS), "outer": outer, "matrices": matrices, **place,
            }), **where)

    async def follow(self) -> None:
        """`items` and `flush` in every cycle, until all operations are done."""
        taken = idle = 0
        dut = self.dut
        while self.program:
            items, beats = self.program[0]
            await FallingEdge(dut.clk)
            where, got = f"cycle {cycle_now()}, seed {self.seed}", to_int(dut.items)
            if to_int(dut.i_op__valid):
                expected = items if taken < beats else 0
                assert got == expected, f"gain_join.items: {where}: got {got}, expected {expected}"
            else:
                assert got == 0 and not to_int(dut.i_group__ready), f"gain_join.items: {where}: no operation"
            if to_int(dut.i_group__valid) and to_int(dut.i_group__ready):
                taken, idle = taken + 1, 0
                assert taken <= beats, f"gain_join.i_group: {where}: one too many"
                assert to_int(dut.flush) == (taken == beats), f"gain_join.flush: {where}"
            if to_int(dut.i_op__valid) and to_int(dut.i_op__ready):
                assert taken == beats, f"gain_join.i_op: {where}: {taken} of {beats} groups"
                self.program.pop(0)
                taken = 0
            idle += 1
            assert idle < 2000, f"gain_join.i_group: {where}: no group for 2000 cycles"

    async def run(self) -> None:
        await self.follow()
        await ClockCycles(self.dut.clk, 10)
        self.board.finish()
        self.bounds.finish()
        assert not any(self.sources[name].pending for name in INPUTS)


@cocotb.test()
async def vectors_and_bounds(dut: Any) -> None:
    bench = Bench(dut)
    most = bench.config.max_width // bench.lanes
    await start(dut)
    for beats in (1, 2, 9, most):
        for kind in KINDS:
            for block in (beats, 2):  # EMBED; rows
                bench.operation(*kind, beats, block)
    for _ in range(40):
        bench.operation(*bench.draw.choice(KINDS), bench.draw.randrange(1, most + 1), bench.draw.choice((1, 2, 3, 5)))
    await bench.run()
    if bench.pause == "none":
        layouts = {"i_x": x_payload(bench.config), "i_sums": sums_payload(bench.config)}
        passed = sorted((cycle, unpack(layout, item)["stream"], unpack(layout, item)["index"])
                       for name, layout in layouts.items() for cycle, item in bench.entered[name].items)
        wrap = 1 << bench.config.index_bits
        for (before, _, ahead), (cycle, stream, index) in itertools.pairwise(passed):
            gap = 1 if stream == 0 or index == (ahead + 1) % wrap else 2
            assert cycle - before == gap, f"stream {stream}, index {index} in cycle {cycle}, the one before in {before}"
        assert [c for c, _ in bench.left.items] == [c for c, _ in bench.entered["i_x"].items], "latency 0"


@cocotb.test()
async def reset_in_mid_operation(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for cycles in (1, 2, 3, 5, 8, 13):
        bench.operation(*KINDS[0], 5, 5)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        for source in bench.sources.values():
            source.clear()
        bench.program.clear()
        bench.board.pending.clear()
        for kind in KINDS:
            bench.operation(*kind, 4, 2)
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await bench.run()
