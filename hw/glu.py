"""GLU: P elements a cycle of silu(gate) * up.

    gate ─► value ─► sigma ─► value * sigma ─► round ─► gl memory          op GATE: no output
           1        7        8                9
    up ───────────────────────────► gl read ─► hold ─► gl * up ─► FIFO ─► v    op UP
                                   1          2       3         4

Cost an element, without sigma's block: two products (silu, gate), 18 bits of memory a channel of the widest mixer and
stream. UP does not pass the sigmoid's stages: a beat of UP that comes sooner than its gate is written waits at the
input. UP comes in the order of GATE, so the number of gates written and not yet used says it.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import SIGMOID_STAGES, sigmoid_signature, use_sigmoid
from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, Op, values_payload, x_payload
from lutern.hw.pipeline import (
    CreditFifo,
    Stages,
    index_of,
    pack,
    place_of,
    read_ahead_of_register,
    stream_of,
    vector_memory,
)
from lutern.model_ref import glu
from lutern.model_ref.activation import SIGMOID_FRAC_BITS
from lutern.model_ref.fixed import Int
from lutern.model_ref.norm import X_BITS

ELEMENT_BITS = 18
SILU_HALF = 1 << (SIGMOID_FRAC_BITS - 1)
"""Rounds value * sigma."""
V_STAGE = 3
"""Stage in which v stands, to go into the FIFO."""
WRITTEN = SIGMOID_STAGES + 3
"""Stage in which a gate stands, to be written."""


class Glu(wiring.Component):
    """The channel mixer's gate.

    Parameters
    ----------
    config
        ``results_per_cycle`` (P) elements a beat, ``max_width`` the longest vector.

    Members
    -------
    i
        ``layouts.values_payload``: all beats of op GATE (``values``, 18 bits signed, with ``frac`` fraction bits), then
        those of op UP (``values``: cut sums, 18 bits signed), with the same ``stream`` and ``index`` in the same order.
    o
        ``layouts.x_payload``: v of op UP.
    sigmoid
        ``activation.sigmoid_signature``: the block that makes ``sigma``.

    Numerics
    --------
    ``model_ref.glu``: silu rounded to the format of its argument, v exact.

    Latency
    -------
    ``latency`` = 4 cycles from a beat of UP to its v. A beat of UP is accepted from the 10th cycle after that of its
    GATE on; operations of 10 beats and more never wait.

    Reference
    ---------
    Paper, section 3.3.2, equation (10).
    """

    latency = V_STAGE + CreditFifo.latency

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "o": Out(stream.Signature(x_payload(config))),
                "sigmoid": Out(sigmoid_signature(config)),
            }
        )

    @staticmethod
    def model(gate: Int, up: Int, frac_bits: int) -> Int:
        """v of whole vectors."""
        return glu.mix(glu.gate(gate, frac_bits), np.asarray(up, dtype=np.int64))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = range(self.config.results_per_cycle)
        p = self.i.payload

        accepted, is_gate, may_enter = Signal(), Signal(), Signal()
        stages = Stages(m)
        m.submodules.sent = sent = CreditFifo(x_payload(self.config))
        memory = m.submodules.gate_memory = vector_memory(self.config, ELEMENT_BITS)
        write = memory.write_port()
        places = [place_of(self.config, p)]
        unused = Signal(len(places[0]) + 1)  # gates in memory that no UP has read
        some = Signal()  # there are
        m.d.comb += [
            is_gate.eq(p.op == int(Op.GATE)),
            may_enter.eq(is_gate | (some & sent.room)),
            accepted.eq(self.i.valid & may_enter),
            self.i.ready.eq(may_enter),
            sent.enters.eq(accepted & ~is_gate),
        ]
        values = [
            stages.register(p.values.word_select(lane, VALUE_BITS)[:ELEMENT_BITS].as_signed(), f"value_{lane}")
            for lane in lanes
        ]

        # GATE
        sigmas = use_sigmoid(m, self.sigmoid, values, stages.register(p.frac, "frac"))
        gates = []
        for lane in lanes:
            argument = stages.delay(values[lane], SIGMOID_STAGES, f"argument_{lane}")
            product = stages.register(argument * sigmas[lane], f"silu_product_{lane}")
            rounded = ((product + SILU_HALF) >> SIGMOID_FRAC_BITS)[:ELEMENT_BITS]
            gates.append(stages.register(rounded, f"gate_{lane}"))
        finished = stages.valid(accepted & is_gate, WRITTEN)

        for stage in range(1, WRITTEN + 1):
            places.append(stages.register(places[-1], f"place_{stage}"))
        m.d.comb += [write.addr.eq(places[WRITTEN]), write.data.eq(Cat(*gates)), write.en.eq(finished)]
        left = unused + finished - sent.enters
        m.d.sync += [unused.eq(left), some.eq(left[: len(unused)] != 0)]

        # UP
        read = read_ahead_of_register(m, self.config, stages, memory, places[0])
        outputs = []
        for lane in lanes:
            gate = stages.register(read.word_select(lane, ELEMENT_BITS).as_signed(), f"held_gate_{lane}")
            up = stages.register(values[lane], f"up_{lane}")
            outputs.append(stages.register((gate * up)[:X_BITS], f"v_{lane}"))
        m.d.comb += [
            sent.i.valid.eq(stages.valid(sent.enters, V_STAGE)),
            sent.i.payload.x.eq(pack(outputs)),
            sent.i.payload.stream.eq(stream_of(self.config, places[V_STAGE])),
            sent.i.payload.index.eq(index_of(self.config, places[V_STAGE])),
            sent.i.payload.last.eq(stages.delay(p.last, V_STAGE, "last")),
        ]
        wiring.connect(m, sent.o, wiring.flipped(self.o))
        return m
