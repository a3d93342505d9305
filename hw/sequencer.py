"""The sequencer executes the operations of the record stream, token after token.

    feeds, run(count) ─► start(token) ─► the token's embedding row
                ▲
                └── tokens of the head     records ─► router ─► operations ─┬─► quantise  (all except EMBED and UP)
                                                                            ├─► engine    (all except EMBED)
                                                                            ├─► results   (all)
                                                                            ├─► supply ┐
                                                                            └─► gains  ┴  (F, and ``makes_vector``)

Each queue holds 5 operations. The quantiser can therefore work one matrix ahead of the engine, and the first operations
of the next token wait in the queues before that token is known. The token loop is closed on the chip, because the row
of a chosen token is requested without the host. All other inputs of a pass are the same for every token.

Operations of the next pass arrive before their words have been checked (hw/weight_check.py). A damaged operation must
not change the results of the last token. For this reason a pass must begin with EMBED, which waits for the row of the
next token. The sequencer does not accept any other operation at the beginning of a pass.
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
    sum_classes,
    token_payload,
)
from lutern.hw.protocol import RUN_LAYOUT, TOKEN_LAYOUT, feed_layout

QUEUE_DEPTH = 5
"""Number of operations in a queue: four, and one more in the register at the output."""


def step_bits(config: HwConfig) -> tuple[int, int]:
    """Return the number of bits that count the beats of a step, and the number of bits that count the words of a step.

    For a resident machine these bits count up to twice the contents of its memories. Any other machine uses 32 bits.
    """
    if config.source != "resident":
        return 32, 32
    words = config.memory_words + config.streams * most_row_words(config)
    return bits_for(2 * config.trit_beats), bits_for(2 * words)


class Sequencer(wiring.Component):
    """Distributes operations to the stages, and counts tokens.

    Parameters
    ----------
    config : HwConfig
        ``streams`` (T), ``state``, and the widths of the payloads.

    Members
    -------
    i_op : stream of ``layouts.OPERATION``, input
        Operations of the record stream. EMBED must be the first operation of a pass and HEAD the last operation. An
        operation out of this order is not accepted.
    o_quantise : stream of ``layouts.QUANTISE_OP``, output
        The fields for the norm, of each operation except EMBED and UP.
    o_engine : stream of ``layouts.ENGINE_OP``, output
        The fields for the ternary unit, of each matrix.
    o_results : stream of ``layouts.results_op``, output
        The fields for the results stage, of each operation.
    o_supply : stream of ``layouts.SUPPLY_OP``, output
        The fields for the supply of gains, of each operation that uses gains or bounds.
    o_gains : stream of ``layouts.GAINS_OP``, output
        The fields for the gain join, of each operation that uses gains or bounds.
    i_feed : stream of ``protocol.feed_layout``, input
        First token, state and seed of a stream, sent before the run. Always ready.
    i_run : stream of ``protocol.RUN_LAYOUT``, input
        A run that the host starts.
    o_seed : stream of ``layouts.seed_payload``, output
        Seeds for the head.
    o_start : stream of ``layouts.token_payload``, output
        Requests the row of a token, once for each stream and step, in order.
    i_token : stream of ``layouts.token_payload``, input
        Tokens that the head chose, in the order of streams.
    o_token : stream of ``protocol.TOKEN_LAYOUT``, output
        The same tokens for the host.
    final_stream : ``stream_bits`` bits, output
        N - 1 for a run of N streams. Constant during a run.
    bases : T values of ``base_bits`` bits, output
        The start of each stream's state. Constant during a run.
    fresh : T bits, output
        Bit t is 1 if the state of stream t starts at zero. Constant during the first step, and 0 after the first step.
    chained : 1 bit, output
        All streams are one conversation. Constant during a run.
    goes_on : 1 bit, output, state "memory"
        Another step follows the present step.
    temperature : 16 bits, output
        The temperature, u4.12. Constant during a run.
    beat : 1 bit, input
        Is 1 for each beat of trits to count.
    word : 2 bits (state "memory": 3), input
        Number of words to count.
    cycles : 32 bits, output
        Number of cycles of the present step. The count begins with the run, or after the last token of the previous
        step is chosen. The count ends when the last token of this step is chosen.
    beats : 32 bits, output
        Number of beats of trits of the present step.
    words : 32 bits, output
        Number of words of the present step.

    Numerics
    --------
    ``cycles`` is modulo 2^32. ``beats`` and ``words`` are counted with ``step_bits`` bits.

    Latency
    -------
    An operation reaches the output of an empty queue 2 cycles after it is accepted. The row of a chosen token is
    requested 1 cycle after the token is accepted.

    Reference
    ---------
    None.
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
        """Add the queues of operations."""
        op = self.i_op.payload
        embed = op.op == Op.EMBED
        bounds = op.op == Op.F
        own_codes = ~embed & ~op.reuse
        of_results = {"scaled": own_codes, "bounded": bounds, **sum_classes(op.op)}
        queues: tuple[tuple[Any, StructLayout, Any, dict[str, Any]], ...] = (
            (self.o_quantise, QUANTISE_OP, own_codes, {}),
            (self.o_engine, ENGINE_OP, ~embed, {}),
            (self.o_results, results_op(self.config), 1, of_results),
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
        """Return whether the operation may be accepted. After HEAD or a reset only EMBED may be accepted, and elsewhere
        only an operation other than EMBED."""
        op, after_head = self.i_op.payload.op, Signal(init=1)
        with m.If(self.i_op.valid & self.i_op.ready):
            m.d.sync += after_head.eq(op == Op.HEAD)
        return (op == Op.EMBED) == after_head

    def _count_tokens(self, m: Module) -> None:
        """Add the token loop, which requests the row of a stream as soon as the stream's token is chosen."""
        count = self.config.streams
        final = self.final_stream
        tokens = [Signal(16, name=f"token_{number}") for number in range(count)]
        left, running = Signal(16), Signal()
        # chosen: tokens whose row is not requested yet; asked: the stream whose row is requested next
        chosen, asked = Signal(range(count + 1)), Signal(range(count))
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
