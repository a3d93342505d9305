"""The sequencer: runs the program that the stream carries, token after token.

    run(token, count) ─► start(token) ─► reader ... router ─► operations ─┬─► quantise  (codes of its own)
          ▲                                                               ├─► engine    (rows)
          └── token of the largest logit ◄── head                         ├─► results   (all)
                                                                          └─► gains     (F, and what makes a vector)

The queues hold 5 operations each, so that the quantiser works one matrix ahead of the engine. The token loop closes
here: the chosen token starts the next pass without the host. 143 LUT4, 40 CCU2C, 52 DPR16X4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.head import TOKEN
from lutern.hw.layouts import ENGINE_OP, GAINS_OP, OPERATION, QUANTISE_OP, RESULTS_OP, Op, shape_bits
from lutern.hw.protocol import RUN_LAYOUT, TOKEN_LAYOUT

QUEUE_DEPTH = 5
"""Four operations and the register in which the next one stands."""


class Sequencer(wiring.Component):
    """Deals operations to the stages and counts tokens.

    Members: ``i_op`` operations of the stream; ``o_quantise``, ``o_engine``, ``o_results``, ``o_gains`` what each stage
    needs of them; ``i_run`` {token, count, fresh} from the host; ``o_start`` {token} to the reader; ``i_token`` of the
    head; ``o_token`` {token, last} to the host; ``fresh`` the state counts as zero (held through the first token);
    ``beat`` a beat of the ternary unit (counted); ``cycles``, ``beats`` of the last token, from start to choice.

    Latency: an operation reaches an empty queue's output 2 cycles after it is accepted; a chosen token starts the
    reader 1 cycle after it is accepted.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i_op": In(stream.Signature(OPERATION)),
                "o_quantise": Out(stream.Signature(QUANTISE_OP)),
                "o_engine": Out(stream.Signature(ENGINE_OP)),
                "o_results": Out(stream.Signature(RESULTS_OP)),
                "o_gains": Out(stream.Signature(GAINS_OP)),
                "i_run": In(stream.Signature(RUN_LAYOUT)),
                "o_start": Out(stream.Signature(TOKEN)),
                "i_token": In(stream.Signature(TOKEN)),
                "o_token": Out(stream.Signature(TOKEN_LAYOUT)),
                "fresh": Out(1),
                "beat": In(1),
                "cycles": Out(32),
                "beats": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        self._deal(m)
        self._count_tokens(m)
        return m

    def _deal(self, m: Module) -> None:
        op = self.i_op.payload
        embed = op.op == Op.EMBED
        own_codes = ~embed & ~op.reuse
        queues: tuple[tuple[Any, StructLayout, Any, dict[str, Any]], ...] = (
            (self.o_quantise, QUANTISE_OP, own_codes, {}),
            (self.o_engine, ENGINE_OP, ~embed, {}),
            (self.o_results, RESULTS_OP, 1, {"scaled": own_codes}),
            (self.o_gains, GAINS_OP, (op.op == Op.F) | op.makes_vector, {"bounds": op.op == Op.F}),
        )
        room = []
        for output, layout, wanted, derived in queues:
            fifo = SyncFIFOBuffered(width=shape_bits(layout), depth=QUEUE_DEPTH)
            m.submodules += fifo
            room.append(fifo.w_rdy)
            fields = [Value.cast(derived[name] if name in derived else op[name]) for name, _ in layout]
            m.d.comb += [
                fifo.w_data.eq(Cat(*fields)),
                fifo.w_en.eq(self.i_op.valid & self.i_op.ready & wanted),
                output.valid.eq(fifo.r_rdy),
                output.payload.as_value().eq(fifo.r_data),
                fifo.r_en.eq(output.ready),
            ]
        m.d.comb += self.i_op.ready.eq(Cat(*room).all())

    def _count_tokens(self, m: Module) -> None:
        token, left = Signal(16), Signal(16)
        starting, running = Signal(), Signal()
        cycles, beats = Signal(32), Signal(32)
        m.d.comb += [
            self.i_run.ready.eq(~running),
            self.o_start.valid.eq(starting),
            self.o_start.payload.token.eq(token),
            self.o_token.valid.eq(self.i_token.valid),
            self.o_token.payload.token.eq(self.i_token.payload.token),
            self.o_token.payload.last.eq(left == 1),
            self.i_token.ready.eq(self.o_token.ready),
        ]
        m.d.sync += [cycles.eq(cycles + 1), beats.eq(beats + self.beat)]
        with m.If(self.o_start.valid & self.o_start.ready):
            m.d.sync += starting.eq(0)
        with m.If(self.i_run.valid & self.i_run.ready):
            m.d.sync += [
                token.eq(self.i_run.payload.token),
                left.eq(self.i_run.payload.count),
                self.fresh.eq(self.i_run.payload.fresh),
                starting.eq(1),
                running.eq(1),
                cycles.eq(1),
                beats.eq(0),
            ]
        with m.If(self.i_token.valid & self.i_token.ready):
            m.d.sync += [
                token.eq(self.i_token.payload.token),
                left.eq(left - 1),
                self.fresh.eq(0),
                starting.eq(left != 1),
                running.eq(left != 1),
                cycles.eq(1),
                beats.eq(0),
            ]
        m.d.comb += [self.cycles.eq(cycles), self.beats.eq(beats)]
