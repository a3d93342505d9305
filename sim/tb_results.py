"""Bench of the results stage's control: the program of a token, each sum with the constants of its operation."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, EMBEDDING_BITS, GAIN_BITS, RESULTS_OP, SCALAR, Op, sums_payload
from lutern.hw.scale import scale_payload
from lutern.model_ref.fixed import MANTISSA_ONE
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack
from lutern.sim.vectors import flat, split

PROGRAM = (Op.EMBED, Op.F, Op.I, Op.G, Op.RESIDUAL, Op.GATE, Op.UP, Op.RESIDUAL, Op.HEAD)
CONSTANTS = ("mantissa", "shift", "cut")
"""What the scale unit does not look at in some operations."""
UNUSED = {Op.EMBED: ("cut",), Op.G: CONSTANTS[:2], Op.UP: CONSTANTS[:2], Op.HEAD: CONSTANTS}


class Bench:
    """Drives one ResultsControl."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes, self.draw = self.config.results_per_cycle, random.Random(self.seed)
        self.layout = scale_payload(self.config)
        names = ("i_op", "i_scale", "i_sums", "i_bounds", "i_row")
        self.sources = {name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index)
                        for index, name in enumerate(names)}
        self.entered = {name: StreamMonitor(dut, name) for name in names}
        self.sink = StreamSink(dut, "o", pause=self.pause, seed=self.seed + 9)
        self.board = Scoreboard("results.sums, operation as layer", seed=self.seed, bits=self.layout.size,
                                decode=lambda value: unpack(self.layout, value))
        self.left = StreamMonitor(dut, "o", on_item=lambda cycle, item: self.board.check(cycle, self.masked(item)))
        self.last_scale: dict[str, int] = {}
        self.count = 0

    def masked(self, payload: int) -> int:
        """A payload without what nobody looks at."""
        fields = unpack(self.layout, payload)
        return pack(self.layout, fields | dict.fromkeys(UNUSED.get(Op(fields["op"]), ()), 0))

    def operation(self, op: Op, beats: int) -> None:
        """Queue all that belongs to an operation."""
        draw, sources = self.draw, self.sources
        own = op not in (Op.EMBED, Op.UP)
        frac = draw.choice((-64, 63, draw.randrange(-64, 64)))
        cut, base, state_base = draw.randrange(8), draw.choice((-64, 63, 0, -9)), draw.randrange(1 << 16)
        sources["i_op"].queue([pack(RESULTS_OP, {
            "op": int(op), "scaled": own, "cut": cut, "frac": frac, "base": base, "state_base": state_base,
            "beats": beats if op == Op.EMBED else draw.randrange(1 << 16),
        })])
        mantissa, shift = MANTISSA_ONE, 16 - base - frac
        if own:
            exponent = draw.choice((-2048, 2047, draw.randrange(-60, 60)))
            mantissa, shift = draw.randrange(1 << 17), -(exponent + cut + frac)
            self.last_scale = {"mantissa": mantissa, "exponent": exponent}
            sources["i_scale"].queue([pack(SCALAR, self.last_scale)])
        for beat in range(beats):
            bits = EMBEDDING_BITS if op == Op.EMBED else SUM_BITS
            sums = [draw.getrandbits(bits) for _ in range(self.lanes)]
            last, bounds = int(beat == beats - 1), 0
            if op == Op.EMBED:
                sources["i_row"].queue([flat(sums, EMBEDDING_BITS)])
            else:
                sources["i_sums"].queue([pack(sums_payload(self.config), {"sums": flat(sums, SUM_BITS), "last": last})])
            if op == Op.F:
                gains = draw.getrandbits(GAIN_BITS * self.lanes)
                sources["i_bounds"].queue([gains])
                bounds = flat(split(gains, GAIN_BITS, self.lanes), BOUND_BITS)
            self.board.expect(self.masked(pack(self.layout, {
                "sums": flat(sums, SUM_BITS), "bounds": bounds, "op": int(op), "cut": cut, "mantissa": mantissa,
                "shift": shift, "frac": frac, "state_base": state_base, "last": last,
            })), layer=self.count, index=beat)
        self.count += 1

    async def run(self) -> None:
        await self.sink.receive(len(self.board.pending), 500)
        await ClockCycles(self.dut.clk, 10)
        assert not any(source.pending for source in self.sources.values())
        self.board.finish()
        assert unpack(SCALAR, to_int(self.dut.scale)) == self.last_scale


@cocotb.test()
async def program_of_a_token(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for beats in (1, 2, 5, 12):
        for op in PROGRAM:
            bench.operation(op, beats)
    for _ in range(60):
        bench.operation(bench.draw.choice(PROGRAM), bench.draw.randrange(1, 10))
    bench.operation(Op.HEAD, 3)
    await bench.run()
    if bench.pause == "none":
        sums = {cycle for name in ("i_sums", "i_row") for cycle, _ in bench.entered[name].items}
        assert [cycle for cycle, _ in bench.left.items] == sorted(sums), "latency 0"
        before, ended = bench.left.items[0][0] - 1, False
        for cycle, item in bench.left.items:
            fields = unpack(bench.layout, item)
            gap = 2 if ended and fields["op"] not in (Op.EMBED, Op.UP) else 1
            assert cycle - before == gap, f"{Op(fields['op']).name} in cycle {cycle}, the sum before in {before}"
            before, ended = cycle, bool(fields["last"])


@cocotb.test()
async def an_operation_waits_for_its_scale(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    bench.operation(Op.I, 4)
    held = list(bench.sources["i_scale"].pending)
    bench.sources["i_scale"].pending.clear()
    for _ in range(30):
        await FallingEdge(dut.clk)
        assert not to_int(dut.o__valid), f"a sum without a scale in cycle {cycle_now()}"
    bench.sources["i_scale"].queue(held)
    await bench.run()


@cocotb.test()
async def reset_in_mid_operation(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for cycles in (1, 2, 4, 6, 9):
        for op in (Op.EMBED, Op.I):
            bench.operation(op, 5)
            await ClockCycles(dut.clk, cycles)
            dut.rst.value = 1
            for source in bench.sources.values():
                source.clear()
            bench.board.pending.clear()
            for other in (Op.EMBED, Op.F, Op.UP):
                bench.operation(other, 3)
            for name in ("i_op", "i_scale", "i_sums", "i_bounds", "i_row"):
                assert bench.sources[name].pending
            await ClockCycles(dut.clk, 2)
            bench.sink.received.clear()
            dut.rst.value = 0
            await bench.run()
