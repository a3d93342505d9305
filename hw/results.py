"""The results stage: gives each sum the constants of its operation and stream, and joins vectors with their gains.

    sums ────┐                                      x of mlgru, glu, residual ─┐
    bounds ──┼─► ResultsControl ─► scale            groups of gains ───────────┴─► GainJoin ─► norm
    row ─────┤        ▲                                    └─► ring ─► streams 1 to N - 1
    scale ───┘        operations

A beat passes when its stream's scale is there (EMBED and UP have none of their own); an operation ends with the last
sum of its last stream. Gains and bounds are taken from the stream of records once and serve all N vectors.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    BOUND_BITS,
    GAIN,
    GAINS_OP,
    ITEM_BITS,
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
from lutern.model_ref.norm import GAIN_LOW_BITS
from lutern.model_ref.ternary import SUM_BITS

GROUP = "group"
CONSTANTS = StructLayout({"scale": SCALAR, "shift": signed(SCALE_SHIFT_BITS)})
"""Of one stream in one operation: its scale, and the shift that follows from the scale's exponent."""


def bound_value(item: Value) -> Value:
    """1 - LB (0.17) of an item, whose mantissa is not negative."""
    gain = GAIN(item)
    mantissa = gain.mantissa.as_unsigned()[: BOUND_BITS - GAIN_LOW_BITS]
    return Cat(Const(0, GAIN_LOW_BITS), mantissa) >> gain.exponent


class ResultsControl(wiring.Component):
    """Feeds the scale unit, operation after operation.

    Members: ``i_op`` operations; ``i_scale`` the scales of streams 0 to ``final_stream`` for each operation that has
    codes of its own; ``i_sums``; ``i_bounds`` groups of 1 - LB, joined with the sums of F; ``i_row`` groups of e4s12
    codes, the input of EMBED: ``beats`` of each stream; ``o`` to ``SumScale``; ``scale`` the scale of stream
    ``scale_stream`` that was loaded last (HEAD's from the end of a token on, until F of the next one).

    Latency: 0 for sums; an operation starts 2 cycles after the last sum of the one before it, if stream 0's scale is
    there (UP, which has none of its own: 1 cycle); the scales of the other streams follow, one a cycle.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(RESULTS_OP)),
                "i_scale": In(stream.Signature(SCALAR)),
                "i_sums": In(stream.Signature(sums_payload(config))),
                "i_bounds": In(stream.Signature(StructLayout({GROUP: lanes * BOUND_BITS}))),
                "i_row": In(stream.Signature(StructLayout({GROUP: lanes * ITEM_BITS}))),
                "final_stream": In(config.stream_bits),
                "o": Out(stream.Signature(scale_payload(config))),
                "scale_stream": In(config.stream_bits),
                "scale": Out(SCALAR),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes, several = self.config.results_per_cycle, self.config.tokens > 1
        op, o, sums = self.i_op.payload, self.o.payload, self.i_sums.payload
        beat = Signal(self.config.index_bits)
        row_stream = Signal(self.config.stream_bits)
        embed, bounded = op.op == Op.EMBED, op.op == Op.F

        taken = Signal(range(self.config.tokens + 1))  # scales of this operation
        load = self.i_scale.valid & self.i_scale.ready
        loaded = Signal(CONSTANTS)
        here = self._constants(m, load, taken, loaded)
        all_taken = taken > self.final_stream if several else taken
        m.d.comb += [
            loaded.scale.eq(self.i_scale.payload),
            loaded.shift.eq(-(self.i_scale.payload.exponent + op.cut + op.frac)),
            self.i_scale.ready.eq(self.i_op.valid & op.scaled & ~all_taken),
        ]

        have_scale = taken > sums.stream if several else taken
        run = self.i_op.valid & (have_scale | ~op.scaled)
        source = Mux(embed, self.i_row.valid, self.i_sums.valid & (self.i_bounds.valid | ~bounded))
        moved = run & source & self.o.ready
        last = Mux(embed, beat == op.beats - 1, sums.last)
        ends = last & (o.stream == self.final_stream) if several else last
        rows = [
            Cat(self.i_row.payload.group.word_select(lane, ITEM_BITS), Const(0, SUM_BITS - ITEM_BITS))
            for lane in range(lanes)
        ]
        m.d.comb += [
            self.o.valid.eq(run & source),
            self.i_sums.ready.eq(moved & ~embed),
            self.i_row.ready.eq(moved & embed),
            self.i_bounds.ready.eq(moved & bounded),
            self.i_op.ready.eq(moved & ends),
            o.sums.eq(Mux(embed, Cat(*rows), sums.sums)),
            o.bounds.eq(Mux(bounded, self.i_bounds.payload.group, 0)),  # held, whatever the join does meanwhile
            o.op.eq(op.op),
            o.cut.eq(op.cut),
            o.mantissa.eq(Mux(embed, MANTISSA_ONE, here.scale.mantissa)),
            o.shift.eq(Mux(embed, MANTISSA_BITS - 1 - op.base - op.frac, here.shift)),
            o.frac.eq(op.frac),
            o.state_base.eq(op.state_base),
            o.index.eq(Mux(embed, beat, sums.index)),
            o.last.eq(last),
        ]
        if several:
            m.d.comb += o.stream.eq(Mux(embed, row_stream, sums.stream))
        with m.If(self.i_row.valid & self.i_row.ready):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
            if several:
                with m.If(last):
                    m.d.sync += row_stream.eq(Mux(ends, 0, row_stream + 1))
        with m.If(moved & ends):
            m.d.sync += taken.eq(0)
        with m.Elif(load):
            m.d.sync += taken.eq(taken + 1)
        return m

    def _constants(self, m: Module, load: Value, place: Signal, loaded: Any) -> Any:
        """Keeps ``loaded`` at stream ``place``; gives what is kept for the stream of the sum at hand."""
        if self.config.tokens == 1:
            held = Signal(CONSTANTS)
            m.d.comb += self.scale.eq(held.scale)
            with m.If(load):
                m.d.sync += held.eq(loaded)
            return held
        memory = Memory(shape=CONSTANTS, depth=self.config.tokens, init=[], attrs={"ram_style": "distributed"})
        m.submodules.constants = memory
        write, here, asked = memory.write_port(), memory.read_port(domain="comb"), memory.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(loaded),
            write.en.eq(load),
            here.addr.eq(self.i_sums.payload.stream),
            asked.addr.eq(self.scale_stream),
            self.scale.eq(asked.data.scale),
        ]
        return here.data


class GainJoin(wiring.Component):
    """Joins vectors with their gains.

    Members: ``i_op`` operations that use gains, in order; ``i_group`` their groups, once for all streams; ``i_x`` the
    vectors; ``o`` to the norm; ``o_bounds`` the values (0.17) for rows of f, ``bounds_stream``, ``bounds_index``,
    ``bounds_last`` of the beat of sums that wants them (while none does: anything).

    Stream 0 takes a group; a ring keeps it as it is used, by index, for streams 1 to ``final_stream``. The ring is
    read one beat ahead. With one stream there is no ring.

    Latency: 0; of streams 1 to ``final_stream`` 1 for the first beat of a block, 0 for the beats that follow. Between
    two operations is an idle cycle: the end of one is registered, for the queue is at the end of a long path.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(GAINS_OP)),
                "i_group": In(stream.Signature(StructLayout({GROUP: lanes * TUPLE_GAINS * ITEM_BITS}))),
                "i_x": In(stream.Signature(x_payload(config))),
                "final_stream": In(config.stream_bits),
                "o": Out(stream.Signature(gathered_payload(config))),
                "o_bounds": Out(stream.Signature(StructLayout({GROUP: lanes * BOUND_BITS}))),
                "bounds_stream": In(config.stream_bits),
                "bounds_index": In(config.index_bits),
                "bounds_last": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        several = self.config.tokens > 1
        op, o, x = self.i_op.payload, self.o.payload, self.i_x.payload

        # the beat that wants a group, of either use
        stream_ = Mux(op.bounds, self.bounds_stream, x.stream)
        last = Mux(op.bounds, self.bounds_last, x.last)
        wanted, taken, first, valid = Signal(), Signal(), Signal(), Signal()
        active, done = Signal(), Signal()  # there is an operation; its last group was taken a cycle ago
        m.d.comb += [
            active.eq(self.i_op.valid & ~done),
            wanted.eq(active & Mux(op.bounds, self.o_bounds.ready, self.i_x.valid & self.o.ready)),
            first.eq(stream_ == 0 if several else 1),
            taken.eq(wanted & valid),
            self.i_group.ready.eq(wanted & first),
            self.i_op.ready.eq(done),
        ]
        m.d.sync += done.eq(taken & last & (stream_ == self.final_stream if several else 1))
        lanes, fresh = self.config.results_per_cycle, self.i_group.payload.group
        gains: Value = Signal(lanes * TUPLE_GAINS * ITEM_BITS)
        bounds: Value = Cat(*[bound_value(fresh.word_select(lane, ITEM_BITS)) for lane in range(lanes)])
        for lane in range(lanes):
            aligned = gains.word_select(lane, TUPLE_GAINS * ITEM_BITS)
            with m.Switch(op.outer + op.matrices):
                with m.Case(1):  # no w1: the one G is item 1
                    m.d.comb += aligned.eq(Cat(Const(0, ITEM_BITS), fresh.word_select(lane, ITEM_BITS)))
                with m.Case(2):
                    m.d.comb += aligned.eq(fresh.word_select(lane, 2 * ITEM_BITS))
                with m.Default():
                    m.d.comb += aligned.eq(fresh.word_select(lane, TUPLE_GAINS * ITEM_BITS))
        if several:
            index = Mux(op.bounds, self.bounds_index, x.index)
            gains = self._ring(m, Mux(op.bounds, bounds, gains), index, first, taken, valid)
            bounds = gains[: len(bounds)]
            m.d.comb += o.stream.eq(x.stream)
        else:
            m.d.comb += valid.eq(self.i_group.valid)
        m.d.comb += [
            o.x.eq(x.x),
            o.gains.eq(gains),
            o.index.eq(x.index),
            o.last.eq(x.last),
            o.outer.eq(op.outer),
            o.matrices.eq(op.matrices),
            self.o.valid.eq(active & ~op.bounds & valid & self.i_x.valid),
            self.i_x.ready.eq(active & ~op.bounds & valid & self.o.ready),
            self.o_bounds.valid.eq(active & op.bounds & valid),
            self.o_bounds.payload.group.eq(bounds),
        ]
        return m

    def _ring(self, m: Module, fresh: Value, index: Value, first: Signal, taken: Signal, valid: Signal) -> Value:
        """The group of the beat ``index``, fresh or from the ring; ``valid`` when it is there.

        ``at`` names the group that was read, if one was since stream 0 has written. A cycle reads or writes, never
        both: so the memory and the register behind it become block RAM, without logic for a read of what is being
        written.
        """
        config = self.config
        memory = Memory(shape=len(fresh), depth=-(-config.max_width // config.results_per_cycle), init=[])
        m.submodules.ring = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        held = Signal(len(fresh), reset_less=True)
        some, here = Signal(), Signal()
        at, following = Signal(config.index_bits + 1), Signal(config.index_bits + 1)  # no wrap to 0
        m.d.comb += [
            here.eq(some & (at == index)),
            following.eq(Mux(here, index + 1, index)),
            read.addr.eq(following),
            write.addr.eq(index),
            write.data.eq(fresh),
            write.en.eq(first & taken),
            valid.eq(Mux(first, self.i_group.valid, here)),
        ]
        with m.If(~first & (~here | taken)):
            m.d.sync += [held.eq(read.data), at.eq(following), some.eq(1)]
        with m.Elif(write.en):
            m.d.sync += some.eq(0)
        return Mux(first, fresh, held)


__all__ = ["GROUP", "GainJoin", "ResultsControl", "bound_value"]
