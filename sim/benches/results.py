"""Bench of the results stage's control: in the operations of a token, each sum must leave with the constants of its
stream."""

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, ReadOnly, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, ITEM_BITS, SCALAR, Op, results_op, scale_payload, sum_classes, sums_payload
from lutern.model_ref.fixed import MANTISSA_ONE
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.benches.vectors import blocks, flat
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

PROGRAM = (Op.EMBED, Op.F, Op.I, Op.G, Op.RESIDUAL, Op.GATE, Op.UP, Op.RESIDUAL, Op.HEAD)
CONSTANTS = ("mantissa", "shift", "cut")
"""Names of the fields for constants. In some operations the scale unit does not read all of them (see UNUSED)."""
UNUSED = {Op.EMBED: ("cut",), Op.G: CONSTANTS[:2], Op.UP: CONSTANTS[:2]}
INPUTS = ("i_op", "i_scale", "i_sums", "i_bounds", "i_row")


class Bench:
    """Drives one ResultsControl."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config = HwConfig("bench", **parameters["config"])
        self.active = parameters["active"]
        self.lanes, self.draw = self.config.results_per_cycle, random.Random(self.seed)
        self.layout = scale_payload(self.config)
        self.sources = {
            name: StreamSource(dut, name, pause=self.pause, seed=self.seed + index) for index, name in enumerate(INPUTS)
        }
        self.entered = {name: StreamMonitor(dut, name) for name in INPUTS}
        self.sink = StreamSink(dut, "o", pause=self.pause, seed=self.seed + 9)
        self.board = Scoreboard(
            "results.sums, operation as layer",
            seed=self.seed,
            bits=self.layout.size,
            decode=lambda value: unpack(self.layout, value),
        )
        self.left = StreamMonitor(dut, "o", on_item=lambda cycle, item: self.board.check(cycle, self.masked(item)))
        self.scales: list[dict[str, int]] = []  # the scales of the last operation with scales, one for each stream
        self.count = 0
        dut.final_stream.value = self.active - 1
        dut.scale_stream.value = 0

    def masked(self, payload: int) -> int:
        """Return the payload with 0 in the fields that the scale unit does not read."""
        fields = unpack(self.layout, payload)
        return pack(self.layout, fields | dict.fromkeys(UNUSED.get(Op(fields["op"]), ()), 0))

    def operation(self, op: Op, beats: int, block: int = 2) -> None:
        """Queue all inputs of an operation: ``beats`` beats for each stream, in blocks of ``block`` beats."""
        draw, sources, active = self.draw, self.sources, range(self.active)
        scaled, embed = op not in (Op.EMBED, Op.UP), op == Op.EMBED
        frac = draw.choice((-64, 63, draw.randrange(-64, 64)))
        cut, base, state_base = (
            draw.randrange(8),
            draw.choice((-64, 63, 0, -9)),
            draw.getrandbits(self.config.state_bits),
        )
        sources["i_op"].queue(
            [
                pack(
                    results_op(self.config),
                    {
                        "op": int(op),
                        "scaled": scaled,
                        "bounded": op == Op.F,
                        **sum_classes(op),
                        "cut": cut,
                        "frac": frac,
                        "base": base,
                        "state_base": state_base,
                        "beats": beats if embed else draw.randrange(1 << 16),
                    },
                )
            ]
        )
        constants = [(MANTISSA_ONE, 16 - base - frac) for _ in active]
        if scaled:
            self.scales = [
                {"mantissa": draw.randrange(1 << 17), "exponent": draw.choice((-2048, 2047, draw.randrange(-60, 60)))}
                for _ in active
            ]
            constants = [(scale["mantissa"], -(scale["exponent"] + cut + frac)) for scale in self.scales]
            sources["i_scale"].queue(pack(SCALAR, scale) for scale in self.scales)
        for stream, index in blocks(beats, beats if embed else block, self.active):
            bits = ITEM_BITS if embed else SUM_BITS
            sums = flat([draw.getrandbits(bits) for _ in range(self.lanes)], bits)
            place, bounds = {"stream": stream, "index": index, "last": int(index == beats - 1)}, 0
            if embed:
                sources["i_row"].queue([sums])
                sums = flat([sums >> bits * lane & (1 << bits) - 1 for lane in range(self.lanes)], SUM_BITS)
            else:
                sources["i_sums"].queue([pack(sums_payload(self.config), {"sums": sums, **place})])
            if op == Op.F:
                bounds = draw.getrandbits(BOUND_BITS * self.lanes)
                sources["i_bounds"].queue([bounds])
            mantissa, shift = constants[stream]
            self.board.expect(
                self.masked(
                    pack(
                        self.layout,
                        {
                            "sums": sums,
                            "bounds": bounds,
                            "op": int(op),
                            **sum_classes(op),
                            "cut": cut,
                            "mantissa": mantissa,
                            "shift": shift,
                            "frac": frac,
                            "state_base": state_base,
                            **place,
                        },
                    )
                ),
                token=stream,
                layer=self.count,
                index=index,
            )
        self.count += 1

    async def run(self) -> None:
        await self.sink.receive(len(self.board.pending), 500)
        await ClockCycles(self.dut.clk, 10)
        assert not any(source.pending for source in self.sources.values())
        self.board.finish()
        for stream, scale in enumerate(self.scales):
            await RisingEdge(self.dut.clk)
            self.dut.scale_stream.value = stream
            await FallingEdge(self.dut.clk)
            got = unpack(SCALAR, to_int(self.dut.scale))
            assert got == scale, f"results.scale: stream {stream}: got {got}, expected {scale}, seed {self.seed}"


@cocotb.test()
async def program_of_a_token(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for beats in (1, 2, 5, 12):
        for op in PROGRAM:
            bench.operation(op, beats)
    for _ in range(60):
        bench.operation(bench.draw.choice(PROGRAM), bench.draw.randrange(1, 10), bench.draw.choice((1, 3)))
    bench.operation(Op.HEAD, 3)
    await bench.run()
    if bench.pause == "none":
        sums = {cycle for name in ("i_sums", "i_row") for cycle, _ in bench.entered[name].items}
        assert [cycle for cycle, _ in bench.left.items] == sorted(sums), "sums must leave with latency 0"
        before, ended = bench.left.items[0][0] - 1, False
        for cycle, item in bench.left.items:
            fields = unpack(bench.layout, item)
            gap = 2 if ended and fields["op"] not in (Op.EMBED, Op.UP) else 1
            assert cycle - before == gap, f"{Op(fields['op']).name} came in cycle {cycle}, the sum before in {before}"
            before, ended = cycle, bool(fields["last"]) and fields["stream"] == bench.active - 1


@cocotb.test()
async def a_beat_waits_for_the_scale_of_its_stream(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for stream in range(bench.active):
        bench.operation(Op.I, 4, 4)
        held = list(bench.sources["i_scale"].pending)
        bench.sources["i_scale"].pending.clear()
        bench.sources["i_scale"].queue(held[:stream])
        bench.left.items.clear()
        await ClockCycles(dut.clk, 100)
        for _ in range(30):
            await FallingEdge(dut.clk)
            assert not to_int(dut.o__valid), f"a sum left without a scale in cycle {cycle_now()}, seed {bench.seed}"
        assert len(bench.left.items) == 4 * stream, f"only beats of {stream} streams must leave, seed {bench.seed}"
        bench.sources["i_scale"].queue(held[stream:])
        await bench.sink.receive(4 * bench.active, 500)
    bench.operation(Op.HEAD, 1)
    await bench.run()


@cocotb.test()
async def scales_stay_until_the_next_ones(dut: Any) -> None:
    """At the end of a token the scales stay readable for the host, while an operation without a scale passes and an
    operation with a scale waits."""
    bench = Bench(dut)
    await start(dut)
    bench.operation(Op.HEAD, 2)
    await bench.run()
    held = list(bench.scales)
    bench.operation(Op.EMBED, 5)
    bench.operation(Op.F, 2)
    later = list(bench.sources["i_scale"].pending)
    bench.sources["i_scale"].pending.clear()
    for cycle in range(100):
        stream = cycle % bench.active
        dut.scale_stream.value = stream
        await ReadOnly()
        assert unpack(SCALAR, to_int(dut.scale)) == held[stream], (
            f"the scale of stream {stream} has changed, seed {bench.seed}"
        )
        await RisingEdge(dut.clk)
    bench.sources["i_scale"].queue(later)
    bench.sink.received.clear()  # the beats of EMBED, which the scoreboard has checked
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
            assert all(bench.sources[name].pending for name in INPUTS)
            await ClockCycles(dut.clk, 2)
            bench.sink.received.clear()
            dut.rst.value = 0
            await bench.run()
