"""Bench of the norm: it runs operations on vectors and compares codes and scales exactly with the golden model.

The golden model receives the items that pass the ports. The vectors of the streams come in blocks of one beat, of two
beats, or as whole vectors. The block requires only that the elements x of a vector come after all codes of the earlier
vectors have left, and the bench obeys this contract. The port g_squares follows the port eps_stream one cycle later,
and is random before the end of x.
"""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import QUANTISE_OP
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.rms_norm import NormInput, NormOp, RmsNorm, pack_gains
from lutern.hw.norm.statistics import largest_latency
from lutern.model_ref.fixed import MANTISSA_ONE
from lutern.model_ref.norm import GAIN_LOW_BITS, X_BITS, Gains, ScaleConstants
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import (
    StreamMonitor,
    StreamSink,
    StreamSource,
    cycle_now,
    pack,
    pauses,
    reset,
    set_ports,
    start,
    unpack,
)

X_MAX = (1 << (X_BITS - 1)) - 1
EDGES = ("zeros", "largest", "all_minus", "one", "powers", "rounding", "small", "last_only", "ties")
QUIET_CYCLES = 80
"""More cycles than any operation takes. After so many cycles, the unit is idle and its next operation waits for a
vector."""


@dataclass
class Case:
    """One vector for each stream, and the operations on these vectors. Vectors come in blocks of ``block`` beats."""

    name: str
    vectors: list[NormInput]
    ops: list[NormOp]
    block: int

    @property
    def length(self) -> int:
        return len(self.vectors[0].x)


def edge_vector(name: str, elements: int, rng: np.random.Generator) -> np.ndarray:
    """Return the edge case ``name``, or a random vector of random magnitude."""
    x = np.zeros(elements, dtype=np.int64)
    if name == "largest":
        x[:] = X_MAX
    elif name == "all_minus":
        x[:] = -X_MAX
    elif name == "one":
        x[elements // 2] = -1
    elif name == "powers":
        x[:] = [(1 << i % (X_BITS - 1)) * (-1) ** (i // 3) for i in range(elements)]
    elif name == "rounding":  # mantissas that round up to 2^17, and values halfway between two mantissas
        x[:] = [((1 << 18) - 1 - 2 * (i % 2)) << i % 16 for i in range(elements)]
    elif name == "small":
        x[:] = rng.integers(-3, 4, elements)
    elif name == "last_only":
        x[-1] = X_MAX
    elif name == "ties":  # with equal gains, the results are halfway between two codes
        halves = (rng.integers(0, 127, elements) + 0.5) * rng.choice([-1, 1], elements)
        x[:] = np.rint((X_MAX - (1 << 29)) / 127 * halves)
        x[0] = X_MAX - (1 << 29)
    elif name == "random":
        size = 2.0 ** (rng.uniform(0, 33) - rng.exponential(3, elements))
        x[:] = np.rint(size * rng.standard_normal(elements)).clip(-X_MAX, X_MAX)
    return x


def random_gains(name: str, elements: int, rng: np.random.Generator) -> Gains:
    """Return gains over the whole range of exponents. Some gains are 0. For "ties" all gains are equal."""
    if name == "ties":
        mantissa = np.full(elements, rng.integers(MANTISSA_ONE, 2 * MANTISSA_ONE) >> GAIN_LOW_BITS << GAIN_LOW_BITS)
        return Gains(mantissa, np.zeros_like(mantissa), 0)
    real = rng.standard_normal(elements) * 2.0 ** -rng.exponential(2, elements)
    return Gains.from_real(real * (rng.random(elements) > 0.05))


def short_float(rng: np.random.Generator, exponent: float, spread: int = 3) -> tuple[int, int]:
    """Return a short float with a random mantissa and an exponent near ``exponent``."""
    return int(rng.integers(MANTISSA_ONE, 2 * MANTISSA_ONE)), round(exponent) + int(rng.integers(-spread, spread + 1))


def build_cases(names: list[str], elements: list[int], seed: int, active: int = 1) -> list[Case]:
    """Return cases with the four kinds of operations in the order of a layer. The eps term is close to the sum of
    squares or far from it.

    The vectors of stream 0 have the names in ``names``. Each further stream uses the next name in the list.
    """
    rng = np.random.default_rng(seed)
    cases: list[Case] = []
    scale = 0.0
    for index, name in enumerate(names):
        eps = (layouts.Eps.NONE, layouts.Eps.O_PROJ, layouts.Eps.NONE, layouts.Eps.DOWN_PROJ)[index % 4]
        length = elements[index % len(elements)]
        matrices = 3 if index % 4 == 0 else 1
        vectors = []
        for stream in range(active):
            x = edge_vector(names[(index + stream) % len(names)], length, rng)
            outer = None if eps == layouts.Eps.DOWN_PROJ else random_gains(name, length, rng)
            g_squares = int(rng.integers(1 << 47)) >> int(rng.integers(48)) if eps == layouts.Eps.O_PROJ else 0
            inner = [random_gains(name, length, rng) for _ in range(matrices)]
            vectors.append(NormInput(x, outer, inner, g_squares, int(rng.integers(-17, 16))))
        first = vectors[0]
        inverse = -2 * np.log2(scale) if scale else 0.0
        extra = float(np.log2(first.g_squares + 1.0)) if first.g_squares else float(rng.integers(0, 40))
        e1 = short_float(rng, extra - inverse - 16, 12)
        squares = 2 * np.log2(np.abs(first.x).max() + 1.0) - extra - 16
        squares += 2 * first.state_shift if eps == layouts.Eps.O_PROJ else 0
        constants = [
            ScaleConstants(short_float(rng, -30, 8), e1, short_float(rng, squares, 8)) for _ in range(matrices)
        ]
        ops = [NormOp(u_index, u_index == 0, constants[u_index], eps) for u_index in range(matrices)]
        cases.append(Case(name, vectors, ops, (1, 2, length)[index % 3]))
        results = RmsNorm.model([case.vectors[0] for case in cases], [op for case in cases for op in case.ops])
        mantissa, exponent = results[-1][1]
        scale = mantissa * 2.0**exponent
    return cases


class NormBench:
    """Drives one RmsNorm, and compares its outputs with the golden model."""

    def __init__(self, dut: Any) -> None:
        parameters, seed = bench_parameters(), bench_seed()
        self.dut, self.config = dut, HwConfig("bench", **parameters["config"])
        pause = parameters.get("pause", "none")
        self.exact = bool(parameters.get("exact"))
        self.elements = list(parameters["elements"])
        names = [*EDGES, *["random"] * parameters["random"]]
        self.active = parameters.get("active", self.config.streams)
        self.cases = build_cases(names, self.elements, seed, self.active)
        self.shown: Case | None = None  # the case whose g_squares are at the port; None for random values
        self.junk = random.Random(seed)
        self.x = StreamSource(dut, "i_x", pause=pause, seed=seed)
        self.op = StreamSource(dut, "i_op", pause=pause, seed=seed + 1)
        self.codes_sink = StreamSink(dut, "o_codes")
        waits = parameters.get("sink", pause)
        self.waits = pauses("none" if waits == "after_valid" else waits, seed + 2)  # cycles in which no bank is free
        self.scale_sink = StreamSink(dut, "o_scale", pause=parameters.get("sink", pause), seed=seed + 3)
        self.codes = Scoreboard("norm.codes", seed=seed, bits=8)
        self.scales = Scoreboard("norm.scale", seed=seed, bits=29, decode=lambda value: unpack(layouts.SCALAR, value))
        self.fresh()
        cocotb.start_soon(self.show_g_squares())
        cocotb.start_soon(self.give_banks())
        StreamMonitor(dut, "i_x", on_item=self.x_came)
        StreamMonitor(dut, "i_op", on_item=self.op_came)
        StreamMonitor(dut, "o_codes", on_item=self.codes_came)
        StreamMonitor(dut, "o_scale", on_item=self.scale_came)

    def fresh(self) -> None:
        """Reset the model, as a reset of the block does."""
        self.beats: list[list[dict[str, int]]] = [[] for _ in range(self.active)]
        self.vectors: list[list[NormInput]] = [[] for _ in range(self.active)]
        self.ops: list[NormOp] = []
        self.passes: list[tuple[int, int]] = []  # (stream, number of codes) of the expected code passes
        self.expected_count = self.code_position = 0
        self.last_x_cycle: list[int] = []
        self.first_code_cycle: list[int] = []
        self.scale_cycle: list[int] = []
        self.passes_done = 0

    # Inputs, as seen at the ports ------------------------------------------------------------------------------------

    def x_came(self, cycle: int, payload: int) -> None:
        fields = unpack(layouts.gathered_payload(self.config), payload)
        stream = fields["stream"]
        beats = self.beats[stream]
        assert fields["index"] == len(beats)
        beats.append(fields)
        if not fields["last"]:
            return
        per_beat = self.config.results_per_cycle
        x, gains = [], []
        for beat in beats:
            for index in range(per_beat):
                value = beat["x"] >> (index * X_BITS) & ((1 << X_BITS) - 1)
                x.append(value - (value >> (X_BITS - 1) << X_BITS))
                item = beat["gains"] >> (index * layouts.TUPLE_GAINS * layouts.ITEM_BITS)
                gains.append(
                    [
                        unpack(layouts.ITEM, item >> (t * layouts.ITEM_BITS) & (1 << layouts.ITEM_BITS) - 1)
                        for t in range(layouts.TUPLE_GAINS)
                    ]
                )
        tuples = [
            Gains(
                np.array([g[t]["mantissa"] for g in gains]) << GAIN_LOW_BITS,
                np.array([g[t]["exponent"] for g in gains]),
                0,
            )
            for t in range(layouts.TUPLE_GAINS)
        ]
        driven = self.cases[len(self.vectors[stream])].vectors[stream]
        outer = tuples[0] if beats[0]["outer"] else None
        self.vectors[stream].append(NormInput(np.array(x), outer, tuples[1:], driven.g_squares, driven.state_shift))
        self.beats[stream] = []
        if stream == self.active - 1:
            self.last_x_cycle.append(cycle)
            self.expect()

    def op_came(self, cycle: int, payload: int) -> None:
        fields = unpack(QUANTISE_OP, payload)
        k, e1, e2 = (tuple(unpack(layouts.SCALAR, fields[name]).values()) for name in ("k", "e1", "e2"))
        constants = ScaleConstants(k, e1, e2)  # type: ignore[arg-type]
        self.ops.append(NormOp(fields["u_index"], bool(fields["new_vector"]), constants, layouts.Eps(fields["eps"])))
        self.expect()

    def expect(self) -> None:
        """Expect all results that the model can compute from the items so far."""
        known = list(self.ops)
        while sum(op.new_vector for op in known) > len(self.last_x_cycle):
            known.pop()
        if len(known) == self.expected_count:
            return
        results = [RmsNorm.model(vectors, known) for vectors in self.vectors]
        for index in range(self.expected_count, len(known)):
            vector = sum(op.new_vector for op in known[: index + 1]) - 1
            for stream in range(self.active):
                codes, scale = results[stream][index]
                self.codes.expect_all(codes, token=vector, layer=index)
                self.passes.append((stream, len(codes)))
                self.scales.expect(
                    pack(layouts.SCALAR, {"mantissa": scale[0], "exponent": scale[1]}),
                    token=vector,
                    layer=index,
                    index=stream,
                )
        self.expected_count = len(known)

    # Outputs ---------------------------------------------------------------------------------------------------------

    def codes_came(self, cycle: int, payload: int) -> None:
        fields = unpack(layouts.quantised_payload(self.config), payload)
        per_beat = self.config.codes_per_cycle
        if self.code_position == 0:
            self.first_code_cycle.append(cycle)
        stream, length = self.passes[0] if self.passes else (0, 0)
        for index in range(min(per_beat, max(1, length - self.code_position))):
            self.codes.check(cycle, fields["codes"] >> (8 * index) & 255)
        self.code_position += per_beat
        ended = self.code_position >= length
        assert fields["stream"] == stream, f"norm.codes: stream is {fields['stream']}, expected {stream}"
        assert fields["last"] == ended, f"norm.codes: last is {fields['last']} at code {self.code_position} of {length}"
        if ended:
            self.passes.pop(0)
            self.code_position = 0
            self.passes_done += 1

    def scale_came(self, cycle: int, payload: int) -> None:
        self.scales.check(cycle, payload)
        self.scale_cycle.append(cycle)

    # Running ---------------------------------------------------------------------------------------------------------

    async def show_g_squares(self) -> None:
        """Drive the ports that follow ``eps_stream`` one cycle later."""
        while True:
            await FallingEdge(self.dut.clk)
            stream = int(self.dut.eps_stream.value)
            assert stream < self.active, f"eps_stream is {stream}, but there are {self.active} streams"
            await RisingEdge(self.dut.clk)
            ports = {"g_squares": self.junk.getrandbits(48), "state_shift": self.junk.randrange(-17, 16)}
            if self.shown:
                vector = self.shown.vectors[stream]
                ports = {"g_squares": vector.g_squares, "state_shift": vector.state_shift}
            set_ports(self.dut, ports)

    async def give_banks(self) -> None:
        """Drive ``may_begin`` with the pause pattern: 1 while a bank for codes is free."""
        while True:
            await RisingEdge(self.dut.clk)
            self.dut.may_begin.value = int(not next(self.waits))

    def x_beats(self, case: Case) -> list[int]:
        """Return the payloads of a case, block by block. Gains that no matrix uses are random."""
        beats = -(-case.length // self.config.results_per_cycle)
        return [
            self.x_beat(case.vectors[stream], stream, index, index == beats - 1)
            for first in range(0, beats, case.block)
            for stream in range(self.active)
            for index in range(first, min(first + case.block, beats))
        ]

    def x_beat(self, vector: NormInput, stream: int, beat: int, last: bool) -> int:
        per_beat = self.config.results_per_cycle
        rng = random.Random(len(vector.x) + beat)
        used = layouts.ITEM_BITS * (1 + len(vector.inner))
        x = gains = 0
        for index in range(per_beat):
            element = beat * per_beat + index
            x |= (int(vector.x[element]) & (1 << X_BITS) - 1) << (index * X_BITS)
            spare = rng.getrandbits(layouts.TUPLE_GAINS * layouts.ITEM_BITS) >> used << used
            bits = index * layouts.TUPLE_GAINS * layouts.ITEM_BITS
            gains |= (pack_gains(vector.outer, vector.inner, element) | spare) << bits
        fields = {"x": x, "gains": gains, "outer": vector.outer is not None, "matrices": len(vector.inner)}
        return pack(layouts.gathered_payload(self.config), {**fields, "stream": stream, "index": beat, "last": last})

    def op_payload(self, op: NormOp, elements: int) -> int:
        k, e1, e2 = ({"mantissa": m, "exponent": e} for m, e in (op.constants.k, op.constants.e1, op.constants.e2))
        return pack(
            QUANTISE_OP,
            {
                "u_index": op.u_index,
                "new_vector": op.new_vector,
                "eps": op.eps,
                "k": k,
                "e1": e1,
                "e2": e2,
                "beats": -(-elements // self.config.codes_per_cycle),
            },
        )

    async def run(self) -> None:
        """Run all cases, and check at the end that no result is missing."""
        for case in self.cases:
            self.op.queue(self.op_payload(op, case.length) for op in case.ops)
        ops_done = 0
        for case in self.cases:
            self.shown = None
            await self.x.send(*self.x_beats(case))
            self.shown = case
            ops_done += len(case.ops) * self.active
            waited_from = cycle_now()
            while self.passes_done < ops_done or (self.exact and len(self.scale_cycle) < ops_done):
                await FallingEdge(self.dut.clk)
                assert cycle_now() - waited_from < 5000, (
                    f"codes: only {self.passes_done} of {ops_done} operations ended"
                )
            if self.exact:
                await ClockCycles(self.dut.clk, QUIET_CYCLES)
        await ClockCycles(self.dut.clk, QUIET_CYCLES * 3)
        self.codes.finish()
        self.scales.finish()

    def check_latencies(self) -> None:
        """Check the exact cycles of every code pass and scale, for an idle unit without pauses. For one stream, also
        check the four documented figures."""
        norm = RmsNorm(self.config)
        assert norm.latency <= 25 and max(map(norm.scale_latency, layouts.Eps)) <= 60
        index, previous, gaps = 0, 0, set()
        for case, x_cycle in zip(self.cases, self.last_x_cycle, strict=True):
            beats = -(-case.length // self.config.codes_per_cycle)
            largest = x_cycle + largest_latency(self.config)
            begins, last_read = largest, 0
            for place, op in enumerate(case.ops):
                passes, begins = norm.schedule(
                    op.eps,
                    begins=begins,
                    beats=beats,
                    streams=self.active,
                    new_vector=op.new_vector,
                    last_read=last_read,
                )
                last_read = passes[-1][0] + beats - 1
                for stream, (read, scale) in enumerate(passes):
                    what = (case.name, place, stream, beats)
                    assert self.first_code_cycle[index] == read + Quantiser.latency, (
                        f"the first code came in a wrong cycle: {what}"
                    )
                    assert self.scale_cycle[index] == scale, f"the scale came in a wrong cycle: {what}"
                    if stream + place:
                        gaps.add((op.eps.name, place, stream > 0, beats, read - previous - beats))
                    elif self.active == 1:
                        assert self.first_code_cycle[index] - x_cycle == norm.latency, (
                            f"the latency of the first code is wrong: {what}"
                        )
                        assert self.scale_cycle[index] - x_cycle == norm.scale_latency(op.eps), (
                            f"the latency of the scale is wrong: {what}"
                        )
                    if self.active == 1 and place:
                        expected = max(beats, norm.first_interval if place == 1 else norm.next_interval)
                        assert read - previous == expected, f"the interval of reads must be {expected}: {what}"
                    previous = read
                    index += 1
        print(f"latency {norm.latency}, gaps {sorted(gaps)}")


@cocotb.test()
async def codes_and_scales_are_the_models(dut: Any) -> None:
    bench = NormBench(dut)
    set_ports(dut, {"g_squares": 0, "state_shift": 0, "final_stream": bench.active - 1})
    await start(dut)
    if bench_parameters().get("reset"):
        bench.op.queue([bench.op_payload(bench.cases[0].ops[0], bench.cases[0].length)])
        bench.x.queue(bench.x_beats(bench.cases[0])[: bench_parameters()["reset"]])
        await ClockCycles(dut.clk, bench_parameters()["reset"] + 4)
        bench.op.clear()
        bench.x.clear()
        await reset(dut)
        bench.fresh()
    await bench.run()
    if bench.exact:
        bench.check_latencies()
