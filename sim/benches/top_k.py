"""Bench of TopK: ties, rising sums, padding, several streams, the entries that the host reads, and cycles."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, value_classes, values_payload
from lutern.hw.top_k import TopK
from lutern.model_ref.fixed import Int
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.benches.read_back import read_back
from lutern.sim.benches.vectors import flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSource, pack, start, to_int, unpack

LARGEST = 127 * 8192


class Bench:
    """Drives one TopK. The model receives the beats that the block accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.vocab = dut, bench_seed(), parameters["vocab"]
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes, self.active = self.config.results_per_cycle, parameters["active"]
        self.layout = values_payload(self.config)
        self.generator = np.random.default_rng(self.seed)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.rows: list[list[int]] = [[] for _ in range(self.config.streams)]
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        dut.vocab.value = self.vocab
        dut.address.value = 0
        dut.logits_stream.value = 0

    def vectors(self) -> list[Int]:
        """Return vectors of sums [V]: first edge cases, then random vectors."""
        place, draw = np.arange(self.vocab), self.generator
        named = [0 * place, LARGEST + 0 * place, -LARGEST + 0 * place, place, -place, place // 3, -(place // 3) - 1]
        named += [np.where(place == best, LARGEST, -LARGEST) for best in (0, 1, self.vocab - 1)]
        named += [np.where(place % 3 == 1, place, -LARGEST), place ^ 1, -(place ^ 3), place % 7]
        for _ in range(bench_parameters()["vectors"]):
            spread = int(draw.choice((2, 20, LARGEST)))
            named.append(draw.integers(-spread, spread + 1, self.vocab))
        return named

    def step(self, vectors: list[Int]) -> list[int]:
        """Return the payloads of one step in blocks: ``vectors[k]`` belongs to stream k. The padding rows contain sums
        that would be the largest."""
        draw, block = self.generator, int(self.generator.choice((1, 2, 5)))
        beats = -(-self.vocab // self.lanes)
        pad = np.full(-self.vocab % self.lanes, (1 << SUM_BITS - 1) - 1)
        padded = [np.concatenate([sums, pad]) for sums in vectors]
        order = [
            (stream, index)
            for at in range(0, beats, block)
            for stream in range(len(vectors))
            for index in range(at, min(at + block, beats))
        ]
        return [
            pack(
                self.layout,
                {
                    "values": flat(padded[stream][index * self.lanes :][: self.lanes], VALUE_BITS),
                    "scores": flat(draw.integers(0, 1 << 31, self.lanes), VALUE_BITS),
                    "bounds": flat(draw.integers(0, 1 << BOUND_BITS, self.lanes), BOUND_BITS),
                    "op": int(Op.HEAD),
                    **value_classes(Op.HEAD),
                    "frac": int(draw.integers(-64, 64)),
                    "state_base": int(draw.integers(0, 1 << self.config.state_bits)),
                    "stream": stream,
                    "index": index,
                    "last": index == beats - 1,
                },
            )
            for stream, index in order
        ]

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        if fields["index"] == 0:
            self.rows[fields["stream"]] = []
        self.rows[fields["stream"]] += split(fields["values"], VALUE_BITS, self.lanes).tolist()

    async def settle(self) -> None:
        """Wait until the block has sorted in every logit. ``ready`` must be 1 for some cycles, because it rises for
        single cycles between the last beats."""
        await self.source.drained()
        quiet = 0
        while quiet < 4:
            await FallingEdge(self.dut.clk)
            quiet = quiet + 1 if to_int(self.dut.i__ready) else 0

    async def check(self, streams: int) -> None:
        """Read all entries in two orders, one address per cycle, and compare them with the model."""
        wanted: dict[tuple[int, int], int] = {}
        for stream in range(streams):
            tokens, sums = TopK.model(np.array(self.rows[stream][: self.vocab]), self.config.top_k)
            assert len(tokens) == min(self.config.top_k, self.vocab)
            for entry, pair in enumerate(zip(sums.tolist(), tokens.tolist(), strict=True)):
                wanted |= {(stream, 2 * entry + place): value for place, value in enumerate(pair)}
        places = [*wanted, *self.generator.permutation(list(wanted)).tolist()]
        await read_back(self.dut, "top_k", wanted, places, self.seed)

    def longest_wait(self) -> int:
        """Return the largest number of cycles between two beats."""
        return int(np.diff([cycle for cycle, _ in self.entered.items]).max())


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    vectors = bench.vectors()
    for at in range(0, len(vectors), bench.active):
        some = vectors[at : at + bench.active]
        bench.source.queue(bench.step(some))
        await bench.settle()
        await bench.check(len(some))


@cocotb.test()
async def vectors_back_to_back(dut: Any) -> None:
    """The entries of a vector do not depend on the vectors before it."""
    bench = Bench(dut)
    await start(dut)
    for _ in range(8):
        for _ in range(3):
            bench.source.queue(bench.step([bench.generator.permutation(bench.vocab) for _ in range(bench.active)]))
        await bench.settle()
        await bench.check(bench.active)


@cocotb.test()
async def cycles(dut: Any) -> None:
    """A logit that is not among the k largest takes no extra cycle. A logit that is inserted takes 6 extra cycles, and
    one more for each entry that it passes."""
    bench = Bench(dut)
    await start(dut)
    lanes, kept, place = bench.lanes, bench.config.top_k, np.arange(bench.vocab)
    if bench_parameters()["source"] != "none":
        return
    for climbs in range(kept):
        sums = -(10 * place)
        at = bench.vocab // 2
        sums[at] = -10 * (kept - 1 - climbs) + 1  # the logit passes ``climbs`` entries; the smallest entry is dropped
        first = len(bench.entered.items)
        bench.source.queue(bench.step([sums]))
        await bench.settle()
        await bench.check(1)
        gaps = np.diff([cycle for cycle, _ in bench.entered.items[first:]]) - 1
        filling = -(-kept // lanes)
        later = gaps[filling + 2 :]
        assert later.sum() == 6 + climbs, (
            f"a logit that passes {climbs} entries must take {6 + climbs} cycles: {later.tolist()}, seed {bench.seed}"
        )
        assert gaps[2 : filling + 1].tolist() == [6 * lanes] * (filling - 1), (
            f"each logit must take 6 cycles while the list fills: {gaps.tolist()}"
        )


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """After a reset in the middle of a vector, the next vector starts with an empty list."""
    bench = Bench(dut)
    await start(dut)
    for beats in (1, 2, 3, 4, bench.vocab // bench.lanes - 1):
        for wait in (0, 4):
            bench.source.sent_count = 0
            bench.source.queue(bench.step([np.arange(bench.vocab) + 100] * bench.active))
            while bench.source.sent_count < beats:
                await FallingEdge(dut.clk)
            await ClockCycles(dut.clk, 1 + wait)
            dut.rst.value = 1
            bench.source.clear()
            await ClockCycles(dut.clk, 2)
            dut.rst.value = 0
            bench.source.queue(bench.step([bench.generator.integers(-9, 9, bench.vocab) for _ in range(bench.active)]))
            await bench.settle()
            await bench.check(bench.active)
