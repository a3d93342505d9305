"""Bench of the residual stream: every beat of tokens with one EMBED vector and several RESIDUAL vectors for each
stream.

EMBED has one block for each stream, which is the whole vector. A block of RESIDUAL has the beats of one row group.
"""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, value_classes, values_payload, x_payload
from lutern.hw.residual import Residual
from lutern.model_ref.fixed import S32_MAX
from lutern.model_ref.norm import X_BITS
from lutern.sim.benches.vectors import blocks, flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

EDGES = ("zeros", "largest", "all_minus", "mixed")


class Bench:
    """Drives one Residual. The model receives the beats that the block accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed = dut, bench_seed()
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes, self.active = self.config.results_per_cycle, parameters["active"]
        self.layout, self.x_layout = values_payload(self.config), x_payload(self.config)
        self.generator = np.random.default_rng(self.seed)
        self.unpaused = parameters["source"] == parameters["sink"] == "none"
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.board = Scoreboard(
            "residual.x",
            seed=self.seed,
            bits=self.x_layout.size,
            decode=lambda value: split(value, X_BITS, self.lanes).tolist(),
        )
        self.tap_board = Scoreboard("residual.tap", seed=self.seed, bits=self.tap(0, 0, 0, 0)[1])
        self.h = np.full((self.active, self.config.max_width), 12345)
        self.vector = self.saturations = 0
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        cocotb.start_soon(self.watch())

    def tap(self, h: int, stream: int, index: int, saturated: int) -> tuple[int, int]:
        """Return the tap and the saturation as one number, and the number of its bits."""
        bits = VALUE_BITS * self.lanes
        number = h | stream << bits | index << bits + self.config.stream_bits
        bits += self.config.stream_bits + self.config.index_bits
        return number | saturated << bits, bits + 1

    def token(self, name: str, beats: int, adds: int = 3) -> list[int]:
        """Return the beats of EMBED, followed by `adds` times the beats of RESIDUAL. Fields that this block does not
        read are random."""
        items, draw = [], self.generator
        for vector in range(1 + adds):
            limit = min(S32_MAX, 1 << int(draw.integers(1, 33)))
            group = int(draw.integers(1, beats + 1)) if vector else beats
            signs = draw.choice((-1, 1), (self.active, beats, self.lanes))
            values = {
                "zeros": 0 * signs,
                "largest": 0 * signs + S32_MAX,
                "all_minus": 0 * signs - S32_MAX,
                "mixed": signs * (S32_MAX - draw.integers(0, 3, signs.shape)),
                "random": draw.integers(-limit, limit + 1, signs.shape),
            }[name]
            op = Op.RESIDUAL if vector else Op.EMBED
            for stream, beat in blocks(beats, group, self.active):
                items.append(
                    pack(
                        self.layout,
                        {
                            "values": flat(values[stream, beat], VALUE_BITS),
                            "op": int(op),
                            **value_classes(op),
                            "stream": stream,
                            "index": beat,
                            "frac": int(draw.integers(-64, 64)),
                            "scores": int(draw.integers(0, 1 << 31)),
                            "bounds": flat(draw.integers(0, 1 << BOUND_BITS, self.lanes), BOUND_BITS),
                            "state_base": int(draw.integers(0, 1 << self.config.state_bits)),
                            "last": beat == beats - 1,
                        },
                    )
                )
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        stream, index = fields["stream"], fields["index"]
        part = stream, slice(index * self.lanes, (index + 1) * self.lanes)
        values = split(fields["values"], VALUE_BITS, self.lanes)
        self.h[part], saturated = Residual.model(self.h[part], values, Op(fields["op"]))
        where = {"layer": self.vector, "index": index}
        place = {name: fields[name] for name in ("stream", "index", "last")}
        self.board.expect(pack(self.x_layout, {"x": flat(self.h[part], X_BITS), **place}), **where)
        self.tap_board.expect(self.tap(flat(self.h[part], VALUE_BITS), stream, index, int(saturated))[0], **where)
        self.vector += fields["last"]

    async def watch(self) -> None:
        """Check the tap and the saturation together."""
        while True:
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            saturated = to_int(self.dut.saturated)
            self.saturations += saturated
            if to_int(self.dut.tap_valid):
                h, stream, index = (to_int(port) for port in (self.dut.tap, self.dut.tap_stream, self.dut.tap_index))
                self.tap_board.check(cycle_now(), self.tap(h, stream, index, saturated)[0])
            else:
                assert not saturated, f"residual: saturated must be 0 without a write, cycle {cycle_now()}"

    async def run(self, count: int) -> None:
        await self.sink.receive(count, 500)
        await ClockCycles(self.dut.clk, 10)
        self.board.finish()
        self.tap_board.finish()


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    """Values and taps equal the model for edge cases and random vectors, sent without gaps. Vectors have four beats or
    more, because at least three other beats must come between two uses of a place."""
    bench = Bench(dut)
    await start(dut)
    longest = bench.config.max_width // bench.lanes
    items = [item for name in EDGES for item in bench.token(name, longest)]
    for _ in range(bench_parameters()["tokens"]):
        items += bench.token("random", int(bench.generator.integers(4, longest + 1)))
    bench.source.queue(items)
    await bench.run(len(items))
    assert bench.saturations
    if bench.unpaused:
        waits = {b - a for (a, _), (b, _) in zip(bench.entered.items, bench.left.items, strict=True)}
        assert waits == {bench_parameters()["latency"]}, f"the latencies are {waits}"
        assert bench.left.items[-1][0] - bench.left.items[0][0] == len(items) - 1, "an item must leave in every cycle"


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """A reset drops the values in flight, which are never written."""
    bench = Bench(dut)
    await start(dut)
    for cycles in range(1, 8):
        bench.source.queue(bench.token("random", 10))
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        items = bench.token("random", 6)
        bench.source.clear()
        bench.source.queue(items)
        await ClockCycles(dut.clk, 2)
        for board in (bench.board, bench.tap_board):
            board.pending.clear()
        bench.sink.received.clear()
        dut.rst.value = 0
        await bench.run(len(items))
