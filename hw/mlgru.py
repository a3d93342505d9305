"""The MLGRU computes P elements of the gated recurrence per cycle. The operations F, I and G share one pipeline.

    i ─► S read ─► hold ─► sigma(-f | a | S) ─► bound | a | S_m  * sigma ─► - S ─► * (z | g) ─► FIFO ─► v ─► o   op G
       1         2        8                                        9        10             11
                                                                    └─► z memory             └─► + S ─► S memory
                                                                          op F               11      12       op I

    F: z = sigma(-f) * bound, written to the z memory
    I: S += z * (a * sigma(a) - S)
    G: v = g * (S_m * sigma(S)), and the sum of g^2

f, a and g are the values of the operations F, I and G, and hold is a register for the S that was read. mulA is the
product with sigma (stage 9), and mulB is the product with z or g (stage 11). S_m is S, shifted so that the largest S of
the layer has 18 bits. This shift comes as late as possible, in stages 7 and 8. I subtracts S together with the rounding
constant.

With several streams, z, the newest S (which G reads), the largest S and the sum of g^2 are stored for each stream. I
reads the memory of S as late as possible, in stage 6, because a ``chained`` stream reads the S that the previous stream
writes.

If ``state`` is "memory", a *window* replaces the memory of S and the memory of the newest S. The window stores one
layer's S of every stream. I reads a place of the window in stage 6, and later writes the new S to the same place. G
reads the new S there. ``hw/state_dma.py`` loads and saves the window.

Cost for each of the P elements, without the sigmoid: three products (mulA, mulB, g^2). Memory: 17 bits of z for each
element of a vector, and 32 bits of S for each element and layer. With several streams, each stream needs this memory,
and in addition 32 bits for the newest S of each element. A window needs 32 bits for each element and stream.

Interlocks stall a beat at the input:

- A beat of I stalls if a beat of F was accepted in one of the previous two cycles, because I may need the z of this
  beat of F.
- If ``chained`` is 1, a beat of I stalls if a beat of I with the same index was accepted in one of the previous six
  cycles.
- I stalls until the window is loaded.
- G stalls as long as the largest S might not be known when G reaches stage ``ALIGN``. After a vector of at most
  ``FEW_BEATS`` beats, G stalls until S is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import SIGMOID_STAGES, sigmoid_signature, use_sigmoid
from lutern.hw.config import HwConfig
from lutern.hw.gate_memory import GATE_BITS, gates_signature
from lutern.hw.layouts import BOUND_BITS, STATE_BITS, VALUE_BITS, Op, values_payload, x_payload
from lutern.hw.pipeline import (
    CreditFifo,
    Stages,
    beats_memory,
    index_of,
    magnitude,
    new_memory,
    pack,
    place_at,
    place_count,
    place_of,
    read_ahead_of_register,
    read_register,
    saturate,
    shift_right,
    stream_of,
    vector_memory,
)
from lutern.hw.state_dma import unit_shape, window_signature
from lutern.model_ref import mlgru
from lutern.model_ref.activation import SIGMOID_FRAC_BITS
from lutern.model_ref.fixed import MANTISSA_BITS, Int
from lutern.model_ref.mlgru import STATE_GUARD_BITS, Z_BITS
from lutern.model_ref.norm import X_BITS

ELEMENT_BITS = 18
SQUARES_BITS = 48
SIGMA = 2 + SIGMOID_STAGES
"""Stage in which sigma is valid. The following stages hold the product of mulA, the operand of mulB, the product of
mulB (v) and the new state."""
V_STAGE = SIGMA + 2
"""Stage in which both factors of v are valid. Their product goes into the FIFO at the output."""
WRITTEN = V_STAGE + 2
"""Stage in which the new S is written."""
ALIGN = SIGMA - 2
"""Stage in which G uses the bits of the largest S."""
G_AFTER_I = WRITTEN + 1 - (ALIGN - 1)
"""Number of cycles from the last beat of I to the first beat of G. After this time the largest S is known when G
reaches ``ALIGN``."""
FEW_BEATS = WRITTEN + 1 - G_AFTER_I
"""After a vector of at most this many beats, G stalls until no beat of I is in flight, because G reads S in stage 1."""
S_READ = SIGMA - 2
"""Stage in which I reads S, with several streams or a window. This is two stages before the subtraction, one for the
block RAM and one for a register."""

GATE_HALF = 1 << (SIGMOID_FRAC_BITS - 1)
"""This half is added to the product of mulA in all three operations. Dropping the fraction bits of sigma then rounds
the product."""
DIFFERENCE_HALF = (1 << (STATE_GUARD_BITS - 1)) - 1
"""S is subtracted from this number, because ``-rsh(S, 14)`` equals ``(2^13 - 1 - S) >> 14``, which needs one
subtraction. ``model_ref.fixed.rsh`` defines ``rsh``."""
STEP_HALF = 1 << (Z_BITS - STATE_GUARD_BITS - 1)
"""This half is added to the step of S. Dropping the low bits then rounds the step."""


def bit_length(value: Value) -> Value:
    """Return the number of bits of a value. Each level of the search halves the value.

    Parameters
    ----------
    value : Value
        Unsigned, at most 31 bits.

    Returns
    -------
    Value
        0 to 31, and 0 for the value 0. The result is combinational.
    """
    value = (value << 1)[:32] | 1  # now the result is the position of the highest 1, also for 0
    bits: list[Value] = []
    for half in (16, 8, 4, 2, 1):
        bits.insert(0, value[half:].any())
        value = Mux(bits[0], value[half:], value[:half])
    return Cat(*bits)


def chain(stages: Stages, value: Any, count: int, name: str, *, reset_less: bool = True) -> list[Any]:
    """Return a value and its delays.

    Parameters
    ----------
    stages : Stages
        Adds the registers.
    value : ValueLike
        The value.
    count : int
        Number of delays.
    name : str
        Prefix of the registers' names. The number of the stage follows the prefix.
    reset_less : bool
        A reset does not clear the registers.

    Returns
    -------
    list
        ``count`` + 1 items: item k is the value in stage k.
    """
    items = [value]
    for stage in range(1, count + 1):
        items.append(stages.register(items[-1], f"{name}_{stage}", reset_less=reset_less))
    return items


def stream_memory(config: HwConfig, bits: int) -> Any:
    """Return a memory of one word of ``bits`` for each stream."""
    return new_memory(bits, config.streams, attrs={"ram_style": "distributed"})


class Mlgru(wiring.Component):
    """Computes the recurrence: gates, the state of all layers, and the output that enters o_proj.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) elements per beat, ``streams`` (T). ``max_width`` and ``max_state`` size the memories
        of z and S. ``state`` "memory" replaces the memory of S by a window. ``debug_tap`` adds the tap.

    Members
    -------
    i : stream of ``layouts.values_payload``, input
        For every layer the beats of F, then the beats of I, then the beats of G. All values have 18 bits signed. In F,
        ``values`` are in Q4.13, ``frac`` is 13 and ``bounds`` are 1 - LB. In I, ``values`` have ``frac`` fraction bits.
        In G, ``values`` are cut sums, and ``frac`` is the number of fraction bits of S. ``state_base`` is the first
        beat of the layer's S. I uses ``state_base``. On a machine of one stream G uses ``state_base``, too. Only beats
        of I and G stall, so the block is ready for the values of other blocks.
    fresh : T bits, input
        If bit t is 1 while a beat of I of stream t enters, the beat uses 0 in place of S.
    bases : T values of ``state_bits``, input, state "block"
        The base of each stream's state, which is added to ``state_base``. Constant from the first beat of I to the last
        beat of G.
    window : ``state_dma.window_signature``, input, state "memory"
        Loads and saves the window. A machine with a window does not use ``state_base``.
    final_stream : ``stream_bits`` bits, input, state "memory"
        The last stream of the run. The last beat of this stream ends I or G of a layer.
    chained : 1 bit, input
        If this is 1, each stream continues from the state that the previous stream leaves. All ``bases`` are then
        equal, and ``fresh`` is 0 from stream 1 on. A machine of one stream ignores ``chained``.
    o : stream of ``layouts.x_payload``, output
        The elements v of op G. F and I have no output.
    sigmoid : ``activation.sigmoid_signature``, output
        The shared sigmoid.
    gates : ``gate_memory.gates_signature``, output
        The shared memory, which keeps z from F to I.
    eps_stream : ``stream_bits`` bits, input
        Selects the stream of ``g_squares`` and ``state_shift``. The two outputs follow one cycle later. A machine of
        one stream ignores ``eps_stream``.
    g_squares : 48 bits, output
        The exact sum of g^2. Valid from the transfer of the stream's last v until the first beat of the stream's
        next G is accepted.
    state_shift : 7 bits signed, output
        The right shift that reduces S to 17 bits. Valid in the same cycles as ``g_squares``.
    tap_s_valid : 1 bit, output, ``debug_tap``
        A beat of the new S is written in this cycle.
    tap_s : P values of 32 bits, output, ``debug_tap``
        The new S.
    tap_s_stream : ``stream_bits`` bits, output, ``debug_tap``
        The stream of ``tap_s``.
    tap_s_index : ``index_bits`` bits, output, ``debug_tap``
        The index of the beat ``tap_s`` in its vector.

    Numerics
    --------
    Equal to ``model_ref.mlgru``, bit for bit. Each of the P elements uses three multipliers in addition to the
    multiplier of the sigmoid. Their operands have 18 bits, and registers precede and follow each multiplier.

    Latency
    -------
    ``latency`` = 11 cycles from a beat of G to its v. The first beat of G is accepted at the earliest 8 cycles after
    the last beat of I, or 13 cycles if the vector has five beats or fewer. If ``chained`` is 1, a beat of I is accepted
    at the earliest 7 cycles after the beat with the same index in the previous stream.

    Reference
    ---------
    Paper, section 3.3.1.
    """

    latency = V_STAGE + CreditFifo.latency

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        members = {
            "i": In(stream.Signature(values_payload(config))),
            "fresh": In(config.streams),
            **(
                {"window": In(window_signature(config)), "final_stream": In(config.stream_bits)}
                if config.state == "memory"
                else {"bases": In(config.streams * config.state_bits)}
            ),
            "chained": In(1),
            "o": Out(stream.Signature(x_payload(config))),
            "sigmoid": Out(sigmoid_signature(config)),
            "gates": Out(gates_signature(config)),
            "eps_stream": In(config.stream_bits),
            "g_squares": Out(SQUARES_BITS),
            "state_shift": Out(signed(7)),
        }
        if config.debug_tap:
            members |= {
                "tap_s_valid": Out(1),
                "tap_s": Out(config.results_per_cycle * STATE_BITS),
                "tap_s_stream": Out(config.stream_bits),
                "tap_s_index": Out(config.index_bits),
            }
        super().__init__(members)

    @staticmethod
    def model(
        f: Int, bound: Int, i: Int, g: Int, state: Int, frac_bits: int, state_frac_bits: int
    ) -> tuple[Int, Int, int, int]:
        """Return v, the new S, ``g_squares`` and ``state_shift`` of one layer.

        Parameters
        ----------
        f, bound, i, g, state
            Whole vectors. ``f``, ``i`` and ``g`` are the values of the three operations, ``bound`` is 1 - LB, and
            ``state`` is S before this token.
        frac_bits
            Number of fraction bits of ``i``.
        state_frac_bits
            Number of fraction bits of S.
        """
        new = mlgru.update_state(state, mlgru.forget_gate(f, bound), i, frac_bits)
        v = mlgru.gated_output(np.asarray(g), new, state_frac_bits)
        return v, new, int((np.asarray(g) ** 2).sum()), int(mlgru.state_shift(new))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        lanes = range(config.results_per_cycle)
        p = self.i.payload
        accepted, hold = Signal(), Signal()
        stages = Stages(m)
        m.submodules.sent = sent = CreditFifo(x_payload(config))

        # The operation, place and last bit of each stage
        f = chain(stages, accepted & (p.op == int(Op.F)), SIGMA + 2, "f", reset_less=False)
        i = chain(stages, accepted & p.of_i, WRITTEN, "i", reset_less=False)
        g = chain(stages, accepted & p.of_g, V_STAGE, "g", reset_less=False)
        last = chain(stages, p.last, WRITTEN, "last")
        place = chain(stages, place_of(config, p), WRITTEN, "place")
        begins = chain(stages, index_of(config, place[0]) == 0, WRITTEN, "begins")

        # Beats in flight that may stall the beat at the input: F in stages 1 and 2, I before stage G_AFTER_I
        f_near, i_inside, few = Signal(), Signal(), Signal()
        with m.If(i[0]):
            m.d.sync += few.eq(index_of(config, place[0]) < FEW_BEATS)
        far = (few | (i[0] & (index_of(config, place[0]) < FEW_BEATS))) & Cat(i[G_AFTER_I - 1 : -1]).any()
        m.d.sync += [f_near.eq(f[0] | f[1]), i_inside.eq(Cat(i[: G_AFTER_I - 1]).any() | far)]
        m.d.comb += [
            hold.eq((p.of_i & (f_near | self._s_missing(i, place))) | (p.of_g & (i_inside | ~sent.room))),
            accepted.eq(self.i.valid & ~hold),
            self.i.ready.eq(~hold),
            sent.enters.eq(g[0]),
        ]

        # z is written in stage 10. The read begins in stage 8, so z is valid in stage 9
        m.d.comb += [
            self.gates.read_place.eq(place[SIGMA]),
            self.gates.place.eq(place[SIGMA + 2]),
            self.gates.write.eq(f[SIGMA + 2]),
        ]

        new_s = Signal(len(lanes) * STATE_BITS)
        if config.state == "memory":
            held, past = self._window(m, stages, i, place, new_s)
            m.d.comb += [
                self.window.written.eq(self._ends(i[WRITTEN], last[WRITTEN], place[WRITTEN])),
                self.window.used.eq(self._ends(g[1], last[1], place[1])),
            ]
        else:
            held, past = self._states(m, stages, i, place, new_s)
        ones = Signal(len(lanes) * (STATE_BITS - 1))
        state_bits = self._largest(m, stages, i, g, place, begins, ones)
        frac = stages.delay(p.frac, 2, "frac")
        values, states, arguments, operands = [], [], [], []
        for lane in lanes:
            value, argument, operand = self._enter_lane(m, stages, lane, f, i, g, held[lane], state_bits)
            values.append(value)
            arguments.append(argument)
            operands.append(operand)
            states.append(stages.delay(past[lane], WRITTEN - 1 - SIGMA, f"past_{lane}"))
        sigmas = use_sigmoid(m, self.sigmoid, arguments, frac)

        z, v, s = [], [], []
        for lane, value in enumerate(values):
            gated = stages.register(operands[lane] * sigmas[lane], f"gated_{lane}")
            z_value = self.gates.read_data.word_select(lane, GATE_BITS)[:Z_BITS]
            left, product, new = self._finish_lane(stages, lane, i, value, gated, z_value, past[lane], states[lane])
            z.append(Cat(left[:Z_BITS], Const(0, GATE_BITS - Z_BITS)))
            v.append(product[:X_BITS])
            s.append(new)

        m.d.comb += [
            self.gates.data.eq(Cat(*z)),
            new_s.eq(pack(s)),
            ones.eq(pack([magnitude(element) for element in s])),
            sent.i.valid.eq(g[V_STAGE]),
            sent.i.payload.x.eq(pack(v)),
            sent.i.payload.stream.eq(stream_of(config, place[V_STAGE])),
            sent.i.payload.index.eq(index_of(config, place[V_STAGE])),
            sent.i.payload.last.eq(last[V_STAGE]),
        ]
        wiring.connect(m, sent.o, wiring.flipped(self.o))
        if config.debug_tap:
            m.d.comb += [
                self.tap_s_valid.eq(i[WRITTEN]),
                self.tap_s.eq(new_s),
                self.tap_s_stream.eq(stream_of(config, place[WRITTEN])),
                self.tap_s_index.eq(index_of(config, place[WRITTEN])),
            ]

        # The sum of g^2 is complete long before the last v
        level = [stages.register(value[1] * value[1], f"square_{lane}")[:-1] for lane, value in enumerate(values)]
        stage = 2
        while len(level) > 1:
            level = [stages.register(a + b, "squares") for a, b in zip(level[::2], level[1::2], strict=True)]
            stage += 1
        self._add_squares(m, g[stage], begins[stage], place[stage], level[0])
        return m

    def _enter_lane(
        self,
        m: Module,
        stages: Stages,
        lane: int,
        f: list[Any],
        i: list[Any],
        g: list[Any],
        held: Any,
        state_bits: Value,
    ) -> tuple[list[Any], Value, Any]:
        """Build the stages of a lane before its product with sigma. Return the lane's value in every stage, the
        argument of sigma, and the factor that is multiplied by sigma."""
        p = self.i.payload
        value = chain(
            stages, p.values.word_select(lane, VALUE_BITS)[:ELEMENT_BITS].as_signed(), SIGMA + 1, f"value_{lane}"
        )
        bound = stages.delay(p.bounds.word_select(lane, BOUND_BITS), SIGMA - 1, f"bound_{lane}")
        signed_value = stages.register(Mux(f[1], -value[1], value[1])[:ELEMENT_BITS].as_signed(), f"signed_{lane}")
        argument = Mux(g[2], held, signed_value)[:STATE_BITS].as_signed()
        # S_m is shifted to one extra bit, and then rounded
        late = stages.delay(held, ALIGN - 2, f"held_{lane}")
        wide = Cat(Const(0, MANTISSA_BITS + 1), late).as_signed()
        aligned = stages.register(shift_right(m, wide, state_bits, ELEMENT_BITS + 1)[0], f"aligned_{lane}")
        aligned = saturate((aligned + 1) >> 1, ELEMENT_BITS)
        stage = SIGMA - 1
        operand = Mux(f[stage], bound, Mux(i[stage], value[stage], aligned))[:ELEMENT_BITS].as_signed()
        return value, argument, stages.register(operand, f"operand_{lane}")

    def _finish_lane(
        self,
        stages: Stages,
        lane: int,
        i: list[Any],
        value: list[Any],
        gated: Any,
        z_value: Value,
        past: Any,
        state: Any,
    ) -> tuple[Any, Any, Any]:
        """Build the stages of a lane after its product with sigma. Return the new S, and z and v before these are
        narrowed."""
        minus_s = ((DIFFERENCE_HALF - past) >> STATE_GUARD_BITS)[: ELEMENT_BITS + 1]
        minus_s = stages.register(Mux(i[SIGMA], minus_s, 0), f"minus_s_{lane}")
        offset = Cat(Const(GATE_HALF, SIGMOID_FRAC_BITS), minus_s).as_signed()
        left = stages.register(saturate((gated + offset) >> SIGMOID_FRAC_BITS, ELEMENT_BITS), f"left_{lane}")
        right = stages.register(
            Mux(i[SIGMA + 1], z_value, value[SIGMA + 1])[:ELEMENT_BITS].as_signed(), f"right_{lane}"
        )
        v = left * right
        product = stages.register(v, f"product_{lane}")
        step_bits = Z_BITS - STATE_GUARD_BITS
        total = Cat(Const(STEP_HALF, step_bits), state).as_signed() + product
        return left, v, stages.register(saturate(total >> step_bits, STATE_BITS), f"new_s_{lane}")

    def _s_missing(self, i: list[Any], place: list[Any]) -> Value:
        """Return whether the S that op I needs is missing, because the window is not loaded, or because the previous
        stream of a chained run has not written S yet."""
        missing = ~self.window.loaded if self.config.state == "memory" else Const(0, 1)
        if self.config.streams == 1:
            return missing
        index = [index_of(self.config, where) for where in place]
        near = self.chained & Cat(i[k] & (index[k] == index[0]) for k in range(1, WRITTEN - S_READ + 1)).any()
        return missing | near if self.config.state == "memory" else near

    def _ends(self, valid: Value, last: Value, place: Value) -> Value:
        """Return whether a beat ends the vector of the final stream."""
        return valid & last & (stream_of(self.config, place) == self.final_stream)

    def _window(
        self, m: Module, stages: Stages, i: list[Any], place: list[Any], new_s: Value
    ) -> tuple[list[Any], list[Any]]:
        """Add the window, which stores one layer's S of every stream. Return the same two lists as ``_states``. I and G
        never read the window in the same cycle."""
        config, p, window = self.config, self.i.payload, self.window
        depth = -(-config.max_width // config.results_per_cycle)
        whole = unit_shape(config)[0]
        depth = -(-depth // whole) * whole
        memory = m.submodules.window_memory = beats_memory(config, STATE_BITS, place_count(config, depth))
        write = memory.write_port()
        early = place[S_READ - 1]
        source = stream_of(config, early)
        if config.streams > 1:
            source = (source - (self.chained & source.any()))[: config.stream_bits]
        where = stages.register(place_at(config, index_of(config, early), source), "s_read")
        granted = ~(self.i.valid & p.of_g)
        read = read_register(m, memory, Mux(i[S_READ], where, Mux(granted, window.place, place[0])))
        m.d.comb += [
            window.granted.eq(granted),
            window.data.eq(read),
            write.addr.eq(Mux(i[WRITTEN], place[WRITTEN], window.place)),
            write.data.eq(Mux(i[WRITTEN], new_s, window.fill_data)),
            write.en.eq(i[WRITTEN] | window.fill),
        ]
        fresh = stages.delay(self.fresh.bit_select(p.stream, 1), S_READ + 1, "fresh")
        lanes = [read.word_select(lane, STATE_BITS).as_signed() for lane in range(config.results_per_cycle)]
        held = [stages.register(element, "held") for element in lanes]
        zero = Const(0, signed(STATE_BITS))
        return held, [stages.register(Mux(fresh, zero, element), "past") for element in lanes]

    def _states(
        self, m: Module, stages: Stages, i: list[Any], place: list[Any], new_s: Value
    ) -> tuple[list[Any], list[Any]]:
        """Add the memories of S. Return for each lane the S that G uses in stage 2, and the S that I uses in stage
        ``SIGMA``."""
        config, p = self.config, self.i.payload
        lanes = range(config.results_per_cycle)
        depth = -(-config.max_state // len(lanes))
        memory = m.submodules.s_memory = beats_memory(config, STATE_BITS, depth)
        write = memory.write_port()
        m.d.comb += [write.data.eq(new_s), write.en.eq(i[WRITTEN])]
        base = Signal(config.state_bits)  # the base of the layer whose I is at the input or in flight
        waiting = self.i.valid & p.of_i

        def parts(value: Any) -> list[Value]:
            return [value.word_select(lane, STATE_BITS).as_signed() for lane in lanes]

        def zero_if(fresh: Value, value: Value) -> Value:
            return Mux(fresh, Const(0, signed(STATE_BITS)), value)

        if config.streams == 1:
            start = p.state_base + self.bases
            with m.If(waiting):
                m.d.sync += base.eq(start)
            m.d.comb += write.addr.eq(stages.register((base + place[WRITTEN - 1])[: config.state_bits], "s_write"))
            fresh = i[1] & stages.register(self.fresh, "fresh_1")
            where = (start + place[0])[: len(write.addr)]
            now = parts(read_ahead_of_register(m, config, stages, memory, where))
            held = [stages.register(zero_if(fresh, element), "held") for element in now]
            return held, [stages.delay(element, SIGMA - 2, "past") for element in held]

        with m.If(waiting):
            m.d.sync += base.eq(p.state_base)
        early = place[S_READ - 2]
        own_base = self.bases.word_select(stream_of(config, early), config.state_bits)
        offset = stages.register((own_base + index_of(config, early))[: config.state_bits], "s_offset")
        where = stages.register((offset + base)[: len(write.addr)], "s_read")
        newest = m.submodules.newest_memory = vector_memory(config, STATE_BITS)
        newest_write = newest.write_port()
        m.d.comb += [
            write.addr.eq(stages.delay(where, WRITTEN - S_READ, "s_write")),
            newest_write.addr.eq(place[WRITTEN]),
            newest_write.data.eq(new_s),
            newest_write.en.eq(write.en),
        ]
        fresh = stages.delay(self.fresh.bit_select(p.stream, 1), S_READ + 1, "fresh")
        now = parts(read_register(m, newest, place[0]))
        old = parts(read_register(m, memory, where))
        held = [stages.register(element, "held") for element in now]
        return held, [stages.register(zero_if(fresh, element), "past") for element in old]

    def _largest(
        self, m: Module, stages: Stages, i: list[Any], g: list[Any], place: list[Any], begins: list[Any], ones: Value
    ) -> Value:
        """Return the number of bits of a stream's largest new |S|, valid in stage ``ALIGN`` of the stream's G. ``ones``
        contains every new |S| of the beat."""
        config = self.config
        kept = STATE_BITS - 1
        parts = [ones.word_select(lane, kept) for lane in range(config.results_per_cycle)]
        if config.streams == 1:
            largest, state_bits = Signal(kept), Signal(STATE_BITS.bit_length() - 1)
            gathered = Mux(begins[WRITTEN], 0, largest)
            for part in parts:
                gathered |= part
            with m.If(i[WRITTEN]):
                m.d.sync += largest.eq(gathered)
            with m.If(g[ALIGN - 1] & begins[ALIGN - 1]):
                m.d.sync += state_bits.eq(bit_length(largest))
            m.d.comb += self.state_shift.eq(state_bits - MANTISSA_BITS)
            return state_bits

        memory = m.submodules.largest = stream_memory(config, kept)
        old, write = memory.read_port(domain="comb"), memory.write_port()
        gathered = Mux(begins[WRITTEN], 0, old.data)
        for part in parts:
            gathered |= part
        used = memory.read_port(domain="comb")
        state_bits = stages.register(bit_length(used.data), "state_bits")
        shifts = m.submodules.state_bits = stream_memory(config, len(state_bits))
        shift_write, shift = shifts.write_port(), shifts.read_port()
        m.d.comb += [
            old.addr.eq(stream_of(config, place[WRITTEN])),
            write.addr.eq(old.addr),
            write.data.eq(gathered),
            write.en.eq(i[WRITTEN]),
            used.addr.eq(stream_of(config, place[ALIGN - 1])),
            shift_write.addr.eq(stream_of(config, place[ALIGN])),
            shift_write.data.eq(state_bits),
            shift_write.en.eq(g[ALIGN]),
            shift.addr.eq(self.eps_stream),
            self.state_shift.eq(shift.data - MANTISSA_BITS),
        ]
        return state_bits

    def _add_squares(self, m: Module, enable: Value, begins: Value, place: Value, squares: Value) -> None:
        """Add the squares of a beat to the sum of its stream."""
        config = self.config
        if config.streams == 1:
            with m.If(enable):
                m.d.sync += self.g_squares.eq(Mux(begins, 0, self.g_squares) + squares)
            return
        memory = m.submodules.squares = stream_memory(config, SQUARES_BITS)
        old, shown, write = memory.read_port(domain="comb"), memory.read_port(), memory.write_port()
        m.d.comb += [
            old.addr.eq(stream_of(config, place)),
            write.addr.eq(old.addr),
            write.data.eq(Mux(begins, 0, old.data) + squares),
            write.en.eq(enable),
            shown.addr.eq(self.eps_stream),
            self.g_squares.eq(shown.data),
        ]
