"""The head: the token of the largest logit, and the logits kept for the host.

    sums ─► largest so far (lowest index wins a tie) ─► token
       └──► logit memory ─► host

One comparison a row; one lane costs 91 LUT4 and 30 CCU2C beside its memory. Twin of ``model_ref.head.argmax``; the
scale of lm_head is positive and common to all rows, so the raw sums order the tokens.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, values_payload
from lutern.hw.stages import Stages
from lutern.model_ref import head
from lutern.model_ref.fixed import Int
from lutern.model_ref.ternary import SUM_BITS

TOKEN = StructLayout({"token": 16})
LOWEST = -(1 << (SUM_BITS - 1))
"""What a padding row counts as: below every sum, whose magnitude is at most 127 * 8192."""
LOGIT_BITS = SUM_BITS
"""Bits of a sum that are compared and kept."""


class Head(wiring.Component):
    """Chooses the token.

    Members: ``i`` raw sums (op HEAD), rows in order, ``last`` on the final beat; ``vocab`` rows that count (a last beat
    may hold padding); ``o`` the token, one item a vector; ``address`` and, one cycle later, ``data``: a raw sum for
    the host, sign-extended to 24 bits.

    Latency: 3 from the last beat to the token.
    """

    latency = 3

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "vocab": In(16),
                "o": Out(stream.Signature(TOKEN)),
                "address": In(16),
                "data": Out(signed(24)),
            }
        )

    @staticmethod
    def model(sums: Int) -> int:
        """The token of sums [V]."""
        return int(head.argmax(sums))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = self.config.results_per_cycle
        depth = -(-self.config.max_vocab // lanes)
        m.submodules.memory = memory = Memory(shape=lanes * SUM_BITS, depth=depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        advance = ~self.o.valid | self.o.ready
        stages = Stages(m, advance)
        i = self.i.payload
        accepted = self.i.valid & advance
        beat = Signal(16)
        m.d.comb += self.i.ready.eq(advance)
        with m.If(accepted):
            m.d.sync += beat.eq(Mux(i.last, 0, beat + 1))

        # the host's view
        m.d.comb += [
            write.addr.eq(beat),
            write.en.eq(accepted & (beat < depth)),
            write.data.eq(Cat(*[i.values.word_select(lane, VALUE_BITS)[:SUM_BITS] for lane in range(lanes)])),
        ]
        if lanes == 1:
            m.d.comb += [read.addr.eq(self.address), self.data.eq(read.data.as_signed())]
        else:
            lane_bits = (lanes - 1).bit_length()
            lane = Signal(lane_bits)
            m.d.sync += lane.eq(self.address[:lane_bits])
            m.d.comb += [
                read.addr.eq(self.address[lane_bits:]),
                self.data.eq(read.data.word_select(lane, SUM_BITS).as_signed()),
            ]

        # 1: the best of the beat; a padding row is below every sum
        lowest = Const(LOWEST, signed(SUM_BITS))
        candidates = []
        for index in range(lanes):
            value = i.values.word_select(index, VALUE_BITS)[:LOGIT_BITS].as_signed()
            counts = beat * lanes + index < self.vocab
            candidates.append((Mux(counts, value, lowest), Const(index, range(max(2, lanes)))))
        while len(candidates) > 1:
            pairs = zip(candidates[::2], candidates[1::2], strict=True)
            candidates = [
                (Mux(b[0] > a[0], b[0], a[0]), Mux(b[0] > a[0], b[1], a[1])) for a, b in pairs
            ]
        value, offset = candidates[0]
        valid = stages.valid(self.i.valid, 1)
        beat_best = Signal(signed(SUM_BITS), reset_less=True)
        beat_token = Signal(16, reset_less=True)
        last = stages.register(i.last, "last")
        first = stages.register(beat == 0, "first")
        with m.If(advance):
            m.d.sync += [beat_best.eq(value), beat_token.eq(beat * lanes + offset)]

        # 2: the best of all
        best, token = Signal(signed(SUM_BITS), reset_less=True), Signal(16, reset_less=True)
        with m.If(advance & valid & (first | (beat_best > best))):
            m.d.sync += [best.eq(beat_best), token.eq(beat_token)]
        m.d.comb += [
            self.o.valid.eq(stages.valid(stages.valid(valid & last, 1), 1)),
            self.o.payload.token.eq(stages.register(token, "chosen")),
        ]
        return m
