"""Bench of the whole decoder: the record stream goes in, chosen tokens come out, and every h, S and code is compared.

    words, again and again ─► i_words ─► Decoder ─► o_token, logits memory
    beats, again and again ─► i_trits      │ └────► taps h, S, codes
    row of the token ───────► i_row ◄── o_start

The golden model runs with the same feeds. It also counts the values that do not fit, and ``status.saturations`` must
show the same count. A pattern determines when the streams pause, and a reset may come in the middle of a token.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge
from numpy.typing import NDArray

from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, GoldenSession
from lutern.hw.config import HwConfig
from lutern.hw.decoder import TAP_VALUE_BITS
from lutern.hw.layouts import ITEM_BITS, takes_narrow_rows
from lutern.hw.protocol import DAMAGE_LAYOUT, RUN_LAYOUT, SETUP_LAYOUT, STATUS, feed_layout
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.fixed import Clipped
from lutern.model_ref.model import IntegerModel, Saturations
from lutern.model_ref.quantise import IntegerWeights, Matrix, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import (
    StreamMonitor,
    StreamSink,
    StreamSource,
    cycle_now,
    pack,
    reset,
    start,
    to_int,
    to_signed,
    unpack,
)
from lutern.sim.taps import Expected

TIMEOUT_CYCLES = 100_000
COUNTED_STEPS = ("i 0", "gate 0", "h 0", "h 1")
"""The steps (see ``Clips``) that ``status.saturations`` counts. The scale counts ``i 0``, ``gate 0`` and ``h 0``. The
residual counts ``h 1``. Nothing counts S and the embedding."""


def enlarged(weights: IntegerWeights, log2: int) -> IntegerWeights:
    """Return weights whose i, gate and summands of h are ``2^log2`` times larger, but have the words of before. So some
    values do not fit. The embedding stays as it is and fits."""

    def larger(matrix: Matrix) -> Matrix:
        mantissa, exponent = matrix.scale.k
        return replace(matrix, scale=replace(matrix.scale, k=(mantissa, exponent + log2)))

    layers = [
        replace(
            layer,
            i_proj=larger(layer.i_proj),
            o_proj=larger(layer.o_proj),
            gate_proj=larger(layer.gate_proj),
            down_proj=larger(layer.down_proj),
        )
        for layer in weights.layers
    ]
    return replace(weights, layers=layers)


def numbers(words: NDArray[np.uint8]) -> list[int]:
    """Return words [n, word_bytes] as integers."""
    return [int.from_bytes(word.tobytes(), "little") for word in words]


def row_words(program: Program, token: int) -> NDArray[np.uint8]:
    """Return the words of a token's row of the embedding table with the row's check, in the order in which the memory
    sends them."""
    sizes, config = program.sizes, program.hw_config
    first = program.setup["embedding_base"] + token * sizes.stride
    if config.source == "streamed":
        return program.words[first : first + sizes.row_words]
    whole = config.beat_bytes // config.word_bytes * config.word_bytes
    return program.beats[first : first + sizes.stride, :whole].reshape(-1, config.word_bytes)[: sizes.row_words]


class Memory:
    """Acts as the memory: it sends words and beats endlessly, and sends a row for each request at ``o_start``."""

    def __init__(self, dut: Any, program: Program, config: HwConfig, pause: str) -> None:
        if takes_narrow_rows(config):
            dut.narrow_rows.value = int(program.sizes.row_item_bits != ITEM_BITS)
        self.rows = [numbers(row_words(program, token)) for token in range(program.vocab)]
        self.config = config
        self.row = StreamSource(dut, "i_row", pause=pause, seed=bench_seed())
        self.starts = StreamSink(dut, "o_start")
        self.started: list[tuple[int, int]] = []
        self.endless = [(self._source(dut, "i_words", pause), program.words[: program.setup["record_words"]])]
        if config.source == "resident":
            self.endless.append((self._source(dut, "i_trits", pause), program.beats[: program.setup["trit_beats"]]))
        self.dut = dut
        cocotb.start_soon(self._serve_rows())
        for source, content in self.endless:
            cocotb.start_soon(self._repeat(source, numbers(content)))

    @staticmethod
    def _source(dut: Any, name: str, pause: str) -> StreamSource:
        return StreamSource(dut, name, pause=pause, seed=bench_seed() + 1)

    async def _repeat(self, source: StreamSource, content: list[int]) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if not to_int(self.dut.rst) and len(source.pending) < 4:
                source.queue(content)

    async def _serve_rows(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            while self.starts.received:
                payload = self.starts.received.popleft()
                self.started.append((payload & 0xFFFF, payload >> 16))
                self.row.queue(self.rows[payload & 0xFFFF])

    def forget(self) -> None:
        """Drop all queued words and start again. Call this method during a reset."""
        for source in (self.row, *(source for source, _ in self.endless)):
            source.clear()
        self.starts.received.clear()
        self.started.clear()


class TapRecorder:
    """Records (cycle, payload) of the debug taps."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.values: dict[str, list[tuple[int, int]]] = {name: [] for name in TAP_VALUE_BITS}
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        ports = {
            name: (getattr(self.dut, f"tap_{name}_valid"), getattr(self.dut, f"tap_{name}_payload"))
            for name in TAP_VALUE_BITS
        }
        while True:
            await FallingEdge(self.dut.clk)
            for name, (valid, payload) in ports.items():
                if to_int(valid):
                    self.values[name].append((cycle_now(), to_int(payload)))


class Clips(Saturations):
    """Counts clipped values by step, not by tensor. The model clips h of a layer twice, so its steps are ``h 0``, the
    scaled sum, and ``h 1``, h after the addition. The step of the embedding is ``embed 0``."""

    def at(self, tensor: str, layer: int) -> Clipped:
        """Return a function that adds to the count of the next step of the tensor in each call."""
        name, at, steps = "embed" if layer < 0 else tensor, super().at, itertools.count()
        return lambda count: at(f"{name} {next(steps)}", layer)(count)


class Golden:
    """Compares the outputs of a run with the outputs of the integer model, in order."""

    def __init__(self, weights: IntegerWeights, config: HwConfig) -> None:
        self.config = config
        self.expected = Expected(config.streams)
        self.session = GoldenSession(weights, config.streams, config.streams, IntegerModel, self.expected.trace)
        self.session.saturations = self.session.model.saturations = self.clips = Clips()

    def run(self, feeds: list[Feed], count: int, temperature: int, chained: bool) -> list[list[int]]:
        """Return the tokens of a run, store the values that the taps must show, and count the clipped values."""
        self.expected.begin(0)
        return self.session.run(feeds, count, temperature=temperature / 4096, chained=chained).tokens

    def check(self, taps: dict[str, list[tuple[int, int]]]) -> None:
        """Assert that the taps have shown the values of the last run."""
        found: list[tuple[int, str]] = []
        for name, bits in TAP_VALUE_BITS.items():
            width = self.config.codes_per_cycle if name == "codes" else self.config.results_per_cycle
            cycles = np.array([cycle for cycle, _ in taps[name]], dtype=np.uint64)
            owners = np.array([payload >> bits * width for _, payload in taps[name]], dtype=np.int64)
            values = [
                to_signed(payload >> bits * lane & (1 << bits) - 1, bits)
                for _, payload in taps[name]
                for lane in range(width)
            ]
            found += self.expected.differences(name, cycles, owners, np.array(values, np.int64).reshape(-1, width))
        assert not found, f"{min(found)[1]} Seed {bench_seed()}."


async def read_logits(dut: Any, stream: int, vocab: int) -> list[int]:
    """Return the raw logits, read through the port of the host. A value comes one cycle after its address."""
    values = []
    dut.logits_stream.value = stream
    for address in range(vocab):
        dut.logits_address.value = address
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        raw = to_int(dut.logits_data)
        values.append(raw - (raw >> 23 << 24))
        await RisingEdge(dut.clk)
    return values


class Bench:
    """Sources and sinks of all streams, and the golden model."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut = dut
        self.config = HwConfig(**parameters["config"])
        self.model = ModelConfig(**parameters["model"])
        bits = parameters.get("embedding_bits", ITEM_BITS)
        weights = integer_weights(random_checkpoint(self.model, bench_seed()), embedding_bits=bits)
        weights = enlarged(weights, parameters.get("enlarged_log2", 0))
        program = lay_out(weights, self.config)
        self.state_stride = program.state_stride
        self.golden = Golden(weights, self.config)
        pause = parameters["pause"]
        dut.setup.value = pack(SETUP_LAYOUT, program.setup)
        dut.vocab.value = self.model.vocab_size
        dut.logits_address.value = 0
        dut.logits_stream.value = 0
        self.feeds = StreamSource(dut, "i_feed")
        self.runs = StreamSource(dut, "i_run")
        self.memory = Memory(dut, program, self.config, pause)
        self.chosen = StreamSink(dut, "o_token")
        self.taps = TapRecorder(dut)
        self.watch = [StreamMonitor(dut, name) for name in ("i_words", "o_token", "o_start")]
        self.random = np.random.default_rng(bench_seed())

    async def begin(self, feeds: list[Feed], count: int, temperature: int, chained: bool) -> None:
        """Send the feeds and the request of a run to the decoder."""
        for stream, feed in enumerate(feeds):
            fields = {
                "stream": stream,
                "token": feed.token,
                "state_base": feed.slot * self.state_stride,
                "fresh": int(feed.fresh),
                "seed": feed.seed,
            }
            await self.feeds.send(pack(feed_layout(self.config), fields))
        fields = {"count": count, "final_stream": len(feeds) - 1, "chained": int(chained), "temperature": temperature}
        await self.runs.send(pack(RUN_LAYOUT, fields))

    async def run(
        self, feeds: list[Feed], count: int = 1, temperature: int = 0, chained: bool = False
    ) -> list[list[int]]:
        """Run, and check taps, tokens, requested rows and logits."""
        for name in TAP_VALUE_BITS:
            self.taps.values[name] = []
        self.memory.started.clear()
        await self.begin(feeds, count, temperature, chained)
        payloads = await self.chosen.receive(count * len(feeds), TIMEOUT_CYCLES)
        await FallingEdge(self.dut.clk)
        expected = self.golden.run(feeds, count, temperature, chained)
        where = f"{len(feeds)} streams, temperature {temperature}, chained {chained}, seed {bench_seed()}"
        self.golden.check(self.taps.values)
        assert [payload & 0xFFFF for payload in payloads] == [token for step in expected for token in step], (
            f"the tokens are wrong, {where}"
        )
        assert [payload >> 16 for payload in payloads] == [0] * (len(payloads) - 1) + [1], (
            f"only the last token must be marked as the last, {where}"
        )
        fed = [(feed.token, stream) for stream, feed in enumerate(feeds)]
        for tokens in expected[:-1]:
            fed += [(token, stream) for stream, token in enumerate(tokens)]
        assert self.memory.started == fed, f"the requested rows are wrong, {where}"
        assert unpack(DAMAGE_LAYOUT, to_int(self.dut.damage)) == {"count": 0, "kind": 0, "place": 0}, (
            f"the decoder reports damage, {where}"
        )
        self.check_saturations(where)
        if not self.config.top_k:
            for stream in range(len(feeds)):
                logits = await read_logits(self.dut, stream, self.model.vocab_size)
                assert logits == self.golden.session.logits(stream).sums.tolist(), (
                    f"the logits of stream {stream} are wrong, {where}"
                )
        return expected

    def check_saturations(self, where: str) -> None:
        """Check the count of saturations of the last run. The decoder counts beats and the model counts values, so the
        counts are equal if a beat has one value. If a beat has P values, it counts once for 1 to P clipped values."""
        got, of_step = unpack(STATUS, to_int(self.dut.status))["saturations"], self.golden.clips.of
        values = sum(map(of_step, COUNTED_STEPS))
        least = -(-values // self.config.results_per_cycle)
        assert least <= got <= values, f"{got} saturations were counted, {least} to {values} were expected, {where}"
        if bench_parameters().get("enlarged_log2"):
            assert all(map(of_step, COUNTED_STEPS)), f"values must be clipped in each of {COUNTED_STEPS}, {where}"


@cocotb.test()
async def tokens(dut: Any) -> None:
    """Tokens and taps equal the integer model in runs that continue from the states of earlier runs, with one stream
    and several streams, with argmax and with sampling. A repeated run gives equal tokens."""
    bench = Bench(dut)
    await start(dut)
    vocab, most = bench.model.vocab_size, bench.config.streams
    token = 3 % vocab
    first = await bench.run([Feed(token, fresh=True)], 2)
    await bench.run([Feed(first[-1][0], seed=7)], 1, temperature=3000)
    for streams in {2, most} if most > 1 else ():
        feeds = [
            Feed(int(bench.random.integers(vocab)), slot, fresh=slot % 2 == 0 or streams == 2, seed=slot + 1)
            for slot in bench.random.permutation(streams).tolist()
        ]
        await bench.run(feeds, 2, temperature=4096)
        prompt = bench.random.integers(vocab, size=streams).tolist()
        await bench.run([Feed(fed, 1, fresh=place == 0) for place, fed in enumerate(prompt)], chained=True)
        await bench.run([Feed(fed, 1) for fed in prompt], chained=True)
    assert await bench.run([Feed(token, fresh=True)], 2) == first


@cocotb.test()
async def reset_in_mid_token(dut: Any) -> None:
    """After a reset in any cycle of a token, the next token equals the first token after power-up."""
    if not bench_parameters().get("resets"):
        return
    bench = Bench(dut)
    await start(dut)
    begun = cycle_now()
    await bench.begin([Feed(5, fresh=True)], 1, 0, False)
    await bench.chosen.receive(1, TIMEOUT_CYCLES)
    for at in bench.random.integers(1, cycle_now() - begun - 10, size=bench_parameters()["resets"]):
        await bench.begin([Feed(5, fresh=True)], 1, 0, False)
        for _ in range(int(at)):
            await RisingEdge(dut.clk)
        where = f"reset after {at} cycles, seed {bench_seed()}"
        assert bench.memory.started and not bench.chosen.received, f"no token was in progress at the reset, {where}"
        dut.rst.value = 1
        bench.memory.forget()
        await reset(dut)
        await bench.run([Feed(3, fresh=True)])
