"""A complete block of your own: golden function, component, bench, and the call that runs the bench.

    .venv/bin/python examples/own_block.py

    x, 16 bits signed ─► max(x, 0) █─► square █─► round █─► saturate to 16 bits ─► y

The block is the squared ReLU, ``y = max(x, 0)^2 / 2^shift``. docs/tutorial/first-block.md explains every step. In
Lutern, these four pieces are files in ``model_ref/``, ``hw/``, ``sim/benches/`` and ``tests/hw/``.
"""

from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.pipeline import CreditFifo, Stages
from lutern.model_ref.fixed import Int, rsh, saturate
from lutern.sim.runner import bench_parameters, bench_seed, run_bench
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, start

BITS = 16
LIMIT = (1 << BITS - 1) - 1
EDGES = (0, 1, -1, LIMIT, -LIMIT, LIMIT - 1, 127, 128, 181, 182)


def squared_relu(x: Int, shift: int) -> Int:
    """Compute the golden function with NumPy integers: rounded to nearest with halves up, then saturated."""
    return saturate(rsh(np.maximum(x, 0) ** 2, shift), LIMIT)


class SquaredRelu(wiring.Component):
    """A block that computes ``max(x, 0)^2 / 2^shift``, one element per cycle.

    Parameters
    ----------
    shift
        Number of bits that are rounded away, 1 to 30.

    Members
    -------
    i, o
        Input and output: one element, 16 bits signed.

    Numerics
    --------
    Equals ``squared_relu`` bit for bit.

    Latency
    -------
    ``latency`` = 4 cycles, one element per cycle.
    """

    latency = 3 + CreditFifo.latency

    def __init__(self, shift: int) -> None:
        self.shift = shift
        super().__init__({"i": In(stream.Signature(signed(BITS))), "o": Out(stream.Signature(signed(BITS)))})

    def model(self, x: Int) -> Int:
        """Return the outputs for the inputs ``x``."""
        return squared_relu(x, self.shift)

    def elaborate(self, platform: object) -> Elaboratable:
        """Return three registers without an enable. An element enters only if the FIFO at the end has room for it."""
        m, half = Module(), 1 << self.shift - 1
        stages = Stages(m)
        m.submodules.sent = sent = CreditFifo(signed(BITS))
        enters = Signal()
        m.d.comb += [enters.eq(self.i.valid & sent.room), self.i.ready.eq(sent.room), sent.enters.eq(enters)]

        x = self.i.payload
        positive = stages.register(Mux(x < 0, 0, x[: BITS - 1]), "positive")
        square = stages.register(positive * positive, "square")
        rounded = stages.register((square + half) >> self.shift, "rounded")
        m.d.comb += [sent.i.valid.eq(stages.valid(enters, 3)), sent.i.payload.eq(Mux(rounded > LIMIT, LIMIT, rounded))]
        wiring.connect(m, sent.o, wiring.flipped(self.o))
        return m


@cocotb.test()
async def edges_then_random(dut: Any) -> None:
    """Check that every element that leaves equals the model's. Without pauses, an element must leave ``latency`` cycles
    after it entered."""
    given, seed = bench_parameters(), bench_seed()
    block, generator = SquaredRelu(given["shift"]), np.random.default_rng(seed)
    x = np.array([*EDGES, *generator.integers(-LIMIT, LIMIT + 1, given["count"])])
    board = Scoreboard("squared_relu", seed=seed, bits=BITS)
    board.expect_all(block.model(x))
    source = StreamSource(dut, "i", pause=given["pause"], seed=seed)
    sink = StreamSink(dut, "o", pause=given["pause"], seed=seed + 1)
    entered, left = StreamMonitor(dut, "i"), StreamMonitor(dut, "o", on_item=board.check)
    await start(dut)
    source.queue(int(value) & (1 << BITS) - 1 for value in x)
    await sink.receive(len(x), timeout_cycles=500)
    board.finish()
    if given["pause"] == "none":
        waits = {after - before for (before, _), (after, _) in zip(entered.items, left.items, strict=True)}
        assert waits == {block.latency}, f"latencies {waits}, seed {seed}"


def check(shift: int = 15, pause: str = "none", count: int = 500, seed: int = 1) -> None:
    """Compile the component, and run the bench on it. An AssertionError reports the first difference."""
    run_bench(SquaredRelu(shift), "own_block", parameters={"shift": shift, "pause": pause, "count": count}, seed=seed)


if __name__ == "__main__":
    for pause in ("none", "random"):
        check(pause=pause)
    print(f"SquaredRelu equals its model, with a latency of {SquaredRelu.latency} cycles")
