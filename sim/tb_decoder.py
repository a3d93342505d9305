"""Bench of the whole decoder: a stream of words in, chosen tokens out, every h, S and code watched.

    memory of words ─► StreamSource i_words ─► Decoder ─► o_token, logits memory
                            ▲      o_start ◄────┘   └──► taps h, S, codes

The golden model is fed with the tokens that were started (``o_start``), so a wrong choice shows as itself and not as
everything that follows. Pauses on the words come from the pattern; a reset may fall in the middle of a token.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from lutern.firmware.program import Program, lay_out
from lutern.hw.config import HwConfig
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantize import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, reset, start, to_int

TAPS = {"h": 32, "s": 32, "codes": 8}
TIMEOUT_CYCLES = 100_000


def setup() -> tuple[IntegerWeights, Program]:
    """Weights and laid-out words of this bench's parameters."""
    parameters = bench_parameters()
    config = HwConfig(**parameters["config"])
    weights = integer_weights(random_checkpoint(ModelConfig(**parameters["model"]), bench_seed()))
    return weights, lay_out(weights, config)


class Reader:
    """Answers ``o_start`` with the words of the token, as the image memory does."""

    def __init__(self, dut: Any, program: Program, pause: str) -> None:
        self.words = [int.from_bytes(word.tobytes(), "little") for word in program.words]
        self.program = program
        self.source = StreamSource(dut, "i_words", pause=pause, seed=bench_seed())
        self.starts = StreamSink(dut, "o_start")
        self.started: list[int] = []
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        program = self.program
        while True:
            (token,) = await self.starts.receive(1, TIMEOUT_CYCLES)
            self.started.append(token)
            row = program.stream_words + token * program.embedding_row_words
            words = self.words[: program.head_words] + self.words[row : row + program.embedding_row_words]
            words += self.words[program.head_words : program.stream_words]
            await self.source.send(*words)

    def forget(self) -> None:
        """Drop the token under way (call it in reset)."""
        self.source.clear()
        self.starts.received.clear()


class TapRecorder:
    """Values of the debug taps, cycle by cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.values: dict[str, list[tuple[int, int]]] = {name: [] for name in TAPS}
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        ports = {
            name: (getattr(self.dut, f"tap_{name}_valid"), getattr(self.dut, f"tap_{name}_payload")) for name in TAPS
        }
        while True:
            await FallingEdge(self.dut.clk)
            for name, (valid, payload) in ports.items():
                if to_int(valid):
                    self.values[name].append((cycle_now(), to_int(payload)))


class Golden:
    """Compares what a token showed with the integer model, in order."""

    def __init__(self, weights: IntegerWeights) -> None:
        self.model = IntegerModel(weights)
        self.state = self.model.initial_state(1)
        self.position = 0

    def expect(self, token: int) -> tuple[dict[str, list[tuple[str, int, np.ndarray]]], np.ndarray]:
        """What each tap must show for a token, and its raw logits."""
        expected: dict[str, list[tuple[str, int, np.ndarray]]] = {name: [] for name in TAPS}

        def trace(stage: str, layer: int, values: np.ndarray) -> None:
            if stage.lower() in expected:
                expected[stage.lower()].append((stage, layer, values[0]))

        sums, _, self.state = self.model.decode(np.array([token]), self.state, trace)
        return expected, sums[0]

    def check(self, taps: dict[str, list[tuple[int, int]]], token: int) -> np.ndarray:
        """Assert that the taps showed this token; returns its raw logits."""
        expected, sums = self.expect(token)
        for name, segments in expected.items():
            got = deque(taps[name])
            for stage, layer, values in segments:
                self._check_segment(got, TAPS[name], stage, layer, values)
            assert not got, f"tap {name}: {len(got)} beats too many, token {self.position}, seed {bench_seed()}"
        self.position += 1
        return sums

    def _check_segment(
        self, got: deque[tuple[int, int]], bits: int, stage: str, layer: int, values: np.ndarray
    ) -> None:
        index = 0
        parameters = bench_parameters()["config"]
        width = parameters["codes_per_cycle"] if bits == 8 else parameters["results_per_cycle"]
        while index < len(values):
            where = f"stage {stage}, token {self.position}, layer {layer}, index {index}, seed {bench_seed()}"
            assert got, f"{where}: nothing came"
            cycle, payload = got.popleft()
            for lane in range(min(width, len(values) - index)):
                value = payload >> bits * lane & (1 << bits) - 1
                value -= (value >> bits - 1) << bits
                assert value == values[index + lane], (
                    f"{where}, lane {lane}, cycle {cycle}: got {value}, expected {values[index + lane]}"
                )
            index += width


async def read_logits(dut: Any, vocab: int) -> list[int]:
    """Raw logits through the host's port: one cycle from address to value."""
    values = []
    for address in range(vocab):
        dut.logits_address.value = address
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
        raw = to_int(dut.logits_data)
        values.append(raw - (raw >> 23 << 24))
        await RisingEdge(dut.clk)
    return values


async def run_tokens(dut: Any, ends: dict[str, Any], golden: Golden, token: int, count: int, fresh: bool) -> list[int]:
    """Start a run and check every token of it; returns the chosen tokens."""
    reader, taps, chosen = ends["reader"], ends["taps"], ends["chosen"]
    if fresh:
        golden.state = golden.model.initial_state(1)
    await ends["run"].send(token | count << 16 | int(fresh) << 32)
    tokens = []
    for index in range(count):
        for name in TAPS:
            taps.values[name] = []
        (payload,) = await chosen.receive(1, TIMEOUT_CYCLES)
        got, last = payload & 0xFFFF, payload >> 16
        fed = reader.started[-1]
        assert fed == token, f"token {golden.position}: {fed} was read, {token} was meant, seed {bench_seed()}"
        # taps of the token are complete when it is chosen; those of the next cannot have begun
        sums = golden.check({name: list(values) for name, values in taps.values.items()}, fed)
        assert got == int(np.argmax(sums)), f"token {golden.position - 1}: chose {got}, seed {bench_seed()}"
        assert last == (index == count - 1)
        token = got
        tokens.append(got)
    logits = await read_logits(dut, len(sums))
    assert logits == sums.tolist(), f"logits differ, seed {bench_seed()}"
    return tokens


async def prepare(dut: Any) -> tuple[dict[str, Any], Golden]:
    """Clock, reset, and both ends of every stream."""
    weights, program = setup()
    dut.vocab.value = program.vocab
    dut.logits_address.value = 0
    pause = bench_parameters()["pause"]
    ends = {
        "vocab": program.vocab,
        "run": StreamSource(dut, "i_run"),
        "reader": Reader(dut, program, pause),
        "chosen": StreamSink(dut, "o_token"),
        "taps": TapRecorder(dut),
        "watch": [StreamMonitor(dut, name) for name in ("i_words", "o_token", "o_start")],
    }
    await start(dut)
    return ends, Golden(weights)


@cocotb.test()
async def tokens(dut: Any) -> None:
    """Two runs: the second goes on from the first's state, then a fresh one repeats the first."""
    ends, golden = await prepare(dut)
    token = 3 % ends["vocab"]
    first = await run_tokens(dut, ends, golden, token, 2, fresh=True)
    await run_tokens(dut, ends, golden, first[-1], 1, fresh=False)
    assert await run_tokens(dut, ends, golden, token, 2, fresh=True) == first


@cocotb.test()
async def reset_in_mid_token(dut: Any) -> None:
    """A reset at any cycle of a token: the next token equals a cold start."""
    if not bench_parameters().get("resets"):
        return
    ends, golden = await prepare(dut)
    random = np.random.default_rng(bench_seed())
    for at in random.integers(10, bench_parameters()["resets"], size=4):
        await ends["run"].send(5 | 1 << 16 | 1 << 32)
        for _ in range(int(at)):
            await RisingEdge(dut.clk)
        dut.rst.value = 1
        ends["reader"].forget()
        ends["chosen"].received.clear()
        await reset(dut)
        await run_tokens(dut, ends, golden, 3, 1, fresh=True)
