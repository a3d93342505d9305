"""Bench of the recurrence: v, S and the two scalars are compared with the golden model in every beat, over several
layers, tokens and streams. model_ref/mlgru.py defines z, S, v and the bound.

The beats come in the order F, I, G. Each of these operations has row groups with a block of ``group`` beats for each
stream. If chained, all streams share one state in the model of S, and beats of I update it in the order in which they
enter.
"""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, value_classes, values_payload, x_payload
from lutern.model_ref import mlgru
from lutern.model_ref.activation import sigmoid, silu
from lutern.model_ref.norm import X_BITS
from lutern.sim.benches.resets import reset_after
from lutern.sim.benches.vectors import blocks, flat, split
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

LATENCY = 11
F_TO_I, I_TO_I, I_TO_G, I_TO_FEW_G, FEW = 3, 7, 8, 13, 5
"""Smallest numbers of cycles between two beats. F_TO_I: from the last beat of F to a beat of I. I_TO_I: between two
beats of I with equal index, if chained. I_TO_G: from the last beat of I to the first beat of G. I_TO_FEW_G: replaces
I_TO_G if a vector has at most ``FEW`` beats."""
OFFSET = 3
"""First beat of S that the bench uses. The number is not 0, so that no base address of a state is 0."""
LARGEST = (1 << 17) - 1
EDGES = ("zeros", "ties", "open", "largest", "all_minus", "mixed", "closed")
"""Names of the first tokens of every run. The later tokens are random, and each vector has a random magnitude. "ties"
must follow "zeros", because it needs S = 0. "open" must follow "ties", because it shows how the S of "ties" is rounded.
"""


def ties(frac: int, elements: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a layer's inputs for which a value before rounding is exactly halfway between two results, or one less. In
    even elements this value is z. In odd elements it is the new S after an S of 0."""
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
    """Return the inputs f, bound, i and g of one layer."""

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
    if name in ("closed", "open"):  # z is close to 0, or to 1
        f = ones * (LARGEST if name == "closed" else -LARGEST)
        return {"f": f, "bound": ones * LARGEST, "i": signs * LARGEST, "g": draw()}
    return {"f": draw(), "bound": bound, "i": draw(), "g": draw()}


class Bench:
    """Drives one Mlgru, and runs the golden model with each beat that the block accepts."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed = dut, bench_seed()
        self.config = HwConfig(**parameters["config"])
        self.lanes = self.config.results_per_cycle
        self.layers, self.beats = parameters["layers"], parameters["beats"]
        self.group, self.active, self.chained = parameters["group"], parameters["active"], parameters["chained"]
        self.first = parameters["first"]
        self.unpaused = parameters["source"] == parameters["sink"] == "none"
        self.generator = np.random.default_rng(self.seed)
        self.layout, self.x_layout = values_payload(self.config), x_payload(self.config)
        self.source = StreamSource(dut, "i", pause=parameters["source"], seed=self.seed)
        self.sink = StreamSink(dut, "o", pause=parameters["sink"], seed=self.seed + 1)
        self.entered = StreamMonitor(dut, "i", on_item=self.on_input)
        self.left = StreamMonitor(dut, "o", on_item=self.on_output)
        dut.chained.value = int(self.chained)
        self.prepare()
        self.set_fresh((1 << self.active) - 1)
        self.set_slots(list(range(self.active)))
        self.scalar_checks = 0
        self.restart()
        cocotb.start_soon(self.watch())

    def prepare(self) -> None:
        """Do nothing. A subclass can drive further ports here."""

    def restart(self) -> None:
        """Reset the golden model and the expected outputs. Every S becomes 2^20. The first token must not use this
        value, because a fresh token begins with S = 0."""
        self.v_board = Scoreboard("mlgru.v", seed=self.seed, bits=len(self.dut.o__payload))
        tap_bits = 32 * self.lanes + self.config.stream_bits + self.config.index_bits
        self.s_board = Scoreboard("mlgru.S", seed=self.seed, bits=tap_bits)
        self.state = np.full(self.config.max_state, 1 << 20, dtype=np.int64)
        self.newest = np.zeros((self.active, self.beats * self.lanes), dtype=np.int64)
        self.z = np.zeros_like(self.newest)
        self.g = np.zeros_like(self.newest)
        self.place = (0, 0)  # token, layer
        self.scalars: dict[int, list[tuple[int, int]]] = {stream: [] for stream in range(self.active)}
        self.begun = dict.fromkeys(range(self.active), 0)  # number of vectors of G whose last v has not left
        self.held: dict[int, tuple[int, int]] = {}  # scalars of streams whose last v has left, until their next G

    def set_fresh(self, bits: int) -> None:
        """Choose the fresh streams. If chained, only the first stream can be fresh."""
        self.fresh = bits & 1 if self.chained else bits
        self.dut.fresh.value = self.fresh

    def set_slots(self, slots: list[int]) -> None:
        """Choose the slot of each stream's state. The layers of a slot are consecutive."""
        self.bases = [self.first + (0 if self.chained else slot) * self.layers * self.beats for slot in slots]
        self.dut.bases.value = sum(base << self.config.state_bits * stream for stream, base in enumerate(self.bases))

    def token(self, name: str) -> list[int]:
        """Return the beats of one token of all streams: F, I and G of every layer. Fields that the block does not read
        are random."""
        items, draw = [], self.generator
        for layer in range(self.layers):
            frac = int(draw.integers(0, 17))
            data = [vectors(name, frac, self.beats * self.lanes, draw) for _ in range(self.active)]
            for op, key, frac_bits in ((Op.F, "f", 13), (Op.I, "i", frac), (Op.G, "g", frac + 14)):
                for stream, beat in blocks(self.beats, self.group, self.active):
                    part = slice(beat * self.lanes, (beat + 1) * self.lanes)
                    junk = draw.integers(0, 1 << BOUND_BITS, self.lanes)
                    looked_at = op == Op.I or (op == Op.G and self.config.streams == 1)
                    looked_at &= self.config.state == "block"
                    items.append(
                        pack(
                            self.layout,
                            {
                                "values": flat(data[stream][key][part], VALUE_BITS),
                                "scores": int(draw.integers(0, 1 << 31)),
                                "bounds": flat(data[stream]["bound"][part] if op == Op.F else junk, BOUND_BITS),
                                "op": int(op),
                                **value_classes(op),
                                "frac": frac_bits,
                                "stream": stream,
                                "index": beat,
                                "last": beat == self.beats - 1,
                                "state_base": layer * self.beats
                                if looked_at
                                else int(draw.integers(0, 1 << self.config.state_bits)),
                            },
                        )
                    )
        return items

    def on_input(self, cycle: int, payload: int) -> None:
        """Feed the golden model with a beat that the block has accepted."""
        fields = unpack(self.layout, payload)
        op, values = fields["op"], split(fields["values"], VALUE_BITS, self.lanes)
        stream, index = fields["stream"], fields["index"]
        part = stream, slice(index * self.lanes, (index + 1) * self.lanes)
        token, layer = self.place
        where = {"token": token, "layer": layer, "index": index}
        if op == Op.F:
            self.z[part] = mlgru.forget_gate(values, split(fields["bounds"], BOUND_BITS, self.lanes) & LARGEST)
        elif op == Op.I:
            first = self.first_of(fields)
            words = slice(first, first + self.lanes)
            old = self.state[words] * (1 - (self.fresh >> stream & 1))
            self.state[words] = mlgru.update_state(old, self.z[part], values, fields["frac"])
            self.newest[part] = self.state[words]
            self.s_board.expect(self.tap(flat(self.state[words], 32), stream, index), **where)
        else:
            if index == 0:
                self.held.pop(stream, None)  # from now on the scalars may change
                self.begun[stream] += 1
            self.g[part] = values
            v = mlgru.gated_output(self.g[stream], self.newest[stream], fields["frac"])[part[1]]
            kept = {name: fields[name] for name in ("stream", "index", "last")}
            self.v_board.expect(pack(self.x_layout, {"x": flat(v, X_BITS), **kept}), **where)
            if fields["last"]:
                shift = int(mlgru.state_shift(self.newest[stream]))
                self.scalars[stream].append((int((self.g[stream] ** 2).sum()), shift))
                if stream == self.active - 1:
                    self.place = (token + (layer + 1) // self.layers, (layer + 1) % self.layers)

    def first_of(self, fields: dict[str, int]) -> int:
        """Return the first element in the golden model's S for a beat of I."""
        return (fields["state_base"] + self.bases[fields["stream"]] + fields["index"]) * self.lanes

    def tap(self, s: int, stream: int, index: int) -> int:
        """Return the fields of the tap as one number."""
        return s | (stream | index << self.config.stream_bits) << 32 * self.lanes

    def on_output(self, cycle: int, payload: int) -> None:
        self.v_board.check(cycle, payload)
        fields = unpack(self.x_layout, payload)
        if fields["last"]:
            stream = fields["stream"]
            scalars = self.scalars[stream].pop(0)
            self.begun[stream] -= 1
            if not self.begun[stream]:  # v comes after the scalars, and in the machine the next G waits for all v
                self.held[stream] = scalars

    async def watch(self) -> None:
        """Check the tap. Also check the scalars of the stream that was selected in the previous cycle, while the
        scalars must be stable."""
        draw = random.Random(self.seed)
        asked = now = 0
        while True:
            await RisingEdge(self.dut.clk)
            asked, now = now, draw.randrange(self.active)
            self.dut.eps_stream.value = now
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            if to_int(self.dut.tap_s_valid):
                ports = (self.dut.tap_s, self.dut.tap_s_stream, self.dut.tap_s_index)
                self.s_board.check(cycle_now(), self.tap(*(to_int(port) for port in ports)))
            if wanted := self.held.get(asked):
                got = to_int(self.dut.g_squares), int(self.dut.state_shift.value.to_signed())
                assert got == wanted, (
                    f"mlgru: cycle {cycle_now()}, stream {asked}, (g_squares, state_shift): got {got}, "
                    f"expected {wanted}, seed {self.seed}"
                )
                self.scalar_checks += 1

    async def run(self, names: list[str]) -> None:
        """Run whole tokens. The first token is fresh. For later tokens, random streams are fresh and slots change."""
        for number, name in enumerate(names):
            if number:
                anew = int(self.generator.integers(0, 1 << self.active)) if self.config.streams > 1 else 0
                self.set_fresh(0 if name in EDGES else anew)
            if name not in EDGES:
                self.set_slots(self.generator.permutation(self.active).tolist())
            await self.source.send(*self.token(name))
            await RisingEdge(self.dut.clk)
        count = len(names) * self.layers * self.beats * self.active
        await self.sink.receive(count, 2000)
        await ClockCycles(self.dut.clk, 20 + 4 * self.active)
        assert self.v_board.finish() == self.s_board.finish() == count
        assert self.scalar_checks >= len(names) * self.layers

    def check_cycles(self) -> None:
        """Check that without pauses the latency is exact, and that each beat is accepted as early as the interlocks
        allow."""
        inputs = [(cycle, unpack(self.layout, item)) for cycle, item in self.entered.items]
        g_cycles = [cycle for cycle, item in inputs if item["op"] == Op.G]
        assert {b - a for a, (b, _) in zip(g_cycles, self.left.items, strict=True)} == {LATENCY}
        updated: dict[int, int] = {}
        before, last_f, last_i = 0, 0, 0
        for cycle, item in inputs:
            op, place = item["op"], (item["stream"], item["index"])
            earliest = before + 1
            if op == Op.I:
                earliest = max(earliest, last_f + F_TO_I)
                if self.chained and item["stream"]:
                    earliest = max(earliest, updated[item["index"]] + I_TO_I)
            elif op == Op.G:
                earliest = max(earliest, last_i + (I_TO_FEW_G if self.beats <= FEW else I_TO_G))
            if op != Op.F or place != (0, 0):  # the first beat of a token may come later
                assert cycle == earliest, f"{Op(op).name} {place}: came in cycle {cycle}, not in {earliest}"
            if op == Op.F:
                last_f = cycle
            elif op == Op.I:
                updated[item["index"]] = last_i = cycle
            before = cycle


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
        beats = bench.beats * bench.active  # number of beats of an operation
        stop = len(items) // 2 + op * beats + generator.randrange(1, beats + 1)
        sent = bench.source.sent_count
        bench.set_fresh((1 << bench.active) - 1)
        bench.source.queue(items)
        await reset_after(dut, bench, sent + stop, bench.token("random"))
        bench.left.items.clear()
        await bench.source.drained()
        await RisingEdge(dut.clk)
        bench.set_fresh(0)
        await bench.source.send(*bench.token("random"))
        count = 2 * bench.layers * beats
        await bench.sink.receive(count, 2000)
        await ClockCycles(dut.clk, 20)
        assert bench.v_board.finish() == bench.s_board.finish() == count
        bench.restart()
        bench.left.items.clear()
