"""Bench of the scale unit: values and saturation pulse are checked in every beat, for every operation, cut, exponent
and shift."""

from itertools import product
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    BOUND_BITS,
    VALUE_BITS,
    Op,
    place_payload,
    scale_payload,
    sum_classes,
    value_classes,
    values_payload,
)
from lutern.hw.scale import CUT_VALUE_BITS, SumScale
from lutern.model_ref.ternary import SHIFT_MAX, SHIFT_MIN, SUM_BITS
from lutern.sim.benches.vectors import flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

TOP = (1 << SUM_BITS - 1) - 1
MANTISSAS = (0, 1 << 16, (1 << 17) - 1, 0x15555)
SHIFTS = (-2112, *range(SHIFT_MIN - 3, SHIFT_MAX + 4), 2117)
"""Shifts from the least to the largest value of -(exponent + cut + frac). The list contains every shift that has a
distinct result, and some shifts whose result must equal the result of another shift."""
DIRECT = {
    Op.UP: ("o_up", "cuts", CUT_VALUE_BITS, 2),
    Op.RESIDUAL: ("o_h", "h_values", VALUE_BITS, 5),
    Op.EMBED: ("o_h", "h_values", VALUE_BITS, 5),
}
"""For each operation that uses no FIFO: its port for stream and index, its port for values, the bits of a value, and
the number of cycles from the first port to the second."""
SUMS = (0, 1, -1, 63, 64, -64, -65, 131071, 131072, -131071, -131072, TOP, -TOP, -TOP - 1)


class Bench:
    """Drives one SumScale. The model receives the beats that the unit accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed = dut, bench_seed()
        self.config = HwConfig("bench", **parameters["config"])
        self.lanes = self.config.results_per_cycle
        self.layout, self.out = scale_payload(self.config), values_payload(self.config)
        self.generator = np.random.default_rng(self.seed)
        self.unpaused = parameters["source"] == parameters["sink"] == "none"
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.board = Scoreboard("scale.values", seed=self.seed, bits=self.out.size, decode=self.show)
        self.direct = [StreamSink(dut, name, pause=parameters["sink"], seed=self.seed + 2) for name in ("o_up", "o_h")]
        self.late: dict[int, tuple[str, int, str]] = {}  # key: cycle; value: (port, expected value, operation)
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.on_output)
        self.saturations = 0
        self.pulses: set[int] = set()  # cycles in which a beat reports saturation
        self.latency = parameters["latency"]
        cocotb.start_soon(self.watch())

    def show(self, value: int) -> Any:
        fields = unpack(self.out, value)
        vectors = (split(fields[name], VALUE_BITS, self.lanes).tolist() for name in ("values", "scores"))
        return Op(fields["op"]).name, *vectors, fields["stream"], fields["index"]

    def beat(self, op: Op, sums: Any, cut: int = 0, mantissa: int = 1 << 16, shift: int = 16) -> int:
        """Return one payload. Fields that only pass through, such as the stream, are random."""
        wide = (("state_base", self.config.state_bits), ("index", self.config.index_bits), ("last", 1))
        junk = {name: int(self.generator.integers(0, 1 << bits)) for name, bits in wide}
        junk["stream"] = int(self.generator.integers(0, self.config.streams))
        bounds = self.generator.integers(0, 1 << BOUND_BITS, self.lanes)
        return pack(
            self.layout,
            {
                "sums": flat(sums, SUM_BITS),
                "bounds": flat(bounds, BOUND_BITS),
                "op": int(op),
                **sum_classes(op),
                "cut": cut,
                "mantissa": mantissa,
                "shift": shift,
                "frac": int(self.generator.integers(-64, 64)),
                **junk,
            },
        )

    def random_beat(self) -> int:
        """Return a beat of a random operation, with sums of random magnitude and mostly with shifts that keep some
        bits."""
        draw = self.generator
        op = Op(int(draw.integers(1, 9)))
        mantissa = int(draw.integers(1 << 16, 1 << 17))
        bits = int(draw.integers(1, SUM_BITS))
        sums: Any = draw.integers(-(1 << bits), 1 << bits, self.lanes)
        if op == Op.EMBED:
            sums, mantissa = draw.integers(0, 1 << 16, self.lanes), 1 << 16
        return self.beat(op, sums, int(draw.integers(0, 8)), mantissa, int(draw.integers(SHIFT_MIN - 2, SHIFT_MAX + 3)))

    def edges(self) -> list[int]:
        """Return edge cases: the ends of all ranges, all shifts, all cuts and all exponents of an embedding."""
        items = []
        for op, mantissa, shift in product((Op.RESIDUAL, Op.I, Op.F, Op.GATE, Op.HEAD), MANTISSAS, SHIFTS):
            items.append(self.beat(op, self.generator.choice(SUMS, self.lanes), 0, mantissa, shift))
        for op, cut in product(Op, range(8)):
            if op != Op.EMBED:
                items += [self.beat(op, np.full(self.lanes, value), cut) for value in SUMS]
        for shift, exponent in product(
            range(-30, 48, 3), range(16)
        ):  # for any h_frac_bits and any base of an embedding table
            codes = self.generator.choice((0, 1, 0x7FF, 0x800, 0xFFF, 0x555), self.lanes)
            items.append(self.beat(Op.EMBED, codes | exponent << 12, shift=shift))
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        fields = unpack(self.layout, payload)
        op, signed = Op(fields["op"]), fields["op"] != Op.EMBED
        sums = split(fields["sums"], SUM_BITS, self.lanes, signed=signed)
        values, saturated = SumScale.model(op, sums, fields["cut"], fields["mantissa"], fields["shift"])
        scores = np.zeros_like(values)
        if op == Op.HEAD:
            scores = SumScale.score_model(sums, fields["cut"], fields["mantissa"], fields["shift"])
        if saturated:
            self.pulses.add(cycle + self.latency)
        if op in DIRECT:
            self.on_direct(cycle, op, fields, values)
            return
        kept = {name: fields[name] for name in ("bounds", "op", "frac", "state_base", "stream", "index", "last")}
        kept |= {name: int(value) for name, value in value_classes(op).items()}
        expected = pack(self.out, {"values": flat(values, VALUE_BITS), "scores": flat(scores, VALUE_BITS), **kept})
        self.board.expect(expected, index=len(self.entered.items) - 1)

    def on_direct(self, cycle: int, op: Op, fields: dict[str, int], values: Any) -> None:
        """Check that stream and index leave in the cycle of the beat. Expect the values some cycles later."""
        name, port, bits, cycles = DIRECT[op]
        self.late[cycle + cycles] = port, flat(values, bits), op.name
        place = unpack(place_payload(self.config), to_int(getattr(self.dut, f"{name}__payload")))
        kept = {key: fields[key] for key in ("stream", "index", "last")}
        assert place == {"adds": int(op == Op.RESIDUAL), **kept}, (
            f"scale.place: {op.name} shows {place}, seed {self.seed}"
        )
        assert to_int(getattr(self.dut, f"{name}__valid"))

    def on_output(self, cycle: int, payload: int) -> None:
        fields = unpack(self.out, payload)
        if fields["op"] != Op.HEAD:
            payload = pack(self.out, {**fields, "scores": 0})  # scores may have any value
        self.board.check(cycle, payload)

    async def watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                self.pulses.clear()
                self.late.clear()
                continue
            if cycle_now() in self.late:
                port, expected, name = self.late.pop(cycle_now())
                got = to_int(getattr(self.dut, port))
                assert got == expected, (
                    f"scale.values: index 0, cycle {cycle_now()}: got {got:#x} of {name}, expected {expected:#x}, "
                    f"seed {self.seed}"
                )
            pulse = cycle_now() in self.pulses
            self.saturations += pulse
            assert to_int(self.dut.saturated) == pulse, (
                f"scale: saturated is {int(not pulse)} in cycle {cycle_now()}, seed {self.seed}"
            )

    async def run(self, items: list[int]) -> None:
        await self.sink.receive(sum(not self.is_direct(item) for item in items), 5000)
        while self.source.pending:
            await ClockCycles(self.dut.clk, 1)
        await ClockCycles(self.dut.clk, 10)
        self.board.finish()
        assert not self.late

    def is_direct(self, item: int) -> bool:
        return Op(unpack(self.layout, item)["op"]) in DIRECT


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    items = bench.edges() + [bench.random_beat() for _ in range(bench_parameters()["beats"])]
    bench.source.queue(items)
    await bench.run(items)
    assert bench.saturations > 100
    if bench.unpaused:
        through = [cycle for cycle, item in bench.entered.items if not bench.is_direct(item)]
        waits = {left - came for came, (left, _) in zip(through, bench.left.items, strict=True)}
        cycles = [cycle for cycle, _ in bench.entered.items]
        assert waits == {bench_parameters()["latency"]}, f"the latencies are {waits}"
        assert np.diff(cycles).max() == 1, "a beat must enter in every cycle"


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    for cycles in range(1, 9):
        bench.source.queue([bench.random_beat() for _ in range(20)])
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        items = [bench.random_beat() for _ in range(5)]
        bench.source.clear()
        bench.source.queue(items)
        await ClockCycles(dut.clk, 2)
        bench.board.pending.clear()
        bench.sink.received.clear()
        dut.rst.value = 0
        await bench.run(items)
