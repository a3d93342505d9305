"""The results stage attaches to each sum the constants of its operation and stream.

    sums ────┐
    bounds ──┼─► ResultsControl ─► scale
    row ─────┤        ▲
    scale ───┘        operations

A beat passes when the scale of its stream has arrived. A beat of EMBED or UP does not wait for a scale. An operation
ends with the last sum of its last stream.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.gains import GROUP
from lutern.hw.layouts import (
    BOUND_BITS,
    ITEM_BITS,
    SCALAR,
    SCALE_SHIFT_BITS,
    SUM_CLASSES,
    results_op,
    scale_payload,
    sums_payload,
)
from lutern.hw.pipeline import new_memory
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_ONE
from lutern.model_ref.ternary import SUM_BITS

CONSTANTS = StructLayout({"scale": SCALAR, "shift": signed(SCALE_SHIFT_BITS)})
"""Constants of one stream in one operation: its scale, and the shift that follows from the exponent of the scale."""


class ResultsControl(wiring.Component):
    """Sends sums with their constants to the scale unit, one operation after another.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) sums per beat, ``streams`` (T).

    Members
    -------
    i_op : stream of ``layouts.results_op``, input
        The operations.
    i_scale : stream of ``layouts.SCALAR``, input
        The scales of streams 0 to ``final_stream`` for each operation except EMBED and UP.
    i_sums : stream of ``layouts.sums_payload``, input
        Sums of the ternary unit.
    i_bounds : stream of groups of P x 17 bits, input
        Values 1 - LB, one group for each beat of sums of F.
    i_row : stream of groups of P x 16 bits, input
        Elements of the embedding row, which are the input of EMBED. Their format e4s12 has 4 bits of exponent and a
        signed mantissa of 12 bits. Each stream has ``beats`` groups.
    final_stream : ``stream_bits`` bits, input
        N - 1 for a run of N streams.
    o : stream of ``layouts.scale_payload``, output
        Sums with their constants, for ``SumScale``.
    scale_stream : ``stream_bits`` bits, input
        Selects the stream of ``scale``.
    scale : ``layouts.SCALAR``, output
        The most recently loaded scale of stream ``scale_stream``. From the end of a token until F of the next token,
        this is the scale of HEAD.

    Numerics
    --------
    The shift is -(exponent + cut + frac), with the exponent of the scale. For EMBED the shift is 16 - base - frac, and
    the mantissa is 2^16.

    Latency
    -------
    0 cycles for sums. An operation starts 2 cycles after the last sum of the previous operation, if the scale of stream
    0 has arrived. UP does not wait for a scale and starts after 1 cycle. The scales of further streams are loaded at
    one scale per cycle.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        lanes = config.results_per_cycle
        super().__init__(
            {
                "i_op": In(stream.Signature(results_op(config))),
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
        lanes, several = self.config.results_per_cycle, self.config.streams > 1
        op, o, sums = self.i_op.payload, self.o.payload, self.i_sums.payload
        beat = Signal(self.config.index_bits)
        row_stream = Signal(self.config.stream_bits)
        embed, bounded = op.embeds, op.bounded

        taken = Signal(range(self.config.streams + 1))  # scales of this operation that have arrived
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
        # The lanes wait for the ready of the sums, so its path has nothing of the row.
        run = self.i_op.valid & (have_scale | ~op.scaled)
        has_row = self.i_row.valid & embed
        has_sums = self.i_sums.valid & (self.i_bounds.valid | ~bounded) & ~embed
        row_moves, sums_move = (run & there & self.o.ready for there in (has_row, has_sums))
        last = Mux(embed, beat == op.beats - 1, sums.last)
        ends = last & (o.stream == self.final_stream) if several else last
        rows = [
            Cat(self.i_row.payload.group.word_select(lane, ITEM_BITS), Const(0, SUM_BITS - ITEM_BITS))
            for lane in range(lanes)
        ]
        m.d.comb += [
            self.o.valid.eq(run & (has_row | has_sums)),
            self.i_sums.ready.eq(sums_move),
            self.i_row.ready.eq(row_moves),
            self.i_bounds.ready.eq(sums_move & bounded),
            self.i_op.ready.eq((row_moves | sums_move) & ends),
            o.sums.eq(Mux(embed, Cat(*rows), sums.sums)),
            o.bounds.eq(Mux(bounded, self.i_bounds.payload.group, 0)),  # 0 keeps o stable while i_bounds changes
            o.op.eq(op.op),
            *(o[name].eq(op[name]) for name in SUM_CLASSES),
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
        with m.If(self.i_op.ready):
            m.d.sync += taken.eq(0)
        with m.Elif(load):
            m.d.sync += taken.eq(taken + 1)
        return m

    def _constants(self, m: Module, load: Value, place: Signal, loaded: Any) -> Any:
        """Store ``loaded`` for stream ``place``. Return the constants that are stored for the stream of the present
        sum."""
        if self.config.streams == 1:
            held = Signal(CONSTANTS)
            m.d.comb += self.scale.eq(held.scale)
            with m.If(load):
                m.d.sync += held.eq(loaded)
            return held
        memory = new_memory(CONSTANTS, self.config.streams, attrs={"ram_style": "distributed"})
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


__all__ = ["ResultsControl"]
