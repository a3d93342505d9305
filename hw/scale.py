"""The one scale of a row: sums to values of the elementwise path.

    sums 21 ─► round away cut bits (s18) ─► * mantissa (17) ─► >> shift, rounded ─► saturate ─► value
               G, UP: the cut sums themselves           HEAD: the raw sums, and their scores
    EMBED:     12-bit mantissa of e4s12 ─────────────► >> shift + exponent of the element

One product a row. The definition is ``model_ref.ternary.scale_sums`` (and ``model_ref.model.embed``).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, VALUE_BITS, Op, scale_payload, values_payload
from lutern.hw.pipeline import CreditFifo, Stages, beyond, saturate
from lutern.model_ref import model as network
from lutern.model_ref.fixed import MANTISSA_BITS, S18_MAX, S32_MAX, Int
from lutern.model_ref.quantise import IntegerWeights
from lutern.model_ref.ternary import SHIFT_MAX, SHIFT_MIN, SUM_BITS, cut_sums, scale_sums

SHIFT_BITS = (SHIFT_MAX - SHIFT_MIN).bit_length()
CUT_MAX = 7
PRODUCT_BITS = 18 + MANTISSA_BITS
PART_BITS = 64
"""Bits of the values' FIFO that lie together: op, stream and index apart from what is calculated with."""
HALF = 1
"""Rounds the product, which is shifted with one fraction bit more."""
EMBED_MANTISSA_BITS = 12
"""Low bits of e4s12, signed; the exponent stands above them."""


class SumScale(wiring.Component):
    """Scales P sums a cycle.

    Members: ``i`` sums with the constants of their operation (``scale_payload``), which come with every beat: beats of
    several streams mix; for EMBED a sum's low 16 bits are the e4s12 code. ``o`` values (``values_payload``): s18 for F,
    I, G, GATE, UP; s32 for RESIDUAL and EMBED; the raw sums for HEAD, whose scaled sums are ``scores`` (s32; anything
    for other operations). ``saturated`` pulses ``latency`` cycles after a beat of I, GATE or RESIDUAL has entered of
    which a value does not fit (a proved model has none).

    Latency: 7. Cost with one lane: 614 LUT4, 145 CCU2C, 794 flip-flops, 30 distributed RAMs, one 18 x 18 product.

    Reference: ``model``.
    """

    latency = 7

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(scale_payload(config))),
                "o": Out(stream.Signature(values_payload(config))),
                "saturated": Out(1),
            }
        )

    @staticmethod
    def model(op: Op, sums: Int, cut: int, mantissa: int, shift: int) -> tuple[Int, bool]:
        """Values of a beat and whether one of them counts as saturated; ``sums`` of EMBED are codes of e4s12."""
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
        """Scores of a beat of HEAD."""
        scale = np.array([mantissa]), np.array([-shift - cut])
        return scale_sums(np.asarray(sums, dtype=np.int64)[None], cut, scale, 0, S32_MAX)[0]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        stages = Stages(m)
        i = self.i.payload
        m.submodules.scaled = scaled = CreditFifo(values_payload(self.config), PART_BITS)
        enters = self.i.valid & scaled.room
        behind = self.latency - scaled.latency
        m.d.comb += [
            self.i.ready.eq(scaled.room),
            scaled.enters.eq(enters),
            scaled.i.valid.eq(stages.valid(enters, behind)),
        ]
        kept = ["bounds", "op", "frac", "state_base", "index", "last", *(["stream"] if self.config.streams > 1 else [])]
        carried = stages.delay(Cat(*[i[name] for name in kept]), behind, "carried")
        op_early = stages.delay(i.op, 2, "op_early")
        op_late = stages.delay(op_early, 4, "op_late")
        mantissa = stages.delay(i.mantissa, 2, "mantissa")
        shift = stages.register(i.shift, "shift")

        lanes = [
            self._lane(m, stages, i.sums.word_select(lane, SUM_BITS).as_signed(), i, mantissa, shift, op_early, op_late)
            for lane in range(self.config.results_per_cycle)
        ]
        given = scaled.i.payload
        m.d.comb += [
            given.values.eq(Cat(*[value for value, _, _ in lanes])),
            given.scores.eq(Cat(*[score for _, score, _ in lanes])),
            Cat(*[given[name] for name in kept]).eq(carried),
        ]
        m.d.sync += self.saturated.eq(scaled.i.valid & Cat(*[outside for _, _, outside in lanes]).any())
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
    ) -> tuple[Value, Value, Value]:
        # 1: half of what is cut away is added; 2: it is cut, and saturated to 18 bits; the shift of the element
        half = Signal(CUT_MAX)
        m.d.comb += half.eq((1 << i.cut) >> 1)
        added = Signal(signed(SUM_BITS + 1))
        embed = i.op == Op.EMBED
        m.d.comb += added.eq(Mux(embed, sums[:EMBED_MANTISSA_BITS].as_signed(), sums + half))
        rounded = stages.register(added, "added") >> stages.register(Mux(embed, 0, i.cut), "cut_bits")
        cut = stages.register(saturate(rounded, 18), "cut")
        exponent = stages.register(Mux(embed, sums[EMBED_MANTISSA_BITS:ITEM_BITS], 0), "exponent")
        raw = stages.delay(sums, 2, "raw")
        total = stages.register(shift + exponent, "total")

        # 3: product; the shift from 0 (left by 15) on
        product = stages.register(cut * mantissa.as_unsigned(), "product")
        clamped = Mux(total < SHIFT_MIN, SHIFT_MIN, Mux(total > SHIFT_MAX, SHIFT_MAX, total))
        amount = stages.register((clamped - SHIFT_MIN)[:SHIFT_BITS], "amount")
        plain = Mux(op_early == Op.HEAD, raw, cut)

        # 4, 5: barrel shift with one fraction bit more, coarse then fine
        wide = Cat(Const(0, 1 - SHIFT_MIN), product).as_signed()
        coarse = stages.register(wide >> Cat(Const(0, 3), amount[3:]), "coarse")
        fine_amount = stages.register(amount[:3], "fine_amount")
        fine = stages.register((coarse >> fine_amount)[: PRODUCT_BITS - SHIFT_MIN + 1].as_signed(), "fine")

        # 6: round; 7: saturate and select, into the FIFO
        nearest = stages.register((fine + HALF) >> 1, "nearest")
        small = (op_late == Op.F) | (op_late == Op.I) | (op_late == Op.GATE)
        score = saturate(nearest, VALUE_BITS)
        scaled = Mux(small, saturate(nearest, 18), score)
        unscaled = (op_late == Op.G) | (op_late == Op.UP) | (op_late == Op.HEAD)
        chosen = Signal(signed(VALUE_BITS))
        m.d.comb += chosen.eq(Mux(unscaled, stages.delay(plain, 4, "plain"), scaled))
        # Compared with the limits and not with the value chosen: one carry chain, not two.
        outside = Mux(small, beyond(nearest, 18), beyond(nearest, VALUE_BITS))
        counted = (op_late == Op.I) | (op_late == Op.GATE) | (op_late == Op.RESIDUAL)
        return chosen, score, counted & outside
