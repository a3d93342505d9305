"""Bench of the recurrence: several layers and tokens, v and S and both scalars against the golden model, every beat."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, values_payload, x_payload
from lutern.hw.mlgru import Mlgru
from lutern.model_ref import mlgru
from lutern.model_ref.activation import sigmoid, silu
from lutern.model_ref.norm import X_BITS
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

LATENCY = 11
LARGEST = (1 << 17) - 1
EDGES = ("zeros", "ties", "open", "largest", "all_minus", "mixed", "closed")
"""Named tokens, first in every run; what follows is random, each vector with a magnitude of its own. "ties" wants the
S = 0 that "zeros" leaves, and "open" after it, which shows how the S of "ties" is rounded."""


def flat(values: Any, bits: int) -> int:
    """P numbers as one vector, the first in the lowest bits."""
    return sum((int(value) & (1 << bits) - 1) << bits * lane for lane, value in enumerate(values))


def split(value: int, bits: int, count: int) -> np.ndarray:
    """Signed elements of a flat vector."""
    parts = [value >> bits * lane & (1 << bits) - 1 for lane in range(count)]
    return np.array([part - (part >> bits - 1 << bits) for part in parts], dtype=np.int64)


def ties(frac: int, elements: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Even elements: z is a tie of its rounding, or one less. Odd ones: so is the S that comes of S = 0."""
    data = {key: np.zeros(elements, dtype=np.int64) for key in ("f", "bound", "i", "g")}
    for k in range(elements):
        below = k // 2 % 2
        f, sigma, i, il = 0, 0, 0, 0
        while not (sigma & 1 and il & 1 and abs(il) > 8):
            f, i = (int(v) for v in generator.integers(-LARGEST, LARGEST + 1, 2))
            f = -LARGEST if k % 2 else f >> 2
            sigma, il = int(sigmoid(np.array(-f), 13)), int(silu(np.array(i), frac))
        bound = ((1 << 16) - below) * pow(sigma, -1, 1 << 17) % (1 << 17)
        if k % 2:
            z = 8 * ((1 << 13) - below) * pow(il, -1, 1 << 17) % (1 << 17)
            bound = min(z + (z > 1 << 16), LARGEST)  # sigma is 1 - 2^-17
        data["f"][k], data["bound"][k], data["i"][k], data["g"][k] = f, bound, i, LARGEST - k
    return data


def vectors(name: str, frac: int, elements: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """f, bound, i and g of one layer."""

    def draw() -> np.ndarray:
        limit = 1 << int(generator.integers(1, 18))
        return generator.integers(1 - limit, limit, elements)

    if name == "ties":
        return ties(frac, elements, generator)
    ones = np.ones(elements, dtype=np.int64)
    signs = generator.choice([-1, 1], elements)
    bound = generator.integers(0, LARGEST + 1, elements)
    if name in ("zeros", "largest", "all_minus"):
        value = ones * {"zeros": 0, "largest": LARGEST, "all_minus": -LARGEST}[name]
        return {"f": value, "bound": ones * (0 if name == "zeros" else LARGEST), "i": value, "g": value}
    if name == "mixed":
        return {"f": signs * LARGEST, "bound": bound, "i": -signs * LARGEST, "g": signs * LARGEST}
    if name in ("closed", "open"):  # z next to 0 and to 1
        f = ones * (LARGEST if name == "closed" else -LARGEST)
        return {"f": f, "bound": ones * LARGEST, "i": signs * LARGEST, "g": draw()}
    return {"f": draw(), "bound": bound, "i": draw(), "g": draw()}


class Bench:
    """Drives one Mlgru and follows it, beat by beat, with the golden model."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed = dut, bench_seed()
        self.config = HwConfig(**parameters["config"])
        self.lanes = self.config.results_per_cycle
        self.layers, self.beats = parameters["layers"], parameters["beats"]
        self.unpaused = parameters["source"] == parameters["sink"] == "none"
        self.generator = np.random.default_rng(self.seed)
        self.layout, self.x_layout = values_payload(self.config), x_payload(self.config)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.on_output)
        dut.fresh.value = 1
        self.restart()
        cocotb.start_soon(self.watch())

    def restart(self) -> None:
        """What the golden side knows after a reset. S has junk in it: the first token may not look at it."""
        self.v_board = Scoreboard("mlgru.v", seed=self.seed, bits=len(self.dut.o__payload))
        self.s_board = Scoreboard("mlgru.S", seed=self.seed, bits=32 * self.lanes)
        self.state = np.full(self.layers * self.beats * self.lanes, 1 << 20, dtype=np.int64)
        self.seen: dict[int, list[np.ndarray]] = {}
        self.bounds: list[np.ndarray] = []
        self.old: list[np.ndarray] = []
        self.place = (0, 0)  # token, layer
        self.fracs: dict[int, int] = {}
        self.scalars: list[tuple[int, int]] = []  # of vectors whose last v has not left
        self.held: tuple[int, int] | None = None

    def token(self, name: str) -> list[int]:
        """Beats of one token: of every layer F, I, G."""
        items = []
        for layer in range(self.layers):
            frac = int(self.generator.integers(0, 17))
            data = vectors(name, frac, self.beats * self.lanes, self.generator)
            for op, key, frac_bits in ((Op.F, "f", 13), (Op.I, "i", frac), (Op.G, "g", frac + 14)):
                for beat in range(self.beats):
                    part = slice(beat * self.lanes, (beat + 1) * self.lanes)
                    junk = self.generator.integers(0, 1 << BOUND_BITS, self.lanes)
                    bounds = flat(data["bound"][part] if op == Op.F else junk, BOUND_BITS)
                    items.append(pack(self.layout, {
                        "values": flat(data[key][part], VALUE_BITS), "bounds": bounds, "op": int(op),
                        "frac": frac_bits, "state_base": layer * self.beats, "last": beat == self.beats - 1,
                    }))
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        """Feed the golden model with what the block accepted."""
        fields = unpack(self.layout, payload)
        op, values = fields["op"], split(fields["values"], VALUE_BITS, self.lanes)
        seen = self.seen.setdefault(op, [])
        beat = len(seen)
        seen.append(values)
        self.fracs[op] = fields["frac"]
        token, layer = self.place
        where = {"token": token, "layer": layer, "index": beat}
        base = fields["state_base"] * self.lanes
        part = slice(base + beat * self.lanes, base + (beat + 1) * self.lanes)
        if op == Op.F:
            self.bounds.append(split(fields["bounds"], BOUND_BITS, self.lanes) & LARGEST)
        elif op == Op.I:
            old = self.state[part] * (1 - to_int(self.dut.fresh))
            z = mlgru.forget_gate(self.seen[Op.F][beat], self.bounds[beat])
            self.old.append(old)
            self.state[part] = mlgru.update_state(old, z, values, fields["frac"])
            self.s_board.expect(flat(self.state[part], 32), **where)
        else:
            if beat == 0:
                self.held = None  # the scalars may change from now on
            state = self.state[base : base + self.beats * self.lanes]
            g = np.zeros_like(state)
            g[beat * self.lanes : (beat + 1) * self.lanes] = values
            v = mlgru.gated_output(g, state, fields["frac"])[beat * self.lanes : (beat + 1) * self.lanes]
            item = pack(self.x_layout, {"x": flat(v, X_BITS), "last": fields["last"]})
            self.v_board.expect(item, **where)
            if fields["last"]:
                self.end_layer(state)

    def end_layer(self, state: np.ndarray) -> None:
        """The same layer once more, through the block's own model of whole vectors."""
        f, i, g = (np.concatenate(self.seen[op]) for op in (Op.F, Op.I, Op.G))
        old, bounds = np.concatenate(self.old), np.concatenate(self.bounds)
        _, new, squares, shift = Mlgru.model(f, bounds, i, g, old, self.fracs[Op.I], self.fracs[Op.G])
        assert (new == state).all()
        self.scalars.append((squares, shift))
        self.seen, self.bounds, self.old = {}, [], []
        token, layer = self.place
        self.place = (token + (layer + 1) // self.layers, (layer + 1) % self.layers)

    def on_output(self, cycle: int, payload: int) -> None:
        self.v_board.check(cycle, payload)
        if unpack(self.x_layout, payload)["last"]:
            self.held = self.scalars.pop(0)
            self.check_scalars()

    def check_scalars(self) -> None:
        shift = int(self.dut.state_shift.value.to_signed())
        got, wanted = (to_int(self.dut.g_squares), shift), self.held
        assert got == wanted, (
            f"mlgru: cycle {cycle_now()}, (g_squares, state_shift): got {got}, expected {wanted}, seed {self.seed}"
        )

    async def watch(self) -> None:
        """The tap, and the scalars while they must hold."""
        while True:
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            if to_int(self.dut.tap_s_valid):
                self.s_board.check(cycle_now(), to_int(self.dut.tap_s))
            first_g = self.source.fires() and unpack(self.layout, self.source.read_payload())["op"] == Op.G
            if self.held is not None and not first_g:
                self.check_scalars()

    async def run(self, names: list[str]) -> None:
        """Whole tokens; the first one is fresh."""
        for number, name in enumerate(names):
            self.dut.fresh.value = int(number == 0)
            await self.source.send(*self.token(name))
            await RisingEdge(self.dut.clk)
        await self.sink.receive(len(names) * self.layers * self.beats, 2000)
        await ClockCycles(self.dut.clk, 20)
        assert self.v_board.finish() == self.s_board.finish() == len(names) * self.layers * self.beats

    def check_cycles(self) -> None:
        """Without pauses: latency, one beat a cycle, and the holds of the interlocks, exactly."""
        inputs = [(cycle, unpack(self.layout, item)) for cycle, item in self.entered.items]
        g_cycles = [cycle for cycle, item in inputs if item["op"] == Op.G]
        assert {b - a for a, (b, _) in zip(g_cycles, self.left.items, strict=True)} == {LATENCY}
        before, cycle_before = inputs[0][1], inputs[0][0]
        for cycle, item in inputs[1:]:
            gap, ends = cycle - cycle_before, before["last"]
            if ends and before["op"] == Op.I:
                assert gap == 13, f"cycle {cycle}: the first G came {gap} cycles after the last I"
            elif ends and before["op"] == Op.F:
                assert gap == max(1, 4 - self.beats), f"cycle {cycle}: the first I came {gap} cycles after the last F"
            elif not ends:
                assert gap == 1, f"cycle {cycle}: a bubble of {gap - 1}"
            before, cycle_before = item, cycle


@cocotb.test()
async def tokens_equal_the_golden_model(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.run([*EDGES, *["random"] * bench_parameters()["tokens"]])
    if bench.unpaused:
        bench.check_cycles()


@cocotb.test()
async def reset_in_mid_vector_then_fresh_is_a_cold_start(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    generator = random.Random(bench.seed)
    for op in range(3):
        items = bench.token("random") + bench.token("random")
        stop = len(items) // 2 + op * bench.beats + generator.randrange(1, bench.beats + 1)
        sent = bench.source.sent_count
        dut.fresh.value = 1
        bench.source.queue(items)
        while bench.source.sent_count < sent + stop:
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        bench.restart()
        bench.left.items.clear()
        bench.sink.received.clear()
        bench.source.clear()
        bench.source.queue(bench.token("random"))
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        await bench.source.drained()
        await RisingEdge(dut.clk)
        dut.fresh.value = 0
        await bench.source.send(*bench.token("random"))
        count = 2 * bench.layers * bench.beats
        await bench.sink.receive(count, 2000)
        await ClockCycles(dut.clk, 20)
        assert bench.v_board.finish() == bench.s_board.finish() == count
        bench.restart()
        bench.left.items.clear()
