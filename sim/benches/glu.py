"""Bench of the channel mixer's gate: every beat of GATE and UP of all streams is compared with the golden model.

A row group has one block of ``group`` beats for each stream. ``group`` is at least 1.
"""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.hw.layouts import VALUE_BITS, Op, value_classes, values_payload, x_payload
from lutern.model_ref.activation import SIGMOID_FRAC_BITS, sigmoid
from lutern.model_ref.norm import X_BITS
from lutern.sim.benches.resets import reset_after
from lutern.sim.benches.vectors import blocks, flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, unpack

LATENCY = 3
GATE_TO_UP = 10
LARGEST = (1 << 17) - 1
TIES_FRAC_BITS = 15
"""A number of fraction bits for which the silu of some arguments is exactly halfway between two results."""
EDGES = ("zeros", "largest", "all_minus", "mixed", "ties")


def ties(frac: int, elements: int, generator: np.random.Generator) -> np.ndarray:
    """Return gates whose product with their sigma is exactly halfway between two results, alternating with gates whose
    product is one less than a value halfway between two results."""
    every = np.arange(-LARGEST, LARGEST + 1)
    rest = (every * sigmoid(every, frac)) & (1 << SIGMOID_FRAC_BITS) - 1
    half = 1 << (SIGMOID_FRAC_BITS - 1)
    tie, below = (generator.choice(every[rest == wanted], elements) for wanted in (half, half - 1))
    return np.where(np.arange(elements) % 2, tie, below)


def vectors(name: str, frac: int, elements: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of GATE and the values of UP for one vector."""

    def draw() -> np.ndarray:
        limit = 1 << int(generator.integers(1, 18))
        return generator.integers(1 - limit, limit, elements)

    ones = np.ones(elements, dtype=np.int64)
    signs = generator.choice([-1, 1], elements)
    if name in ("zeros", "largest", "all_minus"):
        value = ones * {"zeros": 0, "largest": LARGEST, "all_minus": -LARGEST}[name]
        return value, value
    if name == "mixed":
        return signs * LARGEST, generator.choice([-1, 1], elements) * LARGEST
    if name == "ties":
        return ties(frac, elements, generator), signs * LARGEST
    return draw(), draw()


class Bench:
    """Drives one Glu, and runs the golden model with each beat that the block accepts."""

    def __init__(self, dut: Any) -> None:
        parameters, self.seed = bench_parameters(), bench_seed()
        self.dut, self.config = dut, HwConfig(**parameters["config"])
        self.lanes, self.beats = self.config.results_per_cycle, parameters["beats"]
        self.group, self.active = parameters["group"], parameters["active"]
        self.unpaused = parameters["source"] == parameters["sink"] == "none"
        self.generator = np.random.default_rng(self.seed)
        self.layout, self.x_layout = values_payload(self.config), x_payload(self.config)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=lambda cycle, payload: self.board.check(cycle, payload))
        self.restart()

    def restart(self) -> None:
        self.board = Scoreboard("glu.v", seed=self.seed, bits=len(self.dut.o__payload))
        self.gates: dict[tuple[int, int], tuple[np.ndarray, int]] = {}  # key: (stream, index)
        self.vector = 0

    def beats_of(self, name: str, beats: int) -> list[int]:
        """Return the beats of one vector for each stream: first GATE, then UP. Fields that the block does not read are
        random."""
        frac = TIES_FRAC_BITS if name == "ties" else int(self.generator.integers(0, 18))
        items = []
        data = [vectors(name, frac, beats * self.lanes, self.generator) for _ in range(self.active)]
        for half, (op, frac_bits) in enumerate(((Op.GATE, frac), (Op.UP, int(self.generator.integers(0, 31))))):
            for stream, beat in blocks(beats, self.group, self.active):
                part = data[stream][half][beat * self.lanes : (beat + 1) * self.lanes]
                items.append(
                    pack(
                        self.layout,
                        {
                            "values": flat(part, VALUE_BITS),
                            "scores": int(self.generator.integers(0, 1 << 31)),
                            "bounds": int(self.generator.integers(0, 1 << 17)),
                            "op": int(op),
                            **value_classes(op),
                            "frac": frac_bits,
                            "state_base": int(self.generator.integers(0, 1 << self.config.state_bits)),
                            "stream": stream,
                            "index": beat,
                            "last": beat == beats - 1,
                        },
                    )
                )
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        """Feed the golden model with a beat that the block has accepted."""
        fields = unpack(self.layout, payload)
        values = split(fields["values"], VALUE_BITS, self.lanes)
        place = fields["stream"], fields["index"]
        if fields["op"] == Op.GATE:
            self.gates[place] = values, fields["frac"]
            return
        gate, frac = self.gates.pop(place)
        v = Glu.model(gate, values, frac)
        kept = {name: fields[name] for name in ("stream", "index", "last")}
        self.board.expect(pack(self.x_layout, {"x": flat(v, X_BITS), **kept}), token=self.vector, index=place[1])
        self.vector += not self.gates

    def check_cycles(self) -> None:
        """Check that without pauses the latency is exact, and that each beat of UP is accepted as early as its gate
        allows."""
        inputs = [(cycle, unpack(self.layout, item)) for cycle, item in self.entered.items]
        ups = [cycle for cycle, item in inputs if item["op"] == Op.UP]
        gates = [cycle for cycle, item in inputs if item["op"] == Op.GATE]
        assert {b - a for a, (b, _) in zip(ups, self.left.items, strict=True)} == {LATENCY}
        before = inputs[0][0] - 1
        waits = iter(gates)
        for cycle, item in inputs:
            earliest = before + 1 if item["op"] == Op.GATE else max(before + 1, next(waits) + GATE_TO_UP)
            assert cycle == earliest, f"a beat of {Op(item['op']).name} came in cycle {cycle}, not in {earliest}"
            before = cycle


@cocotb.test()
async def vectors_equal_the_golden_model(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    names = [*EDGES, *["random"] * bench_parameters()["vectors"]]
    lengths = [bench.beats if k % 3 else max(1, bench.beats // 3) for k in range(len(names))]
    for name, beats in zip(names, lengths, strict=True):
        bench.source.queue(bench.beats_of(name, beats))
    count = sum(lengths) * bench.active
    await bench.sink.receive(count, 2000)
    await ClockCycles(dut.clk, 20)
    assert bench.board.finish() == count
    if bench.unpaused:
        bench.check_cycles()


@cocotb.test()
async def reset_in_mid_vector_forgets_it(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    generator = random.Random(bench.seed)
    for op in range(2):
        bench.restart()
        beats = bench.beats * bench.active  # number of beats of an operation
        stop = bench.source.sent_count + (2 + op) * beats + generator.randrange(1, beats + 1)
        bench.source.queue([*bench.beats_of("random", bench.beats), *bench.beats_of("random", bench.beats)])
        items = [*bench.beats_of("random", bench.beats), *bench.beats_of("random", bench.beats)]
        await reset_after(dut, bench, stop, items)
        await bench.sink.receive(2 * beats, 2000)
        await ClockCycles(dut.clk, 20)
        assert bench.board.finish() == 2 * beats
