"""MLGRU: P elements a cycle of the gated recurrence; one pipeline serves the operations F, I and G of a layer.

    i ─► S read ─► hold ─► sigma(-f | a | S) ─► bound | a | S_m  * sigma ─► - S ─► z | g  * it ─► v ─► o   op G
       1         2        8                                        9        10             11
                                                                    └─► z memory             └─► S + it ─► S memory
                                                                          op F                  12           op I

    F: z = sigma(-f) * bound, written to the z memory          S_m: S brought to 18 bits by the largest of the layer
    I: S += z * (a * sigma(a) - S)                             the differences' minus is added with the rounding
    G: v = g * (S_m * sigma(S)), and the sum of g^2

Cost an element: four products (interpolation, mulA, mulB, g^2), 17 bits of z a channel, 32 of S a channel and layer.
Interlocks, each of which holds a beat at the input: I waits while the z of its own index is one of the two beats before
(vectors of one or two beats), G waits while an I beat is in flight (S and its largest are complete then).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import SIGMOID_STAGES, sigmoid_stages
from lutern.hw.config import HwConfig
from lutern.hw.layouts import BOUND_BITS, VALUE_BITS, Op, values_payload, x_payload
from lutern.hw.stages import Stages, magnitude, pack, saturate
from lutern.model_ref import mlgru
from lutern.model_ref.activation import SIGMOID_FRAC_BITS
from lutern.model_ref.fixed import MANTISSA_BITS, Int
from lutern.model_ref.mlgru import STATE_GUARD_BITS, Z_BITS
from lutern.model_ref.norm import X_BITS

ELEMENT_BITS = 18
STATE_BITS = 32
SQUARES_BITS = 48
SIGMA = 2 + SIGMOID_STAGES
"""Stage in which sigma stands; then mulA's product, mulB's operand, mulB's product (v), the new state."""
LATENCY = SIGMA + 3

GATE_HALF = 1 << (SIGMOID_FRAC_BITS - 1)
"""Rounds mulA, for all three operations."""
DIFFERENCE_HALF = (1 << (STATE_GUARD_BITS - 1)) - 1
"""``-rsh(S, 14)`` is ``(2^13 - 1 - S) >> 14``: one subtraction."""
STEP_HALF = 1 << (Z_BITS - STATE_GUARD_BITS - 1)
"""Rounds the step of S."""


def bit_length(value: Value) -> Value:
    """Bits of an unsigned value of at most 31 bits, by halves."""
    value = (value << 1)[:32] | 1  # position of the highest one: no case of its own for zero
    bits: list[Value] = []
    for half in (16, 8, 4, 2, 1):
        bits.insert(0, value[half:].any())
        value = Mux(bits[0], value[half:], value[:half])
    return Cat(*bits)


class Mlgru(wiring.Component):
    """The recurrence: gates, state of all layers, output ahead of o_proj.

    Parameters
    ----------
    config
        ``results_per_cycle`` (P) elements a beat; ``max_width`` and ``max_state`` size the memories of z and S;
        ``debug_tap`` adds the tap.

    Members
    -------
    i
        ``layouts.values_payload``: for every layer a vector of op F (``values`` Q4.13, ``frac`` 13, ``bounds`` 1 - LB),
        one of I (``values`` with ``frac`` fraction bits), one of G (``values`` cut sums, ``frac`` fraction bits of S),
        each ended by ``last``, all values 18 bits signed. ``state_base``: first beat of the layer's S, looked at in the
        first beat of I and of G.
    fresh
        A beat of I that enters while this is high sees S = 0: high for the first token of a stream.
    o
        ``layouts.x_payload``: v of op G. F and I have no output.
    g_squares, state_shift
        Exact sum of g^2, and the right shift that brought S to 17 bits: valid from the transfer of the last v until the
        first beat of the next G is accepted.
    tap_s_valid, tap_s
        With ``debug_tap``: P elements of the new S in the cycle in which they are written.

    Numerics
    --------
    ``model_ref.mlgru``, bit for bit. Four multipliers a lane, operands of 18 bits, registers on both sides.

    Latency
    -------
    ``latency`` = 11 advances from a beat of G to its v. The first beat of G is accepted 13 advances after the last of I
    at the earliest.

    Reference
    ---------
    Paper, section 3.3.1.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        members = {
            "i": In(stream.Signature(values_payload(config))),
            "fresh": In(1),
            "o": Out(stream.Signature(x_payload(config))),
            "g_squares": Out(SQUARES_BITS),
            "state_shift": Out(signed(7)),
        }
        if config.debug_tap:
            members |= {"tap_s_valid": Out(1), "tap_s": Out(config.results_per_cycle * STATE_BITS)}
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Advances from a beat of G at ``i`` to its v at ``o``."""
        return LATENCY

    @staticmethod
    def model(
        f: Int, bound: Int, i: Int, g: Int, state: Int, frac_bits: int, state_frac_bits: int
    ) -> tuple[Int, Int, int, int]:
        """v, new S, g_squares and state_shift of one layer from whole vectors."""
        new = mlgru.update_state(state, mlgru.forget_gate(f, bound), i, frac_bits)
        v = mlgru.gated_output(np.asarray(g), new, state_frac_bits)
        return v, new, int((np.asarray(g) ** 2).sum()), int(mlgru.state_shift(new))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = range(self.config.results_per_cycle)
        z_depth = -(-self.config.max_width // len(lanes))
        s_depth = -(-self.config.max_state // len(lanes))
        p = self.i.payload
        advance, accepted, hold = Signal(), Signal(), Signal()
        stages = Stages(m, advance)

        def chain(value: Any, count: int, name: str, *, reset_less: bool = True) -> list[Any]:
            """``value`` and its delays: item k stands in stage k."""
            items = [value]
            for stage in range(1, count + 1):
                items.append(stages.register(items[-1], f"{name}_{stage}", reset_less=reset_less))
            return items

        # What travels in which stage
        f = chain(accepted & (p.op == int(Op.F)), SIGMA + 2, "f", reset_less=False)
        i = chain(accepted & (p.op == int(Op.I)), SIGMA + 4, "i", reset_less=False)
        g = chain(accepted & (p.op == int(Op.G)), LATENCY, "g", reset_less=False)
        last = chain(p.last, LATENCY, "last")

        first, index = Signal(init=1), Signal(range(z_depth))
        indices = chain(index, 2, "index")
        z_missing = Cat(f[k] & (indices[k] == index) for k in (1, 2)).any()
        m.d.comb += [
            hold.eq(((p.op == int(Op.I)) & z_missing) | ((p.op == int(Op.G)) & Cat(i[1:]).any())),
            accepted.eq(self.i.valid & ~hold),
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance & ~hold),
        ]
        with m.If(advance & accepted):
            m.d.sync += [first.eq(p.last), index.eq(Mux(p.last, 0, index + 1))]

        # S: read as a beat enters, written behind the last stage
        s_memory = m.submodules.s_memory = Memory(shape=len(lanes) * STATE_BITS, depth=s_depth, init=[])
        s_write, s_read = s_memory.write_port(), s_memory.read_port()
        s_next = Signal(range(s_depth))
        m.d.comb += [s_read.addr.eq(Mux(first, p.state_base, s_next)), s_read.en.eq(advance)]
        with m.If(advance & accepted):
            m.d.sync += s_next.eq(s_read.addr + 1)

        # z: written behind stage 10, read so that it stands in stage 9
        z_memory = m.submodules.z_memory = Memory(shape=len(lanes) * Z_BITS, depth=z_depth, init=[])
        z_write, z_read = z_memory.write_port(), z_memory.read_port()
        for port, entering, stage in ((z_read, i, SIGMA), (z_write, f, SIGMA + 2)):
            count = Signal(range(z_depth), name=f"z_index_{stage}")
            m.d.comb += [port.addr.eq(count), port.en.eq(advance if port is z_read else advance & entering[stage])]
            with m.If(advance & entering[stage]):
                m.d.sync += count.eq(Mux(last[stage], 0, count + 1))

        fresh = stages.register(self.fresh, "fresh_1")
        frac = stages.delay(p.frac, 2, "frac")
        state_bits = Signal(STATE_BITS.bit_length() - 1)
        values, states, arguments, operands = [], [], [], []
        for lane in lanes:
            value = chain(p.values.word_select(lane, VALUE_BITS)[:ELEMENT_BITS].as_signed(), SIGMA + 1, f"value_{lane}")
            bound = stages.delay(p.bounds.word_select(lane, BOUND_BITS), 3, f"bound_{lane}")
            read = s_read.data.word_select(lane, STATE_BITS).as_signed()
            state = [None, None, stages.register(Mux(i[1] & fresh, Const(0, signed(STATE_BITS)), read), f"s_{lane}_2")]
            state += chain(state[2], LATENCY - 2, f"s_{lane}_2")[1:]
            signed_value = Mux(f[1], -value[1], value[1])
            argument = Mux(g[1], read, signed_value)[:STATE_BITS].as_signed()
            arguments.append(stages.register(argument, f"argument_{lane}"))
            # S_m: one bit more than S_m has, then rounded
            aligned = stages.register(
                ((state[2] << (MANTISSA_BITS + 1)) >> state_bits)[: ELEMENT_BITS + 1].as_signed(), f"aligned_{lane}"
            )
            aligned = saturate((aligned + 1) >> 1, ELEMENT_BITS)
            operand = Mux(f[3], bound, Mux(i[3], value[3], aligned))[:ELEMENT_BITS].as_signed()
            operands.append(stages.delay(operand, SIGMA - 3, f"operand_{lane}"))
            values.append(value)
            states.append(state)
        sigmas, _ = sigmoid_stages(m, stages, advance, arguments, frac)

        z, v, s = [], [], []
        for lane, (value, state) in enumerate(zip(values, states, strict=True)):
            gated = stages.register(operands[lane] * sigmas[lane], f"gated_{lane}")
            minus_s = ((DIFFERENCE_HALF - state[SIGMA]) >> STATE_GUARD_BITS)[: ELEMENT_BITS + 1]
            minus_s = stages.register(Mux(i[SIGMA], minus_s, 0), f"minus_s_{lane}")
            offset = Cat(Const(GATE_HALF, SIGMOID_FRAC_BITS), minus_s).as_signed()
            left = stages.register(saturate((gated + offset) >> SIGMOID_FRAC_BITS, ELEMENT_BITS), f"left_{lane}")
            z_value = z_read.data.word_select(lane, Z_BITS)
            right = stages.register(
                Mux(i[SIGMA + 1], z_value, value[SIGMA + 1])[:ELEMENT_BITS].as_signed(), f"right_{lane}"
            )
            product = stages.register(left * right, f"product_{lane}")
            step_bits = Z_BITS - STATE_GUARD_BITS
            total = Cat(Const(STEP_HALF, step_bits), state[LATENCY]).as_signed() + product
            z.append(left[:Z_BITS])
            v.append(product[:X_BITS])
            s.append(stages.register(saturate(total >> step_bits, STATE_BITS), f"new_s_{lane}"))

        m.d.comb += [
            z_write.data.eq(Cat(*z)),
            self.o.valid.eq(g[LATENCY]),
            self.o.payload.x.eq(pack(v)),
            self.o.payload.last.eq(last[LATENCY]),
        ]

        # The new state, and the largest of it
        s_place, ones = Signal(range(s_depth)), Signal(STATE_BITS - 1)
        m.d.comb += [
            s_write.addr.eq(s_place),
            s_write.data.eq(Cat(*s)),
            s_write.en.eq(i[-1] & advance),
            self.state_shift.eq(state_bits - MANTISSA_BITS),
        ]
        if self.config.debug_tap:
            m.d.comb += [self.tap_s_valid.eq(s_write.en), self.tap_s.eq(s_write.data)]
        gathered = ones
        for element in s:
            gathered |= magnitude(element)
        with m.If(s_write.en):
            m.d.sync += [s_place.eq(s_place + 1), ones.eq(gathered)]
        with m.If(advance & i[0] & first):  # no I is in flight: G came between
            m.d.sync += [s_place.eq(p.state_base), ones.eq(0)]
        with m.If(advance & g[0] & first):
            m.d.sync += state_bits.eq(bit_length(ones))

        # Sum of g^2, done long before the last v
        level = [stages.register(value[1] * value[1], f"square_{lane}")[:-1] for lane, value in enumerate(values)]
        stage = 2
        while len(level) > 1:
            level = [stages.register(a + b, "squares") for a, b in zip(level[::2], level[1::2], strict=True)]
            stage += 1
        with m.If(advance & g[stage]):
            m.d.sync += self.g_squares.eq(self.g_squares + level[0])
        with m.If(advance & g[0] & first):
            m.d.sync += self.g_squares.eq(0)
        return m
