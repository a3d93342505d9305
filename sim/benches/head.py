"""Bench of the head: ties, padding, tokens chosen by argmax and by sampling for several streams, latency, and logits
for the host."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.head import Head
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, seed_payload, token_payload, value_classes, values_payload
from lutern.hw.top_k import TopK
from lutern.model_ref import sampling
from lutern.model_ref.fixed import S32_MAX, Int
from lutern.model_ref.sampling import Gumbel
from lutern.model_ref.ternary import SUM_BITS
from lutern.sim.benches.read_back import read_back
from lutern.sim.benches.vectors import flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, unpack

LARGEST = 127 * 8192
TEMPERATURES = (4096, 0, 2867, 1, 65535, 0, 300)


class Bench:
    """Drives one Head. The model receives the beats that the block accepts."""

    def __init__(self, dut: Any, vocab: int | None = None) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.vocab = dut, bench_seed(), vocab or parameters["vocab"]
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes, self.streams, self.active = self.config.results_per_cycle, self.config.streams, parameters["active"]
        self.layout, self.out = values_payload(self.config), token_payload(self.config)
        self.generator = np.random.default_rng(self.seed)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.seeds = StreamSource(dut, "i_seed", pause=parameters["source"], seed=self.seed + 2)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.board = Scoreboard("head.token", seed=self.seed, bits=self.out.size, decode=lambda v: unpack(self.out, v))
        self.generators: list[Gumbel] = [Gumbel(1)] * self.streams
        self.forget()
        self.sums = np.zeros((self.streams, self.vocab), dtype=np.int64)
        self.ends: list[int] = []
        self.count = 0
        self.temperature = 0
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        dut.vocab.value = self.vocab
        dut.address.value = 0
        dut.logits_stream.value = 0
        self.set_temperature(0)

    def set_temperature(self, temperature: int) -> None:
        self.temperature = temperature
        self.dut.temperature.value = temperature

    def forget(self) -> None:
        """Drop the rows of vectors that have not ended."""
        self.rows: list[list[list[int]]] = [[[], []] for _ in range(self.streams)]

    async def give_seeds(self, *seeds: int) -> None:
        """Send a seed for each stream. Streams without a seed in ``seeds`` receive a random seed."""
        for stream in range(self.streams):
            seed = seeds[stream] if stream < len(seeds) else int(self.generator.integers(0, 1 << 32))
            self.generators[stream] = Gumbel(seed)
            await self.seeds.send(pack(seed_payload(self.config), {"stream": stream, "seed": seed}))
        await RisingEdge(self.dut.clk)

    def vectors(self) -> list[tuple[Int, Int]]:
        """Return pairs of sums and scores [V]: first edge cases, then random vectors."""
        ones, place, draw = np.ones(self.vocab, dtype=np.int64), np.arange(self.vocab), self.generator
        named = [0 * ones, LARGEST * ones, -LARGEST * ones, place, -place, -place - 5, place // 3, -(place // 3) - 1]
        named += [np.where(place == best, -5, -6) for best in (0, 1, self.vocab - 2, self.vocab - 1)]
        named += [np.where(place == best, LARGEST, -LARGEST) for best in (0, self.vocab - 1)]
        named += [np.where((place == 3) | (place == best), 7, 6) for best in (2, 4, self.vocab - 1)]
        scores = [0 * ones, S32_MAX * ones, -S32_MAX * ones, place, -place, 3 * (place // 3), -(place // 5)]
        scores += [np.where(place == best, S32_MAX, -S32_MAX) for best in (0, self.vocab - 1)]
        for _ in range(bench_parameters()["vectors"]):
            spread = int(draw.choice((2, 20, LARGEST)))
            sums = draw.integers(-spread, spread + 1, self.vocab) - int(draw.integers(0, 3)) * spread // 2
            named.append(np.maximum(sums, -LARGEST))
        while len(scores) < len(named):
            scores.append(np.rint(draw.normal(size=self.vocab) * 2.0 ** draw.integers(0, 17)).astype(np.int64))
        return list(zip(named, scores, strict=True))

    def step(self, vectors: list[tuple[Int, Int]]) -> list[int]:
        """Return the payloads of one step in blocks: ``vectors[k]`` belongs to stream k. The padding rows contain sums
        that would be the largest."""
        draw, block = self.generator, int(self.generator.choice((1, 2, 5)))
        beats = -(-self.vocab // self.lanes)
        pad = np.ones(-self.vocab % self.lanes, dtype=np.int64)
        padded = [
            (np.concatenate([sums, pad * ((1 << SUM_BITS - 1) - 1)]), np.concatenate([scores, pad * S32_MAX]))
            for sums, scores in vectors
        ]
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
                    "values": flat(padded[stream][0][index * self.lanes :][: self.lanes], VALUE_BITS),
                    "scores": flat(padded[stream][1][index * self.lanes :][: self.lanes], VALUE_BITS),
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

    def queue(self, vectors: list[tuple[Int, Int]]) -> int:
        """Queue vectors in steps of all active streams. The last step may have fewer streams. Return the number of
        tokens."""
        for at in range(0, len(vectors), self.active):
            self.source.queue(self.step(vectors[at : at + self.active]))
        return len(vectors)

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        stream = fields["stream"]
        for rows, name in zip(self.rows[stream], ("values", "scores"), strict=True):
            rows += split(fields[name], VALUE_BITS, self.lanes).tolist()
        if fields["last"]:
            sums, scores = (np.array(rows[: self.vocab]) for rows in self.rows[stream])
            token = Head.model(self.generators[stream], sums, scores, self.temperature)
            self.board.expect(pack(self.out, {"token": token, "stream": stream}), token=self.count)
            self.sums[stream] = sums
            self.ends.append(cycle)
            self.count += 1
            self.rows[stream] = [[], []]

    async def check_logits(self, streams: int) -> None:
        """Read the logits, one address per cycle, and compare them."""
        wanted: dict[tuple[int, int], int] = {}
        for stream in range(streams):
            if self.config.top_k:
                best = np.stack(TopK.model(self.sums[stream], self.config.top_k)[::-1], axis=1).reshape(-1)
            else:
                best = self.sums[stream]
            wanted |= {(stream, address): int(value) for address, value in enumerate(best)}
        places = list(wanted)
        places += [places[i] for i in self.generator.integers(0, len(places), 20)]
        await read_back(self.dut, "head", wanted, places, self.seed)

    async def run(self, count: int) -> None:
        await self.sink.receive(count, 2000)
        await ClockCycles(self.dut.clk, 8)
        self.board.finish()


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    """Tokens equal the model for edge cases and random vectors at several temperatures, and the logits of the last
    vectors can be read."""
    bench = Bench(dut)
    await start(dut)
    await bench.give_seeds(0, 1, (1 << 32) - 1)
    for temperature in TEMPERATURES:
        bench.set_temperature(temperature)
        vectors = bench.vectors()
        await bench.run(bench.queue(vectors))
        await bench.check_logits((len(vectors) - 1) % bench.active + 1)
    if bench_parameters()["source"] == bench_parameters()["sink"] == "none" and not bench.config.top_k:
        waits = {b - a for a, (b, _) in zip(bench.ends, bench.left.items, strict=True)}
        assert waits == {bench_parameters()["latency"]}, f"the latencies are {waits}"
        cycles = [cycle for cycle, _ in bench.entered.items]
        assert np.count_nonzero(np.diff(cycles) != 1) == len(TEMPERATURES) - 1, "a beat must enter in every cycle"


@cocotb.test()
async def every_vector_can_be_read(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    vectors = bench.vectors()
    for at in range(0, 18, bench.active):
        await bench.run(bench.queue(vectors[at : at + bench.active]))
        await bench.check_logits(min(bench.active, len(vectors) - at))


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """After a reset the next vectors start at row 0, no logit of an earlier vector is chosen, and seeds that were sent
    before are kept."""
    bench = Bench(dut)
    await start(dut)
    await bench.give_seeds()
    bench.set_temperature(4096)
    low = [
        (bench.generator.integers(-9, 0, bench.vocab), bench.generator.integers(-9, 0, bench.vocab))
        for _ in range(bench.active)
    ]
    high = (np.full(bench.vocab, LARGEST), np.full(bench.vocab, S32_MAX))
    for beats in (1, 2, 5, bench.vocab // bench.lanes - 1, bench.vocab // bench.lanes + 2):
        bench.source.queue(bench.step([high] * bench.active) * 2)
        while bench.source.sent_count < beats:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        bench.source.clear()
        await ClockCycles(dut.clk, 2)
        bench.board.pending.clear()
        bench.forget()
        bench.sink.received.clear()
        dut.rst.value = 0
        await bench.give_seeds()
        dut.rst.value = 1
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await bench.run(bench.queue(low))
        await bench.check_logits(bench.active)
        bench.source.sent_count = 0


@cocotb.test()
async def every_table_entry(dut: Any) -> None:
    """Every entry of the noise table is right. For each entry the head chooses between two logits, and the seed is
    computed so that the noise of the first logit uses this entry. If the scores are equal, the first token is chosen.
    If the second score is larger by one, the second token is chosen."""
    bench = Bench(dut, vocab=2)
    await start(dut)
    back = (1 << 32) - 1 - (1 << sampling.JUMP_LOG2)  # draws from a word to the seed whose base is this word
    temperatures = (4096, 1000, 65535)
    for entry in range(len(sampling.TABLE)):
        octave, cell = divmod(entry, 1 << sampling.CELL_BITS)
        free = int(bench.generator.integers(0, 1 << 31)) & (1 << max(0, 31 - octave)) - 1
        scale = (1 << 31 - octave | free) >> 11 << 11 if octave < sampling.OCTAVE_BITS else 0
        word = scale | cell << sampling.DITHER_BITS | int(bench.generator.integers(0, 1 << sampling.DITHER_BITS))
        seed = int(sampling.advance(np.array([word], dtype=np.uint32), back)[0]) if word else 0
        bench.set_temperature(temperatures[entry % 3])
        for more in (0, 1):
            await bench.give_seeds(*[seed] * bench.streams)
            words = sampling.draws(bench.generators[0].base, 2)
            assert not word or words[0, 0] == word
            noise = sampling.rsh(sampling.noise(words)[0] * bench.temperature, sampling.NOISE_SHIFT)
            scores = np.array([5, 5 + noise[0] - noise[1] + more])
            await bench.run(bench.queue([(np.zeros(2, dtype=np.int64), scores)]))
            if word:
                assert unpack(bench.out, bench.left.payloads[-1])["token"] == more
