"""The decoder: everything between the stream of words and the chosen token.

    words ─► router ─┬─ trits ─► FIFO ─► ternary ─► results ─► scale ─┬─► mlgru ────┐
                     ├─ gains ─► FIFO ─► unpacker             ├─► glu ──────┼─► gain join ─► norm ─► codes ─┐
                     ├─ row ───► FIFO ─► unpacker             ├─► residual ─┘                               │
                     └─ operations ─► sequencer               └─► head ─► token          code memory ◄──────┘
                                                                                                     └─► ternary

This file only joins blocks; what each does stands in its own module, when it does it in docs/engine.md.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.hw.head import TOKEN, Head
from lutern.hw.layouts import EMBEDDING_BITS, GAIN_BITS, TUPLE_GAINS, VALUE_BITS, Op, row_fifo_words, x_payload
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm import RmsNorm
from lutern.hw.protocol import RUN_LAYOUT, STATUS, TOKEN_LAYOUT
from lutern.hw.residual import Residual
from lutern.hw.results import GainJoin, ResultsControl
from lutern.hw.router import GroupUnpacker, RecordRouter
from lutern.hw.scale import SumScale
from lutern.hw.sequencer import Sequencer
from lutern.hw.skid import Skid
from lutern.hw.stages import link
from lutern.hw.ternary import TernaryUnit

GAIN_TUPLES = (1, 2, TUPLE_GAINS)
ROUTES = (
    ("mlgru", (Op.F, Op.I, Op.G)),
    ("glu", (Op.GATE, Op.UP)),
    ("residual", (Op.EMBED, Op.RESIDUAL)),
    ("head", (Op.HEAD,)),
)
"""Which block takes the values of which operation."""


def taps(config: HwConfig) -> dict[str, int]:
    """Debug taps and their payload bits: values as they are written, P or Q at a time, without back-pressure."""
    lanes = config.results_per_cycle
    return {"h": lanes * VALUE_BITS, "s": lanes * VALUE_BITS, "codes": config.codes_per_cycle * 8}


class Decoder(wiring.Component):
    """Decodes tokens from a stream of words.

    Members: ``i_words`` the stream; ``i_run`` {token, count, fresh}; ``o_start`` {token} asks the reader for a token's
    stream; ``o_token`` {token, last} chosen tokens; ``vocab`` tokens of the model; ``status`` of the last token (valid
    with ``o_token``); ``logits_address``, ``logits_data`` raw sums, one cycle later; with ``debug_tap`` the ports
    ``tap_h``, ``tap_s``, ``tap_codes`` and their valids.

    Latency: the cycles of a token are those of ``measure.cycles``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        ports: dict[str, Any] = {
            "i_words": In(stream.Signature(config.word_bits)),
            "i_run": In(stream.Signature(RUN_LAYOUT)),
            "o_start": Out(stream.Signature(TOKEN)),
            "o_token": Out(stream.Signature(TOKEN_LAYOUT)),
            "vocab": In(16),
            "status": Out(STATUS),
            "logits_address": In(16),
            "logits_data": Out(24),
        }
        if config.debug_tap:
            for name, bits in taps(config).items():
                ports[f"tap_{name}_valid"] = Out(1)
                ports[f"tap_{name}_payload"] = Out(bits)
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        m.submodules.router = router = RecordRouter(config)
        m.submodules.sequencer = sequencer = Sequencer()
        m.submodules.codes = codes = CodeMemory(config)
        m.submodules.ternary = ternary = TernaryUnit(config)
        m.submodules.results = results = ResultsControl(config)
        m.submodules.scale = scale = SumScale(config)
        m.submodules.mlgru = mlgru = Mlgru(config)
        m.submodules.glu = glu = Glu(config)
        m.submodules.residual = residual = Residual(config)
        m.submodules.head = head = Head(config)
        m.submodules.join = join = GainJoin(config)
        m.submodules.norm = norm = RmsNorm(config)
        m.submodules.gains = gains = GroupUnpacker(config, GAIN_BITS, GAIN_TUPLES)
        m.submodules.row = row = GroupUnpacker(config, EMBEDDING_BITS, (1,))

        # the stream, taken apart
        link(m, self.i_words, router.i)
        link(m, router.o_op, sequencer.i_op)
        link(m, self._buffer(m, "trit_fifo", router.o_trits, config.trit_fifo_words), ternary.i_weights)
        link(m, self._buffer(m, "gain_fifo", router.o_gains, config.gain_fifo_words), gains.i)
        link(m, self._buffer(m, "row_fifo", router.o_embed, row_fifo_words(config)), row.i)

        # codes and sums
        link(m, sequencer.o_quantise, norm.i_op)
        link(m, norm.o_codes, codes.i_codes)
        link(m, sequencer.o_engine, codes.i_op)
        link(m, codes.o, ternary.i_codes)
        link(m, self._skid(m, "sums_skid", ternary.o_sums), results.i_sums)
        link(m, norm.o_scale, results.i_scale)
        link(m, sequencer.o_results, results.i_op)
        link(m, results.o, scale.i)
        self._route_values(m, scale, {"mlgru": mlgru, "glu": glu, "residual": residual, "head": head})
        merged = Skid(x_payload(config))
        m.submodules.x_skid = merged
        self._merge_vectors(m, (mlgru.o, glu.o, residual.o), merged.i)
        link(m, merged.o, join.i_x)
        link(m, join.o, norm.i_x)
        m.d.comb += [norm.g_squares.eq(mlgru.g_squares), norm.state_shift.eq(mlgru.state_shift)]

        # gains
        link(m, sequencer.o_gains, join.i_op)
        link(m, gains.o, join.i_group)
        link(m, join.o_bounds, results.i_bounds)
        link(m, row.o, results.i_row)
        m.d.comb += [
            gains.items.eq(join.items),
            gains.flush.eq(join.flush),
            join.bounds_last.eq(results.o.payload.last),
            row.items.eq(1),
            row.flush.eq(results.o.payload.last),
        ]

        # tokens
        link(m, self.i_run, sequencer.i_run)
        link(m, sequencer.o_start, self.o_start)
        link(m, head.o, sequencer.i_token)
        link(m, sequencer.o_token, self.o_token)
        saturations = Signal(16)
        with m.If(self.i_run.valid & self.i_run.ready):
            m.d.sync += saturations.eq(0)
        with m.Elif(~saturations[1:].all()):
            m.d.sync += saturations.eq(saturations + scale.saturated + residual.saturated)
        m.d.comb += [
            mlgru.fresh.eq(sequencer.fresh),
            head.vocab.eq(self.vocab),
            head.address.eq(self.logits_address),
            self.logits_data.eq(head.data),
            sequencer.beat.eq(ternary.i_weights.valid & ternary.i_weights.ready),
            self.status.cycles.eq(sequencer.cycles),
            self.status.beats.eq(sequencer.beats),
            self.status.scale_mantissa.eq(results.scale.mantissa),
            self.status.scale_exponent.eq(results.scale.exponent),
            self.status.saturations.eq(saturations),
        ]
        if config.debug_tap:
            m.d.comb += [
                self.tap_h_valid.eq(residual.tap_valid),
                self.tap_h_payload.eq(residual.tap),
                self.tap_s_valid.eq(mlgru.tap_s_valid),
                self.tap_s_payload.eq(mlgru.tap_s),
                self.tap_codes_valid.eq(norm.o_codes.valid & norm.o_codes.ready),
                self.tap_codes_payload.eq(norm.o_codes.payload.codes),
            ]
        return m

    @staticmethod
    def _buffer(m: Module, name: str, words: Any, depth: int) -> Any:
        """A FIFO of words behind a stream."""
        fifo = SyncFIFOBuffered(width=len(words.payload), depth=depth)
        m.submodules[name] = fifo
        link(m, words, fifo.w_stream)
        return fifo.r_stream

    @staticmethod
    def _skid(m: Module, name: str, output: Any) -> Any:
        """A stream whose ready is a register."""
        skid = Skid(output.signature.members["payload"].shape)
        m.submodules[name] = skid
        link(m, output, skid.i)
        return skid.o

    @staticmethod
    def _route_values(m: Module, scale: SumScale, blocks: dict[str, Any]) -> None:
        """Values go to the block of their operation."""
        for block in blocks.values():
            m.d.comb += block.i.payload.eq(scale.o.payload)
        with m.Switch(scale.o.payload.op):
            for name, ops in ROUTES:
                with m.Case(*ops):
                    m.d.comb += [blocks[name].i.valid.eq(scale.o.valid), scale.o.ready.eq(blocks[name].i.ready)]

    @staticmethod
    def _merge_vectors(m: Module, sources: tuple[Any, ...], join: Any) -> None:
        """One vector is made at a time, so whoever is valid has the norm."""
        for index, source in enumerate(sources):
            with (m.If if index == 0 else m.Elif)(source.valid):
                m.d.comb += [join.valid.eq(1), join.payload.eq(source.payload), source.ready.eq(join.ready)]


