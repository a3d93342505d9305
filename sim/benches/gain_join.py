"""Bench of the gain join: groups of every tuple size are joined with vectors, and bounds are joined with
the rows of f."""

import itertools
import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    BOUND_BITS,
    GAINS_OP,
    ITEM,
    ITEM_BITS,
    TUPLE_GAINS,
    gathered_payload,
    sums_payload,
    x_payload,
)
from lutern.model_ref.norm import GAIN_LOW_BITS, GAIN_MANTISSA_BITS, X_BITS
from lutern.sim.benches.vectors import blocks, flat
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

KINDS = ((0, 1, 3), (0, 1, 1), (0, 0, 1), (1, 0, 0))
"""(bounds, outer, matrices) of four kinds of operations. The first two kinds have the outer gain w1 and gains for three
matrices or for one matrix. The third kind has only gains for one matrix, and the last kind has bounds."""
INPUTS = ("i_op", "i_group", "i_x", "i_sums")


class Bench:
    """Drives one GainJoin. The bench acts as the supply of groups and as the source of vectors and sums."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.active = parameters["active"]
        self.lanes, self.draw = self.config.results_per_cycle, random.Random(self.seed)
        self.sources = {
            name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index) for index, name in enumerate(INPUTS)
        }
        self.sinks = [
            StreamSink(dut, name, pause=self.pause, seed=self.seed + 10 + index)
            for index, name in enumerate(("o", "o_bounds"))
        ]
        self.board = Scoreboard("gain_join.x", seed=self.seed, bits=gathered_payload(self.config).size)
        self.bounds = Scoreboard("gain_join.bounds", seed=self.seed, bits=BOUND_BITS * self.lanes)
        self.entered = {name: StreamMonitor(dut, name) for name in INPUTS}
        self.left = StreamMonitor(dut, "o", on_item=self.check)
        StreamMonitor(dut, "o_bounds", on_item=self.bounds.check)
        self.program: list[int] = []  # number of groups of each operation that has not ended
        dut.final_stream.value = self.active - 1

    def check(self, cycle: int, payload: int) -> None:
        """Compare an item. Gains that the operation does not have may have any value, so they are set to 0 before the
        comparison."""
        layout = gathered_payload(self.config)
        fields = unpack(layout, payload)
        some = (1 << ITEM_BITS * (1 + fields["matrices"])) - (1 if fields["outer"] else 1 << ITEM_BITS)
        fields["gains"] &= flat([some] * self.lanes, TUPLE_GAINS * ITEM_BITS)
        self.board.check(cycle, pack(layout, fields))

    def operation(self, bounds: int, outer: int, matrices: int, beats: int, block: int) -> None:
        """Queue all inputs of an operation: ``beats`` beats for each stream, in blocks of ``block`` beats."""
        draw, lanes = self.draw, self.lanes
        self.sources["i_op"].queue([pack(GAINS_OP, {"bounds": bounds, "outer": outer, "matrices": matrices})])
        items = 1 if bounds else outer + matrices
        self.program.append(beats)
        groups = [draw.getrandbits(TUPLE_GAINS * ITEM_BITS * lanes) for _ in range(beats)]
        if bounds:  # bounds are not negative
            groups = [group & ~flat([1 << GAIN_MANTISSA_BITS - 1] * lanes, ITEM_BITS) for group in groups]
        self.sources["i_group"].queue(groups)
        for stream, index in blocks(beats, block, self.active):
            group, place = groups[index], {"stream": stream, "index": index, "last": int(index == beats - 1)}
            where = {"token": stream, "layer": len(self.program) - 1, "index": index}
            if bounds:
                self.sources["i_sums"].queue([pack(sums_payload(self.config), {"sums": draw.getrandbits(16), **place})])
                gains = [unpack(ITEM, group >> ITEM_BITS * lane & (1 << ITEM_BITS) - 1) for lane in range(lanes)]
                values = [(gain["mantissa"] << GAIN_LOW_BITS) >> gain["exponent"] for gain in gains]
                self.bounds.expect(flat(values, BOUND_BITS), **where)
                continue
            x = draw.getrandbits(X_BITS * lanes)
            self.sources["i_x"].queue([pack(x_payload(self.config), {"x": x, **place})])
            width = items * ITEM_BITS
            aligned = [
                (group >> width * lane & (1 << width) - 1) << (0 if outer else ITEM_BITS)  # item 0 is w1
                for lane in range(lanes)
            ]
            self.board.expect(
                pack(
                    gathered_payload(self.config),
                    {
                        "x": x,
                        "gains": flat(aligned, TUPLE_GAINS * ITEM_BITS),
                        "outer": outer,
                        "matrices": matrices,
                        **place,
                    },
                ),
                **where,
            )

    async def follow(self) -> None:
        """Check that every operation accepts each of its groups once, and ends with the last beat of its
        last stream."""
        groups = beats = idle = 0
        dut = self.dut

        def fires(name: str) -> bool:
            return bool(to_int(getattr(dut, f"{name}__valid")) and to_int(getattr(dut, f"{name}__ready")))

        while self.program:
            await FallingEdge(dut.clk)
            where = f"cycle {cycle_now()}, seed {self.seed}"
            groups += fires("i_group")
            passed = fires("o") + fires("o_bounds")
            beats, idle = beats + passed, 0 if passed else idle + 1
            assert groups <= self.program[0], (
                f"gain_join.i_group: {where}: accepted group {groups} of {self.program[0]}"
            )
            if fires("i_op"):
                expected = (self.program[0], self.program[0] * self.active)
                assert (groups, beats) == expected, (
                    f"gain_join.i_op: {where}: ended after {(groups, beats)} groups and beats, expected {expected}"
                )
                self.program.pop(0)
                groups = beats = 0
            assert idle < 500, f"gain_join.o: {where}: no item left for 500 cycles"

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
            for block in (beats, 2):  # whole vectors, as for EMBED; then blocks of row groups
                bench.operation(*kind, beats, block)
    for _ in range(40):
        bench.operation(*bench.draw.choice(KINDS), bench.draw.randrange(1, most + 1), bench.draw.choice((1, 2, 3, 5)))
    await bench.run()
    if bench.pause == "none":
        layouts = {"i_x": x_payload(bench.config), "i_sums": sums_payload(bench.config)}
        passed = sorted(
            (cycle, unpack(layout, item)["stream"], unpack(layout, item)["index"])
            for name, layout in layouts.items()
            for cycle, item in bench.entered[name].items
        )
        for (before, *ahead), (cycle, stream, index) in itertools.pairwise(passed):
            gap = 1 if (stream == 0 and index) or [stream, index - 1] == ahead else 2  # a new operation adds a cycle
            assert cycle - before == gap, (
                f"stream {stream}, index {index} came in cycle {cycle}, the beat before it in cycle {before}"
            )
        assert [c for c, _ in bench.left.items] == [c for c, _ in bench.entered["i_x"].items], (
            "x must leave with latency 0"
        )


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
