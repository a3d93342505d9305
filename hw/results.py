"""The results stage: gives each sum the constants of its operation, and joins vectors with their gains.

    sums ────┐                                      x of mlgru, glu, residual ─┐
    bounds ──┼─► ResultsControl ─► scale            groups of gains ───────────┴─► GainJoin ─► norm
    row ─────┤        ▲
    scale ───┘        operations

An operation starts when its scale is there (EMBED and UP have none of their own), and ends with its last sum.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    BOUND_BITS,
    EMBEDDING_BITS,
    GAIN_BITS,
    GAINS_OP,
    RESULTS_OP,
    SCALAR,
    SCALE_SHIFT_BITS,
    TUPLE_GAINS,
    Op,
    gathered_payload,
    sums_payload,
    x_payload,
)
from lutern.hw.scale import scale_payload
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_ONE
from lutern.model_ref.ternary import SUM_BITS

GROUP = "group"


class ResultsControl(wiring.Component):
    """Feeds the scale unit, operation after operation.

    Members: ``i_op`` operations; ``i_scale`` one scale for each of them that has codes of its own; ``i_sums``;
    ``i_bounds`` groups of 1 - LB, joined with the sums of F; ``i_row`` groups of e4s12 codes, the input of EMBED;
    ``o`` to ``SumScale``; ``scale`` the last scale taken (HEAD's at the end of a token).

    Latency: 0 for sums; an operation starts 2 cycles after the last sum of the one before it, if its scale is there
    (UP, which has none of its own: 1 cycle).
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(RESULTS_OP)),
                "i_scale": In(stream.Signature(SCALAR)),
                "i_sums": In(stream.Signature(sums_payload(config))),
                "i_bounds": In(stream.Signature(StructLayout({GROUP: lanes * GAIN_BITS}))),
                "i_row": In(stream.Signature(StructLayout({GROUP: lanes * EMBEDDING_BITS}))),
                "o": Out(stream.Signature(scale_payload(config))),
                "scale": Out(SCALAR),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = self.config.results_per_cycle
        op, o = self.i_op.payload, self.o.payload
        have_scale = Signal()
        scale = Signal(SCALAR)
        shift = Signal(signed(SCALE_SHIFT_BITS))
        beat = Signal(16)
        embed, bounded = op.op == Op.EMBED, op.op == Op.F

        m.d.comb += [self.i_scale.ready.eq(self.i_op.valid & op.scaled & ~have_scale), self.scale.eq(scale)]
        with m.If(self.i_scale.valid & self.i_scale.ready):
            m.d.sync += [
                scale.eq(self.i_scale.payload),
                shift.eq(-(self.i_scale.payload.exponent + op.cut + op.frac)),
                have_scale.eq(1),
            ]

        run = self.i_op.valid & (have_scale | ~op.scaled)
        source = Mux(embed, self.i_row.valid, self.i_sums.valid & (self.i_bounds.valid | ~bounded))
        moved = run & source & self.o.ready
        last = Mux(embed, beat == op.beats - 1, self.i_sums.payload.last)
        rows = [
            Cat(self.i_row.payload.group.word_select(lane, EMBEDDING_BITS), Const(0, SUM_BITS - EMBEDDING_BITS))
            for lane in range(lanes)
        ]
        bounds = [self.i_bounds.payload.group.word_select(lane, GAIN_BITS)[:BOUND_BITS] for lane in range(lanes)]
        m.d.comb += [
            self.o.valid.eq(run & source),
            self.i_sums.ready.eq(moved & ~embed),
            self.i_row.ready.eq(moved & embed),
            self.i_bounds.ready.eq(moved & bounded),
            self.i_op.ready.eq(moved & last),
            o.sums.eq(Mux(embed, Cat(*rows), self.i_sums.payload.sums)),
            o.bounds.eq(Mux(bounded, Cat(*bounds), 0)),  # held, whatever the unpacker does meanwhile
            o.op.eq(op.op),
            o.cut.eq(op.cut),
            o.mantissa.eq(Mux(embed, MANTISSA_ONE, scale.mantissa)),
            o.shift.eq(Mux(embed, MANTISSA_BITS - 1 - op.base - op.frac, shift)),
            o.frac.eq(op.frac),
            o.state_base.eq(op.state_base),
            o.last.eq(last),
        ]
        with m.If(moved):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
            with m.If(last):
                m.d.sync += have_scale.eq(0)
        return m


class GainJoin(wiring.Component):
    """Joins a vector with its gains, and tells the unpacker whose gains come next.

    Members: ``i_op`` operations that use gains, in order; ``i_group`` groups from the unpacker, ``items`` and ``flush``
    to it; ``i_x`` the vector; ``o`` to the norm; ``o_bounds`` the groups that belong to rows of f, ``bounds_last`` with
    their last one.

    Latency: 0.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(GAINS_OP)),
                "i_group": In(stream.Signature(StructLayout({GROUP: lanes * TUPLE_GAINS * GAIN_BITS}))),
                "items": Out(range(TUPLE_GAINS + 1)),
                "flush": Out(1),
                "i_x": In(stream.Signature(x_payload(config))),
                "o": Out(stream.Signature(gathered_payload(config))),
                "o_bounds": Out(stream.Signature(StructLayout({GROUP: lanes * GAIN_BITS}))),
                "bounds_last": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = self.config.results_per_cycle
        op, group, o = self.i_op.payload, self.i_group.payload.group, self.o.payload
        items = Signal(range(TUPLE_GAINS + 1))
        m.d.comb += [items.eq(Mux(op.bounds, 1, op.outer + op.matrices)), self.items.eq(Mux(self.i_op.valid, items, 0))]

        for lane in range(lanes):
            aligned = o.gains.word_select(lane, TUPLE_GAINS * GAIN_BITS)
            with m.Switch(items):
                with m.Case(1):  # no w1: the one G is item 1
                    m.d.comb += aligned.eq(Cat(Const(0, GAIN_BITS), group.word_select(lane, GAIN_BITS)))
                with m.Case(2):
                    m.d.comb += aligned.eq(group.word_select(lane, 2 * GAIN_BITS))
                with m.Default():
                    m.d.comb += aligned.eq(group.word_select(lane, TUPLE_GAINS * GAIN_BITS))
        m.d.comb += [
            o.x.eq(self.i_x.payload.x),
            o.last.eq(self.i_x.payload.last),
            o.outer.eq(op.outer),
            o.matrices.eq(op.matrices),
            self.o_bounds.payload.group.eq(group),
        ]
        with m.If(self.i_op.valid & op.bounds):
            m.d.comb += [
                self.o_bounds.valid.eq(self.i_group.valid),
                self.i_group.ready.eq(self.o_bounds.ready),
                self.flush.eq(self.bounds_last),
                self.i_op.ready.eq(self.i_group.valid & self.o_bounds.ready & self.bounds_last),
            ]
        with m.Elif(self.i_op.valid):
            m.d.comb += [
                self.o.valid.eq(self.i_group.valid & self.i_x.valid),
                self.i_group.ready.eq(self.i_x.valid & self.o.ready),
                self.i_x.ready.eq(self.i_group.valid & self.o.ready),
                self.flush.eq(self.i_x.payload.last),
                self.i_op.ready.eq(self.i_group.valid & self.i_x.valid & self.o.ready & self.i_x.payload.last),
            ]
        return m
