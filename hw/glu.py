"""The GLU computes P elements of silu(gate) * up per cycle.

    gate ─► value ─► sigma ─► value * sigma ─► round ─► gate memory        op GATE: no output
           1        7        8                9
    place of up ────────────────► gate read ─► register ─► gate * up, FIFO ─► v    op UP
                                   1          2           3

UP does not pass through the stages of the sigmoid, so a beat of UP may arrive before its gate is written. Such a beat
stalls at the input of the scale, because ``i_up`` is not ready. The value of a beat of UP follows two cycles after its
place (stream and index). Beats of UP arrive in the order of the beats of GATE. A counter of the gates that are written
and not used yet therefore shows whether the gate of a beat is written.

Cost for each of the P elements, without the sigmoid and the memory of gates: two products (silu, gate).
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import SIGMOID_STAGES, sigmoid_signature, use_sigmoid
from lutern.hw.config import HwConfig
from lutern.hw.gate_memory import GATE_BITS, gates_signature
from lutern.hw.layouts import VALUE_BITS, Op, place_payload, values_payload, x_payload
from lutern.hw.pipeline import CreditFifo, Stages, index_of, pack, place_of, stream_of
from lutern.hw.scale import SumScale
from lutern.model_ref import glu
from lutern.model_ref.activation import SIGMOID_FRAC_BITS
from lutern.model_ref.fixed import Int
from lutern.model_ref.norm import X_BITS

ELEMENT_BITS = GATE_BITS
SILU_HALF = 1 << (SIGMOID_FRAC_BITS - 1)
"""This half is added to value * sigma. Dropping the fraction bits of sigma then rounds the product."""
HELD = SumScale.cut_latency
"""Stage in which the gate is in a register and the value of UP arrives. The product of gate and value goes into the
FIFO at the output."""
WRITTEN = SIGMOID_STAGES + 3
"""Stage in which a gate is written to the memory."""


class Glu(wiring.Component):
    """Computes silu(gate) * up, which is the gate of the channel mixer.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) elements per beat, ``max_width`` elements of the longest vector, ``streams`` (T).

    Members
    -------
    i : stream of ``layouts.values_payload``, input
        All beats of op GATE. ``values`` have 18 bits signed with ``frac`` fraction bits. Always ready.
    i_up : stream of ``layouts.place_payload``, input
        The beats of op UP. They follow the beats of GATE, with the same ``stream`` and ``index`` in the same order.
    cuts : P values of 18 bits signed, input
        The cut sums of UP, ``SumScale.cut_latency`` cycles after their place.
    o : stream of ``layouts.x_payload``, output
        The elements v. GATE has no output.
    sigmoid : ``activation.sigmoid_signature``, output
        The shared sigmoid.
    gates : ``gate_memory.gates_signature``, output
        The shared memory, which stores the gates until UP.

    Numerics
    --------
    Equal to ``model_ref.glu``, bit for bit. The result of silu is rounded to the format of its argument, and v is
    exact.

    Latency
    -------
    ``latency`` = 3 cycles from the place of a beat of UP to its v. A beat of UP is accepted at the earliest in the 10th
    cycle after its beat of GATE, so an operation of 10 or more beats never stalls.

    Reference
    ---------
    Paper, section 3.3.2, equation (10).
    """

    latency = HELD + CreditFifo.latency

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "i_up": In(stream.Signature(place_payload(config))),
                "cuts": In(config.results_per_cycle * ELEMENT_BITS),
                "o": Out(stream.Signature(x_payload(config))),
                "sigmoid": Out(sigmoid_signature(config)),
                "gates": Out(gates_signature(config)),
            }
        )

    @staticmethod
    def model(gate: Int, up: Int, frac_bits: int) -> Int:
        """Return v of whole vectors."""
        return glu.mix(glu.gate(gate, frac_bits), np.asarray(up, dtype=np.int64))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = range(self.config.results_per_cycle)
        p = self.i.payload

        accepted, may_enter = Signal(), Signal()
        stages = Stages(m)
        m.submodules.sent = sent = CreditFifo(x_payload(self.config))
        places = [place_of(self.config, p)]
        unused = Signal(len(places[0]) + 1)  # gates in memory that no UP has read yet
        some = Signal()  # there is such a gate
        m.d.comb += [
            accepted.eq(self.i.valid & (p.op == int(Op.GATE))),
            self.i.ready.eq(1),
            may_enter.eq(some & sent.room),
            self.i_up.ready.eq(may_enter),
            sent.enters.eq(self.i_up.valid & may_enter),
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
        finished = stages.valid(accepted, WRITTEN)

        for stage in range(1, WRITTEN + 1):
            places.append(stages.register(places[-1], f"place_{stage}"))
        m.d.comb += [
            self.gates.place.eq(places[WRITTEN]),
            self.gates.data.eq(Cat(*gates)),
            self.gates.write.eq(finished),
        ]
        left = unused + finished - sent.enters
        m.d.sync += [unused.eq(left), some.eq(left[: len(unused)] != 0)]

        # UP
        place = place_of(self.config, self.i_up.payload)
        m.d.comb += self.gates.read_place.eq(place)
        place = stages.delay(place, HELD, "up_place")
        outputs = []
        for lane in lanes:
            gate = stages.register(
                self.gates.read_data.word_select(lane, ELEMENT_BITS).as_signed(), f"held_gate_{lane}"
            )
            outputs.append((gate * self.cuts.word_select(lane, ELEMENT_BITS).as_signed())[:X_BITS])
        m.d.comb += [
            sent.i.valid.eq(stages.valid(sent.enters, HELD)),
            sent.i.payload.x.eq(pack(outputs)),
            sent.i.payload.stream.eq(stream_of(self.config, place)),
            sent.i.payload.index.eq(index_of(self.config, place)),
            sent.i.payload.last.eq(stages.delay(self.i_up.payload.last, HELD, "last")),
        ]
        wiring.connect(m, sent.o, wiring.flipped(self.o))
        return m
