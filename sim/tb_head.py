"""Bench of the head: ties, padding, negative sums; the token, its latency, and every logit as the host reads it."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.head import Head
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, values_payload
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, unpack
from lutern.sim.vectors import flat, split

LARGEST = 127 * 8192


class Bench:
    """Drives one Head; the model is fed with what the block accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.vocab = dut, bench_seed(), parameters["vocab"]
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes = self.config.results_per_cycle
        self.layout = values_payload(self.config)
        self.generator = np.random.default_rng(self.seed)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.board = Scoreboard("head.token", seed=self.seed, bits=16)
        self.rows: list[int] = []
        self.sums = np.zeros(self.vocab, dtype=np.int64)
        self.ends: list[int] = []
        self.count = 0
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        dut.vocab.value = self.vocab
        dut.address.value = 0

    def vectors(self) -> list[np.ndarray]:
        """Named vectors [V], then random ones."""
        ones, place, draw = np.ones(self.vocab, dtype=np.int64), np.arange(self.vocab), self.generator
        named = [0 * ones, LARGEST * ones, -LARGEST * ones, place, -place, -place - 5, place // 3, -(place // 3) - 1]
        named += [np.where(place == best, -5, -6) for best in (0, 1, self.vocab - 2, self.vocab - 1)]
        named += [np.where(place == best, LARGEST, -LARGEST) for best in (0, self.vocab - 1)]
        named += [np.where((place == 3) | (place == best), 7, 6) for best in (2, 4, self.vocab - 1)]
        for _ in range(bench_parameters()["vectors"]):
            spread = int(draw.choice((2, 20, LARGEST)))
            sums = draw.integers(-spread, spread + 1, self.vocab) - int(draw.integers(0, 3)) * spread // 2
            named.append(np.maximum(sums, -LARGEST))
        return named

    def beats(self, sums: np.ndarray) -> list[int]:
        """Payloads of a vector; padding rows hold what would win."""
        draw, items = self.generator, []
        padded = np.concatenate([sums, np.full(-len(sums) % self.lanes, (1 << SUM_BITS - 1) - 1)])
        for left in range(0, len(padded), self.lanes):
            items.append(pack(self.layout, {
                "values": flat(padded[left : left + self.lanes], VALUE_BITS), "op": int(Op.HEAD),
                "bounds": flat(draw.integers(0, 1 << BOUND_BITS, self.lanes), BOUND_BITS),
                "frac": int(draw.integers(-64, 64)), "state_base": int(draw.integers(0, 1 << 16)),
                "last": left + self.lanes == len(padded),
            }))
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        self.rows += split(fields["values"], VALUE_BITS, self.lanes).tolist()
        if fields["last"]:
            self.sums = np.array(self.rows[: self.vocab])
            self.board.expect(Head.model(self.sums), token=self.count)
            self.ends.append(cycle)
            self.count += 1
            self.rows = []

    async def check_logits(self) -> None:
        """Addresses one a cycle, data one cycle later."""
        addresses = [*range(self.vocab), *self.generator.integers(0, self.vocab, 10).tolist()]
        before = None
        await RisingEdge(self.dut.clk)
        for address in addresses:
            self.dut.address.value = address
            await FallingEdge(self.dut.clk)
            got = int(self.dut.data.value.to_signed())
            if before is not None:
                wanted = self.sums[before]
                assert got == wanted, f"head.data: index {before}: got {got}, expected {wanted}, seed {self.seed}"
            before = address
            await RisingEdge(self.dut.clk)

    async def run(self, count: int) -> None:
        await self.sink.receive(count, 1000)
        await ClockCycles(self.dut.clk, 8)
        self.board.finish()


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    """Vectors back to back; the logits of the last one."""
    bench = Bench(dut)
    await start(dut)
    vectors = bench.vectors()
    bench.source.queue(item for sums in vectors for item in bench.beats(sums))
    await bench.run(len(vectors))
    await bench.check_logits()
    if bench_parameters()["source"] == bench_parameters()["sink"] == "none":
        waits = {b - a for a, (b, _) in zip(bench.ends, bench.left.items, strict=True)}
        assert waits == {bench_parameters()["latency"]}, f"latencies {waits}"
        assert np.diff([cycle for cycle, _ in bench.entered.items]).max() == 1, "a bubble"


@cocotb.test()
async def every_vector_can_be_read(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for sums in bench.vectors()[:3] + bench.vectors()[-2:]:
        await bench.source.send(*bench.beats(sums))
        await bench.run(1)
        await bench.check_logits()


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """The next vector starts at row 0, and nothing of the old one wins."""
    bench = Bench(dut)
    await start(dut)
    for beats in (1, 2, 5, bench.vocab // bench.lanes - 1, bench.vocab // bench.lanes + 2):
        bench.source.queue(bench.beats(np.full(bench.vocab, LARGEST)) * 2)
        while bench.source.sent_count < beats:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        bench.source.clear()
        bench.source.queue(bench.beats(bench.generator.integers(-9, 0, bench.vocab)))
        await ClockCycles(dut.clk, 2)
        bench.board.pending.clear()
        bench.rows.clear()
        bench.sink.received.clear()
        dut.rst.value = 0
        await bench.run(1)
        await bench.check_logits()
        bench.source.sent_count = 0
