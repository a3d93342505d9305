"""The scale unit turns sums of the ternary unit into values of the elementwise path.

    sums 21 ─► round away cut bits (s18) ─► * mantissa (17) ─► >> shift ─► rounded, saturated ─► FIFO ─► value
               G: the cut sums themselves               HEAD: the raw sums, and their scores
    UP:        the cut sums ─► glu                      RESIDUAL, EMBED: the values ─► residual
    EMBED:     12-bit mantissa of e4s12 ─────────────► >> shift + exponent of the element

The numbers are bits: a sum has 21 bits, and s18 is a signed number of 18 bits. The lanes wait for the results of UP,
RESIDUAL and EMBED (a barrier), so these values skip the FIFO. The place (stream and index) of such values leaves in the
cycle in which their sums enter, and the values follow after a fixed number of cycles. A beat is accepted only when the
block downstream has room for it.

There is one product for each of the P sums. ``model_ref.ternary.scale_sums`` and ``model_ref.model.embed`` define the
result.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    ITEM_BITS,
    VALUE_BITS,
    VALUE_CLASSES,
    Op,
    place_payload,
    scale_payload,
    value_classes,
    values_payload,
)
from lutern.hw.pipeline import CreditFifo, Stages, clamp, saturate, shift_right, spread
from lutern.model_ref import model as network
from lutern.model_ref.fixed import MANTISSA_BITS, S18_MAX, S32_MAX, Int
from lutern.model_ref.quantise import IntegerWeights
from lutern.model_ref.ternary import SHIFT_MAX, SHIFT_MIN, SUM_BITS, cut_sums, scale_sums

EMBED_MANTISSA_BITS = 12
"""Number of bits of the signed mantissa in the format e4s12. The mantissa is in the low bits, and the 4 bits of the
exponent are above."""
EXPONENT_BITS = ITEM_BITS - EMBED_MANTISSA_BITS
AMOUNT_BITS = (SHIFT_MAX - SHIFT_MIN).bit_length()
"""Number of bits of the shift of a product. The result of a longer shift is 0."""
BOUNDED_MIN = -(1 << EXPONENT_BITS)
"""A smaller shift of an operation acts like this shift, because the sum of this shift and the exponent of any element
is below 0, and a sum below 0 acts as 0."""
CUT_MAX = 7
PART_BITS = 64
"""Number of bits of a value that share one FIFO. op, stream and index are in a separate FIFO."""
CUT_VALUE_BITS = 18
HALF = 1
"""This half is added to the product after a shift that leaves one extra bit. Dropping the extra bit then rounds the
product."""


class SumScale(wiring.Component):
    """Scales P sums per cycle.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) sums per beat, ``streams`` (T).

    Members
    -------
    i : stream of ``layouts.scale_payload``, input
        Sums with the constants of their operation. Every beat carries its constants, so beats of different streams may
        follow one another in any order. For EMBED, the low 16 bits of a sum are an element as e4s12.
    o : stream of ``layouts.values_payload``, output
        Values of F, I, G and GATE (18 bits signed), or the raw sums of HEAD with their scaled sums in ``scores`` (32
        bits signed). For other operations than HEAD, ``scores`` is undefined.
    o_up : stream of ``layouts.place_payload``, output
        The place of a beat of UP, in the cycle in which the beat enters.
    cuts : P values of 18 bits signed, output
        The cut sums of UP, ``cut_latency`` cycles after their place.
    o_h : stream of ``layouts.place_payload``, output
        The place of a beat of RESIDUAL or EMBED, in the cycle in which the beat enters.
    h_values : P values of 32 bits signed, output
        The values of RESIDUAL or EMBED, ``latency`` cycles after their place.
    saturated : 1 bit, output
        Pulses if a value of a beat of I, GATE or RESIDUAL did not fit, ``latency`` cycles after the beat has entered. A
        model with proved ranges never causes this pulse.

    Numerics
    --------
    Equal to ``model_ref.ternary.scale_sums``, bit for bit. The cut sum saturates at 18 bits signed, symmetric. The
    product is shifted, rounded and saturated at 18 or 32 bits signed, symmetric. EMBED is equal to
    ``model_ref.model.embed``.

    Latency
    -------
    ``latency`` = 5 cycles to ``o`` and ``h_values``, ``cut_latency`` = 2 cycles to ``cuts``. A beat enters in every
    cycle. With P = 1 the block takes 650 LUT4, 54 CCU2C, 542 flip-flops, 29 distributed RAMs and one 18 x 18 product.

    Reference
    ---------
    ``model`` and ``score_model``.
    """

    latency = 5
    cut_latency = 2

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(scale_payload(config))),
                "o": Out(stream.Signature(values_payload(config))),
                "o_up": Out(stream.Signature(place_payload(config))),
                "cuts": Out(config.results_per_cycle * CUT_VALUE_BITS),
                "o_h": Out(stream.Signature(place_payload(config))),
                "h_values": Out(config.results_per_cycle * VALUE_BITS),
                "saturated": Out(1),
            }
        )

    @staticmethod
    def model(op: Op, sums: Int, cut: int, mantissa: int, shift: int) -> tuple[Int, bool]:
        """Return the values of a beat, and whether one of them counts as saturated.

        Parameters
        ----------
        op
            The operation.
        sums
            Sums of the beat, or for EMBED the elements of the beat as e4s12.
        cut
            Low bits of a sum that are rounded away before the product.
        mantissa, shift
            The scale. The product with ``mantissa`` is shifted right by ``shift``, or left if ``shift`` is negative.
        """
        sums = np.asarray(sums, dtype=np.int64)
        if op == Op.HEAD:
            return sums, False
        if op in (Op.G, Op.UP):
            return cut_sums(sums, cut), False
        if op == Op.EMBED:
            table = SimpleNamespace(mantissa=((sums & 0xFFF) ^ 0x800) - 0x800, exponent=sums >> 12 & 15, base=0)
            weights = SimpleNamespace(embeddings=table, h_frac_bits=MANTISSA_BITS - 1 - shift)
            return network.embed(cast(IntegerWeights, weights), np.arange(sums.size)), False
        scale = np.array([mantissa]), np.array([-shift - cut])
        wide = scale_sums(sums[None], cut, scale, 0, 1 << 62)[0]
        values = scale_sums(sums[None], cut, scale, 0, S32_MAX if op == Op.RESIDUAL else S18_MAX)[0]
        return values, bool((op != Op.F) and (values != wide).any())

    @staticmethod
    def score_model(sums: Int, cut: int, mantissa: int, shift: int) -> Int:
        """Return the scores of a beat of HEAD.

        Parameters
        ----------
        sums, cut, mantissa, shift
            As for ``model``.
        """
        scale = np.array([mantissa]), np.array([-shift - cut])
        return scale_sums(np.asarray(sums, dtype=np.int64)[None], cut, scale, 0, S32_MAX)[0]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        stages = Stages(m)
        i = self.i.payload
        m.submodules.scaled = scaled = CreditFifo(values_payload(self.config), PART_BITS)
        behind = self.latency - scaled.latency
        m.d.comb += [
            self.i.ready.eq(Mux(i.to_up, self.o_up.ready, Mux(i.to_h, self.o_h.ready, scaled.room))),
            scaled.enters.eq(self.i.valid & scaled.room & ~i.to_up & ~i.to_h),
            scaled.i.valid.eq(stages.valid(scaled.enters, behind)),
            self.o_up.valid.eq(self.i.valid & i.to_up),
            self.o_h.valid.eq(self.i.valid & i.to_h),
        ]
        for place in (self.o_up.payload, self.o_h.payload):
            m.d.comb += [place.adds.eq(i.op == Op.RESIDUAL), place.index.eq(i.index), place.last.eq(i.last)]
            m.d.comb += place.stream.eq(i.stream if self.config.streams > 1 else 0)
        entered = stages.valid(self.i.valid & self.i.ready, behind)
        kept = ["bounds", "op", "frac", "state_base", "index", "last", *(["stream"] if self.config.streams > 1 else [])]
        carried = stages.delay(Cat(*[i[name] for name in kept]), behind, "carried")
        op_early = stages.delay(i.op, 2, "op_early")
        op_late = stages.delay(op_early, 2, "op_late")
        mantissa = stages.delay(i.mantissa, 2, "mantissa")
        shift = stages.register(_bounded(stages.register(i.shift - SHIFT_MIN, "shift")), "bounded")

        lanes = [
            self._lane(m, stages, i.sums.word_select(lane, SUM_BITS).as_signed(), i, mantissa, shift, op_early, op_late)
            for lane in range(self.config.results_per_cycle)
        ]
        given = scaled.i.payload
        m.d.comb += [
            given.values.eq(Cat(*[value for value, _, _, _ in lanes])),
            given.scores.eq(Cat(*[score for _, score, _, _ in lanes])),
            Cat(*[given[name] for name in kept]).eq(carried),
            self.cuts.eq(Cat(*[cut for _, _, cut, _ in lanes])),
            self.h_values.eq(stages.register(given.scores, "h_values")),
        ]
        classes = stages.delay(Cat(*value_classes(i.op).values()), behind, "classes")
        m.d.comb += Cat(*[given[name] for name in VALUE_CLASSES]).eq(classes)
        m.d.sync += self.saturated.eq(entered & Cat(*[outside for _, _, _, outside in lanes]).any())
        wiring.connect(m, scaled.o, wiring.flipped(self.o))
        return m

    def _lane(
        self,
        m: Module,
        stages: Stages,
        sums: Value,
        i: Value,
        mantissa: Value,
        shift: Value,
        op_early: Value,
        op_late: Value,
    ) -> tuple[Value, Value, Value, Value]:
        """Build one lane. Return the value and the score before register 5, the cut sum after register 2, and whether
        the value saturates."""
        # 1: add half a unit of the last kept bit; 2: cut and saturate to 18 bits
        half = Signal(CUT_MAX)
        m.d.comb += half.eq((1 << i.cut) >> 1)
        added = Signal(signed(SUM_BITS + 1))
        embed = i.embeds
        m.d.comb += added.eq(Mux(embed, sums[:EMBED_MANTISSA_BITS].as_signed(), sums + half))
        rounded = stages.register(added, "added") >> stages.register(Mux(embed, 0, i.cut), "cut_bits")
        cut = stages.register(saturate(rounded, CUT_VALUE_BITS), "cut")
        raw = stages.delay(sums, 2, "raw")
        exponent = stages.delay(Mux(embed, sums[EMBED_MANTISSA_BITS:ITEM_BITS], 0), 2, "exponent")

        # 3: product. A shift amount of 0 means a shift of 15 to the left. The top bit marks amounts whose result is 0
        product = stages.register(cut * mantissa.as_unsigned(), "product")
        total = Signal(signed(AMOUNT_BITS + 2))
        m.d.comb += total.eq(shift + exponent)
        amount = stages.register(Mux(total[-1], 0, total[: AMOUNT_BITS + 1]), "amount")
        plain = Mux(op_early == Op.HEAD, raw, cut)

        # 4: barrel shift with one extra fraction bit
        wide = Cat(Const(0, 1 - SHIFT_MIN), product).as_signed()
        shifted = shift_right(m, wide, amount[:AMOUNT_BITS], VALUE_BITS + 1)
        fine, flags = (stages.register(Mux(amount[AMOUNT_BITS], 0, part)[: len(part)]) for part in shifted)
        fine = fine.as_signed()

        # 5: round, saturate and select, into the FIFO. The comparison uses the value before rounding, which saves a
        # carry chain in the path.
        nearest = Signal(signed(VALUE_BITS + 1))
        m.d.comb += nearest.eq((fine + HALF) >> 1)
        small = (op_late == Op.F) | (op_late == Op.I) | (op_late == Op.GATE)
        lost, sign = flags.any(), stages.register(product[-1], "sign")
        few_outside, outside = (lost | _rounds_beyond(fine, bits) for bits in (CUT_VALUE_BITS, VALUE_BITS))
        few = clamp(nearest, few_outside, sign, CUT_VALUE_BITS)
        score = clamp(nearest, outside, sign, VALUE_BITS)
        unscaled = (op_late == Op.G) | (op_late == Op.HEAD)
        chosen = Signal(signed(VALUE_BITS))
        m.d.comb += chosen.eq(Mux(unscaled, stages.delay(plain, 2, "plain"), few))
        counted = (op_late == Op.I) | (op_late == Op.GATE) | (op_late == Op.RESIDUAL)
        return chosen, score, cut, counted & Mux(small, few_outside, outside)


def _bounded(shift: Value) -> Value:
    """Clamp a shift, which counts from ``SHIFT_MIN``, to ``BOUNDED_MIN`` .. ``2^AMOUNT_BITS``. A product shifted by
    ``2^AMOUNT_BITS`` is 0."""
    near = shift[EXPONENT_BITS:-1].all()
    below = Mux(near, Cat(shift[:EXPONENT_BITS], Const(-1, 2)).as_signed(), BOUNDED_MIN)
    above = Mux(shift[AMOUNT_BITS:-1].any(), 1 << AMOUNT_BITS, shift[:AMOUNT_BITS])
    bounded = Mux(shift[-1], below, above)
    return bounded[: AMOUNT_BITS + 2].as_signed()


def _rounds_beyond(fine: Value, bits: int) -> Value:
    """Return whether ``(fine + 1) >> 1`` does not fit into ``bits`` signed bits, symmetric. The comparison needs no
    addition."""
    low, sign = fine[:bits], fine[-1]
    return spread(fine[bits:]) | Mux(sign, ~low.any(), low.all())
