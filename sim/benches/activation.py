"""Bench of the sigmoid: every segment and the two halves of the table, edge values, and all numbers of
fraction bits."""

from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from lutern.hw.activation import Sigmoid
from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, values_payload
from lutern.model_ref.activation import REMAINDER_BITS, SEGMENT_BITS
from lutern.model_ref.fixed import S32_MAX
from lutern.sim.benches.resets import reset_after
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, to_signed, unpack

LATENCY = 6
RESULT_BITS = 17


def arguments(generator: np.random.Generator) -> list[tuple[int, int]]:
    """Return pairs (value, fraction bits): 0, 1, -1, the largest values, values around the clamp, values in every
    segment, and random values of random magnitude."""
    items = []
    for frac in range(31):
        limit = min(16 << frac, S32_MAX)
        items += [(v, frac) for v in (0, 1, -1, limit, -limit, limit - 1, 1 - limit, S32_MAX, -S32_MAX)]
    for segment in range(1 << SEGMENT_BITS):
        offset = int(generator.integers(0, 1 << REMAINDER_BITS))
        items += [((segment << 12) + offset, 17), (-(segment << 12) - offset, 17), (segment << 12, 17)]
    for _ in range(1500):
        limit = 1 << int(generator.integers(1, 32))
        items.append((int(generator.integers(1 - limit, limit)), int(generator.integers(0, 31))))
    return items


class Bench:
    """Drives one Sigmoid. The monitor of its input feeds the golden model."""

    def __init__(self, dut: Any) -> None:
        parameters, self.seed = bench_parameters(), bench_seed()
        self.dut, self.config = dut, HwConfig(**parameters["config"])
        self.layout, self.lanes = values_payload(self.config), self.config.results_per_cycle
        self.unpaused = parameters["source"] == "none"
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", seed=self.seed + 1)
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=lambda cycle, payload: self.board.check(cycle, payload))
        self.restart()

    def restart(self) -> None:
        self.board = Scoreboard("sigmoid", seed=self.seed, bits=RESULT_BITS * self.lanes)
        self.count = 0

    def beats(self, generator: np.random.Generator) -> list[int]:
        """Return beats of P arguments. A beat has the fraction bits of its first argument."""
        items = sorted(arguments(generator), key=lambda item: item[1])
        beats = []
        for begin in range(0, len(items) - self.lanes + 1, self.lanes):
            group = items[begin : begin + self.lanes]
            values = sum((value & (1 << VALUE_BITS) - 1) << VALUE_BITS * k for k, (value, _) in enumerate(group))
            fields = {"values": values, "frac": group[0][1]}
            rest = {name: int(generator.integers(0, 2)) for name in self.layout.members if name not in fields}
            beats.append(pack(self.layout, fields | rest))
        return beats

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        parts = [fields["values"] >> VALUE_BITS * k & (1 << VALUE_BITS) - 1 for k in range(self.lanes)]
        values = np.array([to_signed(part, VALUE_BITS) for part in parts])
        results = Sigmoid.model(values, fields["frac"])
        self.board.expect(sum(int(r) << RESULT_BITS * k for k, r in enumerate(results)), index=self.count)
        self.count += 1


@cocotb.test()
async def results_equal_the_golden_model(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    beats = bench.beats(np.random.default_rng(bench.seed))
    bench.source.queue(beats)
    await bench.sink.receive(len(beats), 1000)
    await ClockCycles(dut.clk, 10)
    assert bench.board.finish() == len(beats)
    if bench.unpaused:
        latencies = {b - a for (a, _), (b, _) in zip(bench.entered.items, bench.left.items, strict=True)}
        assert latencies == {LATENCY}
        assert bench.left.items[-1][0] - bench.left.items[0][0] == len(beats) - 1


@cocotb.test()
async def reset_drops_what_is_inside(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    beats = bench.beats(np.random.default_rng(bench.seed + 1))
    bench.source.queue(beats)
    await reset_after(dut, bench, 100, beats[-50:])
    await bench.sink.receive(50, 1000)
    await ClockCycles(dut.clk, 10)
    assert bench.board.finish() == 50
