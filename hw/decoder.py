"""The decoder joins all blocks between the record stream and the chosen tokens.

    words ─► router ─┬─ operations ─► sequencer
                     ├─ gains ─► supply ─► gain join
                     └─ trits ─► FIFO ─► beats ─┐ (resident: beats from the memory of trits, rows without FIFO)
                                               ternary ─► results ─► scale ─┬─► mlgru ────┐
                                                 ▲            ▲             ├─► glu ──────┼─► gain join ─► norm
    row ─► (FIFO ─► widener) ─► unpacker ─────────┼────────────┘             ├─► residual ─┘                 │
                                               codes                        └─► head ─► token               │
                                                 └──────────────────────────────────────────────────────────┘

This file only joins blocks. The module of each block describes the block, and docs/engine.md explains the timing.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.activation import Sigmoid
from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.counters import Counters
from lutern.hw.gains import GainJoin, GainSupply
from lutern.hw.gate_memory import GateMemory
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.layouts import CODE_BITS, VALUE_BITS, Op, row_fifo_words, takes_narrow_rows, token_payload, x_payload
from lutern.hw.memory import state_request_layout
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm import RmsNorm
from lutern.hw.pipeline import Skid, join_streams
from lutern.hw.protocol import (
    DAMAGE_LAYOUT,
    RUN_LAYOUT,
    SCALE_LAYOUT,
    SETUP_LAYOUT,
    STATUS,
    STREAM_BITS,
    TOKEN_LAYOUT,
    feed_layout,
)
from lutern.hw.residual import Residual
from lutern.hw.results import ResultsControl
from lutern.hw.router import BeatAssembler, GroupUnpacker, RecordRouter
from lutern.hw.row_widener import RowWidener
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import Sequencer
from lutern.hw.state_dma import StateDma
from lutern.hw.ternary import TernaryUnit
from lutern.hw.weight_check import WeightCheck

ROUTES = (("mlgru", (Op.F, Op.I, Op.G)), ("glu", (Op.GATE,)), ("head", (Op.HEAD,)))
"""The operations whose values each block receives from the FIFO of the scale. The values of UP, EMBED and RESIDUAL skip
this FIFO."""


TAP_VALUE_BITS = {"h": VALUE_BITS, "s": VALUE_BITS, "codes": CODE_BITS}
"""Number of bits of a value of each debug tap."""
TAP_STREAM_BITS = 8
"""Number of top bits of a tap's payload. These bits name the stream of the values."""


def taps(config: HwConfig) -> dict[str, int]:
    """Return the names of the debug taps, each with the bits of its payload.

    A tap shows P or Q values in the cycle in which they are written. The 8 bits above the values name the stream. A tap
    has no back-pressure.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P), ``codes_per_cycle`` (Q).
    """
    counts = {"h": config.results_per_cycle, "s": config.results_per_cycle, "codes": config.codes_per_cycle}
    return {name: count * TAP_VALUE_BITS[name] + TAP_STREAM_BITS for name, count in counts.items()}


def _find(m: Module, names: str) -> list[Any]:
    """Return the submodules with these names. Blanks separate the names."""
    return [m.submodules[name] for name in names.split()]


class Decoder(wiring.Component):
    """Decodes tokens from the record stream.

    Parameters
    ----------
    config : HwConfig
        The machine.

    Members
    -------
    i_words : stream of ``word_bits`` bits, input
        The record stream, which repeats without end.
    i_trits : stream of ``beat_bits`` bits, input, source "resident"
        The beats of trits, which repeat without end.
    i_row : stream of ``word_bits`` bits, input
        Words of the rows that ``o_start`` requests.
    narrow_rows : 1 bit, input, if ``layouts.takes_narrow_rows``
        The rows have elements of 12 bits.
    i_feed : stream of ``protocol.feed_layout``, input
        First token, state and seed of a stream, sent before the run.
    i_run : stream of ``protocol.RUN_LAYOUT``, input
        A run that the host starts.
    o_start : stream of ``layouts.token_payload``, output
        Requests the row of a token.
    o_token : stream of ``protocol.TOKEN_LAYOUT``, output
        The chosen tokens.
    vocab : 16 bits, input
        Number of tokens of the model's vocabulary.
    setup : ``protocol.SETUP_LAYOUT``, input
        The most recent SETUP record.
    damage : ``protocol.DAMAGE_LAYOUT``, output
        Damage of the weights, see `WeightCheck`. A reset does not change ``damage``.
    status : ``protocol.STATUS``, output
        Figures of a step, valid with the last ``o_token`` of the step.
    logits_stream : 4 bits, input
        Selects the stream of ``logits_data`` and ``scale``.
    logits_address : 16 bits, input
        Selects the logit, see `Head`.
    logits_data : 24 bits, output
        The raw sum of the logit, one cycle after ``logits_address``.
    scale : ``protocol.SCALE_LAYOUT``, output
        The scale of the stream's logits, one cycle after ``logits_stream``.
    o_state : stream of ``memory.state_request_layout``, output, state "memory"
        Requests for words of the state.
    i_state : stream of ``word_bits`` bits, input, state "memory"
        The words that were read.
    counters_address : 16 bits, input, ``counters``
        Selects a count, see `Counters`.
    counters_data : 32 bits, output, ``counters``
        The count, one cycle after ``counters_address``.
    counted : 16 bits, output, ``counters``
        Number of phases of the last token.
    tap_h_valid : 1 bit, output, ``debug_tap``
        A beat of h is written in this cycle.
    tap_h_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of h. The 8 bits above the values name the stream.
    tap_s_valid : 1 bit, output, ``debug_tap``
        A beat of the new S is written in this cycle.
    tap_s_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of S. The 8 bits above the values name the stream.
    tap_codes_valid : 1 bit, output, ``debug_tap``
        A beat of codes is written in this cycle.
    tap_codes_payload : Q values of 8 bits and 8 bits, output, ``debug_tap``
        The codes. The 8 bits above the values name the stream.

    Numerics
    --------
    Equal to ``model_ref.model``, bit for bit.

    Latency
    -------
    ``measure.cycles`` computes the cycles of a token.

    Reference
    ---------
    ``model_ref.model``; docs/engine.md.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        ports: dict[str, Any] = {
            "i_words": In(stream.Signature(config.word_bits)),
            "i_row": In(stream.Signature(config.word_bits)),
            "i_feed": In(stream.Signature(feed_layout(config))),
            "i_run": In(stream.Signature(RUN_LAYOUT)),
            "o_start": Out(stream.Signature(token_payload(config))),
            "o_token": Out(stream.Signature(TOKEN_LAYOUT)),
            "vocab": In(16),
            "setup": In(SETUP_LAYOUT),
            "damage": Out(DAMAGE_LAYOUT),
            "status": Out(STATUS),
            "logits_stream": In(STREAM_BITS),
            "logits_address": In(16),
            "logits_data": Out(24),
            "scale": Out(SCALE_LAYOUT),
        }
        if config.state == "memory":
            ports |= {
                "o_state": Out(stream.Signature(state_request_layout(config))),
                "i_state": In(stream.Signature(config.word_bits)),
            }
        if config.source == "resident":
            ports["i_trits"] = In(stream.Signature(config.beat_bits))
        if takes_narrow_rows(config):
            ports["narrow_rows"] = In(1)
        if config.counters:
            ports |= {"counters_address": In(16), "counters_data": Out(32), "counted": Out(16)}
        if config.debug_tap:
            for name, bits in taps(config).items():
                ports[f"tap_{name}_valid"] = Out(1)
                ports[f"tap_{name}_payload"] = Out(bits)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        m.submodules.router = RecordRouter(config)
        m.submodules.check = WeightCheck(config)
        m.submodules.sequencer = Sequencer(config)
        m.submodules.codes = CodeMemory(config)
        m.submodules.ternary = TernaryUnit(config)
        m.submodules.results = ResultsControl(config)
        m.submodules.scale = SumScale(config)
        m.submodules.mlgru = Mlgru(config)
        m.submodules.glu = Glu(config)
        m.submodules.sigmoid = Sigmoid(config)
        m.submodules.gates = GateMemory(config)
        m.submodules.residual = Residual(config)
        m.submodules.head = Head(config)
        m.submodules.join = GainJoin(config)
        m.submodules.norm = RmsNorm(config)
        m.submodules.gains = GainSupply(config)
        row_ended = Signal()  # drops unused items of the row's last word before the next row arrives
        m.submodules.row = row = ResetInserter(row_ended)(GroupUnpacker(config, (1,)))
        m.submodules.row_skid = ResetInserter(row_ended)(Skid(row.o.signature.members["payload"].shape))

        self._connect_records(m)
        self._connect_check(m)
        self._connect_row(m, row_ended)
        self._connect_values(m)
        row_ends = self._connect_gains(m, row_ended)
        self._connect_host(m, row_ends)
        self._connect_status(m)
        if config.state == "memory":
            self._connect_state(m)
        if config.counters:
            self._connect_counters(m)
        if config.debug_tap:
            self._connect_taps(m)
        return m

    def _connect_records(self, m: Module) -> None:
        """Connect the record stream to its blocks."""
        config = self.config
        router, sequencer, ternary, gains = _find(m, "router sequencer ternary gains")
        join_streams(m, self.i_words, router.i)
        join_streams(m, router.o_op, sequencer.i_op)
        if config.source == "resident":
            join_streams(m, self.i_trits, ternary.i_weights)
        else:
            m.submodules.beats = beats = BeatAssembler(config)
            join_streams(m, self._buffer(m, "trit_fifo", router.o_trits, config.trit_fifo_words), beats.i)
            join_streams(m, beats.o, ternary.i_weights)
        join_streams(m, router.o_gains, gains.i)

    def _connect_check(self, m: Module) -> None:
        """Connect the check of the weights. The check reads all words, and rows and tokens pass through the check."""
        check, router = m.submodules.check, m.submodules.router
        join_streams(m, self.i_row, check.i_row)
        join_streams(m, check.o_token, self.o_token)
        m.d.comb += [
            check.setup.eq(self.setup),
            check.word_valid.eq(self.i_words.valid & self.i_words.ready),
            check.word.eq(self.i_words.payload),
            check.checked.eq(router.checked),
            check.asked.eq(self.o_start.valid & self.o_start.ready),
            check.token.eq(self.o_start.payload.token),
            check.begins.eq(self.i_run.valid & self.i_run.ready),
            check.final_stream.eq(self.i_run.payload.final_stream),
            self.damage.eq(check.damage),
        ]
        if self.config.source == "resident":
            m.d.comb += [
                check.beat_valid.eq(self.i_trits.valid & self.i_trits.ready),
                check.beat.eq(self.i_trits.payload),
            ]

    def _connect_row(self, m: Module, row_ended: Signal) -> None:
        """Connect the words of embedding rows to their unpacker."""
        config, words = self.config, m.submodules.check.o_row
        if config.source == "streamed":
            words = self._buffer(m, "row_fifo", words, row_fifo_words(config))
        if takes_narrow_rows(config):
            m.submodules.row_widener = widener = RowWidener(config)
            join_streams(m, words, widener.i)
            m.d.comb += [widener.narrow.eq(self.narrow_rows), widener.flush.eq(row_ended)]
            words = widener.o
        join_streams(m, words, m.submodules.row.i)

    def _connect_values(self, m: Module) -> None:
        """Connect the loop of codes, sums, values, vectors and the norm."""
        config = self.config
        sequencer, codes, ternary, results, scale, mlgru = _find(m, "sequencer codes ternary results scale mlgru")
        glu, sigmoid, residual, head, join, norm = _find(m, "glu sigmoid residual head join norm")
        join_streams(m, sequencer.o_quantise, norm.i_op)
        join_streams(m, norm.o_codes, codes.i_codes)
        m.d.comb += [norm.may_begin.eq(codes.may_begin), codes.begins.eq(norm.begins)]
        join_streams(m, sequencer.o_engine, codes.i_op)
        join_streams(m, codes.o, ternary.i_codes)
        join_streams(m, ternary.o_sums, results.i_sums)
        join_streams(m, norm.o_scale, results.i_scale)
        join_streams(m, sequencer.o_results, results.i_op)
        join_streams(m, results.o, scale.i)
        self._route_values(m, scale.o, {"mlgru": mlgru, "glu": glu, "head": head})
        join_streams(m, scale.o_up, glu.i_up)
        join_streams(m, scale.o_h, residual.i)
        m.d.comb += [glu.cuts.eq(scale.cuts), residual.values.eq(scale.h_values)]
        is_glu = self._is_glu(m, scale.o)
        _share(m, is_glu, mlgru.sigmoid, glu.sigmoid, sigmoid.user)
        _share(m, is_glu, mlgru.gates, glu.gates, m.submodules.gates.user)
        merged = stream.Signature(x_payload(config)).create()
        self._merge_vectors(m, (mlgru.o, glu.o, residual.o), merged)
        join_streams(m, merged, join.i_x)
        join_streams(m, join.o, norm.i_x)
        m.d.comb += [
            mlgru.eps_stream.eq(norm.eps_stream),
            norm.g_squares.eq(mlgru.g_squares),
            norm.state_shift.eq(mlgru.state_shift),
        ]

    def _connect_gains(self, m: Module, row_ended: Signal) -> Value:
        """Connect gains, bounds and embedding rows to the values. Return whether a row's last element is used."""
        sequencer, results, join, gains, row, row_skid = _find(m, "sequencer results join gains row row_skid")
        join_streams(m, sequencer.o_supply, gains.i_op)
        join_streams(m, sequencer.o_gains, join.i_op)
        m.submodules.gains_skid = gains_skid = Skid(gains.o.signature.members["payload"].shape)
        join_streams(m, gains.o, gains_skid.i)
        join_streams(m, gains_skid.o, join.i_group)
        join_streams(m, join.o_bounds, results.i_bounds)
        join_streams(m, row.o, row_skid.i)
        row_ends = results.i_row.valid & results.i_row.ready & results.o.payload.last
        m.d.sync += row_ended.eq(row_ends)
        m.d.comb += [
            results.i_row.valid.eq(row_skid.o.valid & ~row_ended),
            results.i_row.payload.eq(row_skid.o.payload),
            row_skid.o.ready.eq(results.i_row.ready),
            join.bounds_last.eq(results.o.payload.last),
            join.bounds_stream.eq(results.o.payload.stream),
            join.bounds_index.eq(results.o.payload.index),
            row.items.eq(1),
        ]
        return row_ends

    def _connect_host(self, m: Module, row_ends: Value) -> None:
        """Connect runs, rows and tokens to the sequencer, and the number of streams to all blocks."""
        sequencer, codes, ternary, results, head, join, norm = _find(
            m, "sequencer codes ternary results head join norm"
        )
        join_streams(m, self.i_feed, sequencer.i_feed)
        join_streams(m, self.i_run, sequencer.i_run)
        join_streams(m, sequencer.o_seed, head.i_seed)
        # A row is requested when the previous row has been used, so the fetch never blocks the record stream.
        row_under_way = Signal()
        asks, asked = sequencer.o_start, self.o_start
        m.d.comb += [
            asked.valid.eq(asks.valid & ~row_under_way),
            asked.payload.eq(asks.payload),
            asks.ready.eq(asked.ready & ~row_under_way),
        ]
        with m.If(asked.valid & asked.ready):
            m.d.sync += row_under_way.eq(1)
        with m.Elif(row_ends):
            m.d.sync += row_under_way.eq(0)
        join_streams(m, head.o, sequencer.i_token)
        if self.config.state == "block":
            join_streams(m, sequencer.o_token, m.submodules.check.i_token)
        for block in (codes, ternary, results, join, norm):
            m.d.comb += block.final_stream.eq(sequencer.final_stream)
        # A register ends the path of the lanes' ready, so beats are counted one cycle late. The count is still correct,
        # because the lanes take no beat near the end of a step.
        m.d.sync += sequencer.beat.eq(ternary.i_weights.valid & ternary.i_weights.ready)

    def _connect_status(self, m: Module) -> None:
        """Connect parameters, logits and the status of a step."""
        sequencer, results, scale, mlgru, residual, head = _find(m, "sequencer results scale mlgru residual head")
        # A register ends the path of the elements' sums, so saturations are counted one cycle late, as beats are.
        saturations, saturated = Signal(16), Signal(range(3))
        m.d.sync += saturated.eq(scale.saturated + residual.saturated)
        with m.If(self.i_run.valid & self.i_run.ready):
            m.d.sync += saturations.eq(0)
        with m.Elif(~saturations[1:].all()):
            m.d.sync += saturations.eq(saturations + saturated)
        words = (self.i_words.valid & self.i_words.ready) + (self.i_row.valid & self.i_row.ready)
        if self.config.state == "memory":
            asks = self.o_state
            words += (self.i_state.valid & self.i_state.ready) + (asks.valid & asks.ready & asks.payload.write)
        else:
            m.d.comb += mlgru.bases.eq(sequencer.bases)
        if self.config.source == "streamed":
            # A register ends the path of the words' ready, so words are counted one cycle late, as beats are.
            counted = Signal.like(sequencer.word, name="counted")
            m.d.sync += counted.eq(words)
            words = counted
        m.d.comb += [
            mlgru.fresh.eq(sequencer.fresh),
            mlgru.chained.eq(sequencer.chained),
            head.temperature.eq(sequencer.temperature),
            head.vocab.eq(self.vocab),
            head.logits_stream.eq(self.logits_stream),
            head.address.eq(self.logits_address),
            self.logits_data.eq(head.data),
            results.scale_stream.eq(self.logits_stream),
            self.scale.eq(results.scale),
            sequencer.word.eq(words),
            self.status.cycles.eq(sequencer.cycles),
            self.status.beats.eq(sequencer.beats),
            self.status.words.eq(sequencer.words),
            self.status.saturations.eq(saturations),
        ]

    def _connect_state(self, m: Module) -> None:
        """Connect the DMA of the state. The last token of a run waits until the state is saved."""
        sequencer, mlgru = _find(m, "sequencer mlgru")
        m.submodules.state_dma = dma = StateDma(self.config)
        wiring.connect(m, dma.window, mlgru.window)
        join_streams(m, dma.o_request, self.o_state)
        join_streams(m, self.i_state, dma.i_word)
        tokens, out = sequencer.o_token, m.submodules.check.i_token
        may_leave = dma.idle | ~tokens.payload.last
        m.d.comb += [
            out.valid.eq(tokens.valid & may_leave),
            out.payload.eq(tokens.payload),
            tokens.ready.eq(out.ready & may_leave),
            mlgru.final_stream.eq(sequencer.final_stream),
            dma.state_base.eq(self.setup.state_base),
            dma.state_words.eq(self.setup.state_words),
            dma.layers.eq(self.setup.layers),
            dma.bases.eq(sequencer.bases),
            dma.final_stream.eq(sequencer.final_stream),
            dma.chained.eq(sequencer.chained),
            dma.begins.eq(self.i_run.valid & self.i_run.ready),
            dma.goes_on.eq(sequencer.goes_on),
        ]

    def _connect_counters(self, m: Module) -> None:
        """Connect the counters to the streams."""
        config = self.config
        router, sequencer, ternary, results = _find(m, "router sequencer ternary results")
        m.submodules.counters = counters = Counters(config)
        of_row, sums = results.i_row, results.o.payload
        m.d.comb += [
            counters.begins.eq(self.i_run.valid & self.i_run.ready),
            counters.ends_token.eq(
                sequencer.i_token.valid
                & sequencer.i_token.ready
                & (sequencer.i_token.payload.stream == sequencer.final_stream)
            ),
            counters.ends_row.eq(of_row.valid & of_row.ready & sums.last & (sums.stream == sequencer.final_stream)),
            counters.codes.eq(ternary.i_codes.valid),
            counters.trits.eq(ternary.i_weights.valid),
            counters.beat.eq(ternary.i_weights.valid & ternary.i_weights.ready),
            counters.last_beat.eq(ternary.i_codes.payload.last_column & ternary.i_codes.payload.last_row_group),
            counters.word.eq(self.i_words.valid),
            counters.taken.eq(self.i_words.ready),
            counters.to_gains.eq(router.o_gains.valid),
            counters.to_trits.eq(router.o_trits.valid),
            counters.address.eq(self.counters_address),
            self.counters_data.eq(counters.data),
            self.counted.eq(counters.phases),
        ]

    def _connect_taps(self, m: Module) -> None:
        """Connect the debug taps."""
        mlgru, residual, norm = _find(m, "mlgru residual norm")
        given = norm.o_codes
        for name, valid, values, of_stream in (
            ("h", residual.tap_valid, residual.tap, residual.tap_stream),
            ("s", mlgru.tap_s_valid, mlgru.tap_s, mlgru.tap_s_stream),
            ("codes", given.valid & given.ready, given.payload.codes, given.payload.stream),
        ):
            m.d.comb += [
                getattr(self, f"tap_{name}_valid").eq(valid),
                getattr(self, f"tap_{name}_payload").eq(Cat(values, of_stream)),
            ]

    @staticmethod
    def _buffer(m: Module, name: str, words: Any, depth: int) -> Any:
        """Return the output of a FIFO whose input is the stream ``words``."""
        fifo = SyncFIFOBuffered(width=len(words.payload), depth=depth)
        m.submodules[name] = fifo
        join_streams(m, words, fifo.w_stream)
        return fifo.r_stream

    @staticmethod
    def _route_values(m: Module, values: Any, blocks: dict[str, Any]) -> None:
        """Connect values to the block of their operation."""
        for block in blocks.values():
            m.d.comb += block.i.payload.eq(values.payload)
        # GLU is always ready, and MLGRU only stalls values of I and G.
        m.d.comb += values.ready.eq(Mux(values.payload.of_head, blocks["head"].i.ready, blocks["mlgru"].i.ready))
        with m.Switch(values.payload.op):
            for name, ops in ROUTES:
                with m.Case(*ops):
                    m.d.comb += blocks[name].i.valid.eq(values.valid)

    @staticmethod
    def _is_glu(m: Module, values: Any) -> Signal:
        """Return whether the most recent value went to GLU and not to MLGRU. The pipeline of the block that did not
        receive the value is empty."""
        is_glu = Signal()
        with m.If(values.valid & values.ready):
            with m.Switch(values.payload.op):
                with m.Case(Op.F):
                    m.d.sync += is_glu.eq(0)
                with m.Case(Op.GATE):
                    m.d.sync += is_glu.eq(1)
        return is_glu

    @staticmethod
    def _merge_vectors(m: Module, sources: tuple[Any, ...], join: Any) -> None:
        """Connect the norm to the source that is valid. At most one source sends a vector at any time."""
        for index, source in enumerate(sources):
            with (m.If if index == 0 else m.Elif)(source.valid):
                m.d.comb += [join.valid.eq(1), join.payload.eq(source.payload), source.ready.eq(join.ready)]


def _share(m: Module, is_glu: Signal, of_mlgru: Any, of_glu: Any, user: Any) -> None:
    """Connect the ports of MLGRU and GLU to a block that they share. MLGRU and GLU both receive the results of this
    block."""
    for name, member in of_mlgru.signature.members.items():
        ours, theirs = getattr(of_mlgru, name), getattr(of_glu, name)
        if member.flow is Out:
            m.d.comb += getattr(user, name).eq(Mux(is_glu, theirs, ours))
        else:
            m.d.comb += [ours.eq(getattr(user, name)), theirs.eq(getattr(user, name))]
