"""The sequencer: runs the program that the record stream carries, token after token.

    feeds, run(count) ─► start(token) ─► the token's embedding row
                ▲
                └── tokens of the head           records ─► router ─► operations ─┬─► quantise  (codes of its own)
                                                                                  ├─► engine    (rows)
                                                                                  ├─► results   (all)
                                                                                  ├─► supply ┐
                                                                                  └─► gains  ┴  (F, makers of vectors)

The queues hold 5 operations each, so that the quantiser works one matrix ahead of the engine, and the operations of the
next token wait in them before it is known. The token loop closes here: a chosen token asks for its row without the
host, all else of the next token has no need of it.

Those words were not checked yet (hw/weight_check.py), so a damaged operation must not change what the last token left:
a pass begins with EMBED, which waits for the next token's row, or it does not begin at all.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    ENGINE_OP,
    GAINS_OP,
    OPERATION,
    QUANTISE_OP,
    SUPPLY_OP,
    Op,
    most_row_words,
    results_op,
    seed_payload,
    shape_bits,
    token_payload,
)
from lutern.hw.protocol import RUN_LAYOUT, TOKEN_LAYOUT, feed_layout

QUEUE_DEPTH = 5
"""Four operations and the register in which the next one stands."""


def step_bits(config: HwConfig) -> tuple[int, int]:
    """Bits that count the beats of a step, and its words: of a resident machine twice what its memories hold."""
    if config.source != "resident":
        return 32, 32
    words = config.memory_words + config.streams * most_row_words(config)
    return bits_for(2 * config.trit_beats), bits_for(2 * words)


class Sequencer(wiring.Component):
    """Deals operations to the stages and counts tokens.

    Members: ``i_op`` operations of the records, of which EMBED must be the first of a pass and HEAD the last: others
    are not accepted; ``o_quantise``, ``o_engine``, ``o_results``, ``o_supply``, ``o_gains`` what each stage needs;
    ``i_feed`` a stream's first token, state and seed (always ready; ahead of its run), ``i_run`` of the host;
    ``o_seed`` to the head, ``o_start`` {token, stream} to the reader, once a stream and step, in order; ``i_token`` of
    the head, in order of streams; ``o_token`` {token, last} to the host. Constant during a run: ``final_stream``,
    ``bases`` (where stream t's state begins, in bits ``base_bits`` * t and up), ``chained``, ``temperature``; with
    state "memory" ``goes_on``: another step follows the present one; ``fresh`` (bit t: the state of stream t counts as
    zero) is held through the first step. ``beat`` and ``word`` are counted; ``cycles``, ``beats``, ``words`` of a step,
    from its start (or the choice before) to its last choice.

    Latency: an operation reaches an empty queue's output 2 cycles after it is accepted; a chosen token asks for its row
    1 cycle after it is accepted.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_op": In(stream.Signature(OPERATION)),
                "o_quantise": Out(stream.Signature(QUANTISE_OP)),
                "o_engine": Out(stream.Signature(ENGINE_OP)),
                "o_results": Out(stream.Signature(results_op(config))),
                "o_supply": Out(stream.Signature(SUPPLY_OP)),
                "o_gains": Out(stream.Signature(GAINS_OP)),
                "i_feed": In(stream.Signature(feed_layout(config))),
                "i_run": In(stream.Signature(RUN_LAYOUT)),
                "o_seed": Out(stream.Signature(seed_payload(config))),
                "o_start": Out(stream.Signature(token_payload(config))),
                "i_token": In(stream.Signature(token_payload(config))),
                "o_token": Out(stream.Signature(TOKEN_LAYOUT)),
                "final_stream": Out(config.stream_bits),
                "bases": Out(config.base_bits * config.streams),
                "fresh": Out(config.streams),
                "chained": Out(1),
                **({"goes_on": Out(1)} if config.state == "memory" else {}),
                "temperature": Out(16),
                "beat": In(1),
                "word": In(3 if config.state == "memory" else 2),
                "cycles": Out(32),
                "beats": Out(32),
                "words": Out(32),
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
        bounds = op.op == Op.F
        own_codes = ~embed & ~op.reuse
        queues: tuple[tuple[Any, StructLayout, Any, dict[str, Any]], ...] = (
            (self.o_quantise, QUANTISE_OP, own_codes, {}),
            (self.o_engine, ENGINE_OP, ~embed, {}),
            (self.o_results, results_op(self.config), 1, {"scaled": own_codes}),
            (self.o_supply, SUPPLY_OP, bounds | op.makes_vector, {"items": Mux(bounds, 1, op.outer + op.matrices)}),
            (self.o_gains, GAINS_OP, bounds | op.makes_vector, {"bounds": bounds}),
        )
        room = []
        for output, layout, wanted, derived in queues:
            fifo = SyncFIFOBuffered(width=shape_bits(layout), depth=QUEUE_DEPTH)
            m.submodules += fifo
            room.append(fifo.w_rdy)
            fields = [
                Value.cast(derived[name] if name in derived else op[name])[: field.width] for name, field in layout
            ]
            m.d.comb += [
                fifo.w_data.eq(Cat(*fields)),
                fifo.w_en.eq(self.i_op.valid & self.i_op.ready & wanted),
                output.valid.eq(fifo.r_rdy),
                output.payload.as_value().eq(fifo.r_data),
                fifo.r_en.eq(output.ready),
            ]
        m.d.comb += self.i_op.ready.eq(Cat(*room).all() & self._in_order(m))

    def _in_order(self, m: Module) -> Value:
        """Whether the operation may be accepted: EMBED after HEAD or reset, and only there."""
        op, after_head = self.i_op.payload.op, Signal(init=1)
        with m.If(self.i_op.valid & self.i_op.ready):
            m.d.sync += after_head.eq(op == Op.HEAD)
        return (op == Op.EMBED) == after_head

    def _count_tokens(self, m: Module) -> None:
        """The token loop: a stream's row is asked for as soon as its token is chosen."""
        count = self.config.streams
        final = self.final_stream
        tokens = [Signal(16, name=f"token_{number}") for number in range(count)]
        left, running = Signal(16), Signal()
        chosen, asked = Signal(range(count + 1)), Signal(range(count))  # tokens without a row yet; whose turn it is
        beat_bits, word_bits = step_bits(self.config)
        cycles, beats, words = Signal(32), Signal(beat_bits), Signal(word_bits)
        feed, run, token = self.i_feed.payload, self.i_run.payload, self.i_token.payload
        fed, begins = self.i_feed.valid, self.i_run.valid & self.i_run.ready
        taken, starts = self.i_token.valid & self.i_token.ready, self.o_start.valid & self.o_start.ready
        ends_step = taken & (token.stream == final)
        goes_on = left != 1
        if self.config.state == "memory":
            m.d.comb += self.goes_on.eq(goes_on)
        m.d.comb += [
            self.i_feed.ready.eq(1),
            self.o_seed.valid.eq(self.i_feed.valid),
            self.o_seed.payload.stream.eq(feed.stream),
            self.o_seed.payload.seed.eq(feed.seed),
            self.i_run.ready.eq(~running),
            self.o_start.valid.eq(chosen != 0),
            self.o_start.payload.token.eq(Array(tokens)[asked]),
            self.o_start.payload.stream.eq(asked),
            self.o_token.valid.eq(self.i_token.valid),
            self.o_token.payload.token.eq(token.token),
            self.o_token.payload.last.eq(~goes_on & (token.stream == final)),
            self.i_token.ready.eq(self.o_token.ready),
        ]
        for number, held in enumerate(tokens):
            base = self.bases.word_select(number, self.config.base_bits)
            with m.If(fed & (feed.stream == number)):
                m.d.sync += [held.eq(feed.token), base.eq(feed.state_base), self.fresh[number].eq(feed.fresh)]
            with m.If(taken & (token.stream == number)):
                m.d.sync += held.eq(token.token)
        m.d.sync += [
            cycles.eq(cycles + 1),
            beats.eq(beats + self.beat),
            words.eq(words + self.word),
            chosen.eq(Mux(begins, run.final_stream + 1, chosen + (taken & goes_on) - starts)),
        ]
        with m.If(starts):
            m.d.sync += asked.eq(Mux(asked == final, 0, asked + 1))
        with m.If(begins):
            m.d.sync += [
                left.eq(run.count),
                final.eq(run.final_stream),
                self.chained.eq(run.chained),
                self.temperature.eq(run.temperature),
                asked.eq(0),
                running.eq(1),
            ]
        with m.If(ends_step):
            m.d.sync += [left.eq(left - 1), running.eq(goes_on), self.fresh.eq(0)]
        with m.If(begins | ends_step):
            m.d.sync += [cycles.eq(1), beats.eq(self.beat), words.eq(self.word)]
        m.d.comb += [self.cycles.eq(cycles), self.beats.eq(beats), self.words.eq(words)]
