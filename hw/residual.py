"""The residual stream h: written by the embedding row, added to by o_proj and down_proj.

    place ─► h[j] ───┐
    values ──────────┴─► value (EMBED)  or  h[j] + value (RESIDUAL), saturated to 32 bits ─► memory
                                                                                       └─► x, into the next norm

One read, one addition and one write an element. A lane costs 37 LUT4 and 50 CCU2C beside its memory.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, Op, place_payload, x_payload
from lutern.hw.pipeline import (
    CreditFifo,
    Stages,
    beyond,
    index_of,
    place_of,
    read_ahead_of_register,
    saturate,
    stream_of,
    vector_memory,
)
from lutern.hw.scale import SumScale
from lutern.model_ref import fixed
from lutern.model_ref.fixed import Int
from lutern.model_ref.norm import X_BITS

H_BITS = 32
"""h saturates at so many bits."""


class Residual(wiring.Component):
    """Keeps the h of every stream and sends it on.

    Members: ``i`` where values belong: of RESIDUAL, which ``adds``, or EMBED; ``values`` themselves, s32 with the
    fraction bits of h, ``SumScale.latency`` cycles later: what is added, or the new h; ``o`` the
    new h, sign-extended to 35 bits; ``saturated`` pulses when h did not fit; ``tap_valid``, ``tap`` the new h as
    written (P x 32 bits) and ``tap_stream``, ``tap_index`` where. An element stands where its beat's ``stream`` and
    ``index`` say.

    Numerics: ``saturate(h + value)`` symmetric at 32 bits; twin of ``model_ref.model.add_residual``.

    Latency: 6. The same beat of the same stream may come again from the 4th cycle on: its h is written by then.
    Nothing holds it back sooner; operations on h are a barrier apart.
    """

    latency = SumScale.latency + CreditFifo.latency

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(place_payload(config))),
                "values": In(config.results_per_cycle * VALUE_BITS),
                "o": Out(stream.Signature(x_payload(config))),
                "saturated": Out(1),
                "tap_valid": Out(1),
                "tap": Out(config.results_per_cycle * VALUE_BITS),
                "tap_stream": Out(config.stream_bits),
                "tap_index": Out(config.index_bits),
            }
        )

    @staticmethod
    def model(h: Int, values: Int, op: Op) -> tuple[Int, bool]:
        """The new h of a beat, and whether it did not fit."""
        total = values if op == Op.EMBED else h + values
        new = fixed.saturate(total, fixed.S32_MAX)
        return new, bool((new != total).any())

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        lanes = self.config.results_per_cycle
        m.submodules.memory = memory = vector_memory(self.config, VALUE_BITS)
        write = memory.write_port()
        stages = Stages(m)
        m.submodules.sent = sent = CreditFifo(x_payload(self.config))
        i = self.i.payload
        enters = self.i.valid & sent.room
        m.d.comb += [self.i.ready.eq(sent.room), sent.enters.eq(enters)]

        # h is read while the values are made, as late as it can; their sum is saturated and written
        came = SumScale.latency
        early = stages.delay(place_of(self.config, i), came - 2, "early")
        read = read_ahead_of_register(m, self.config, stages, memory, early)
        adds = stages.delay(i.adds, came - 1, "adds")
        olds = stages.register(Mux(adds, read, 0), "olds")
        valid = stages.valid(enters, came)
        where = stages.delay(early, 2, "where")
        new, outside = [], []
        for lane in range(lanes):
            old, value = (vector.word_select(lane, VALUE_BITS).as_signed() for vector in (olds, self.values))
            total = Signal(signed(H_BITS + 1), name=f"total_{lane}")
            m.d.comb += total.eq(old + value)
            new.append(saturate(total, H_BITS))
            outside.append(beyond(total, H_BITS))
        packed = Signal(lanes * VALUE_BITS)
        m.d.comb += [
            packed.eq(Cat(*new)),
            write.addr.eq(where),
            write.data.eq(packed),
            write.en.eq(valid),
            self.saturated.eq(write.en & Cat(*outside).any()),
            self.tap_valid.eq(write.en),
            self.tap.eq(packed),
            self.tap_stream.eq(stream_of(self.config, where)),
            self.tap_index.eq(index_of(self.config, where)),
        ]
        wide = []
        for lane in range(lanes):
            element = Signal(signed(X_BITS), name=f"x_{lane}")
            m.d.comb += element.eq(packed.word_select(lane, VALUE_BITS).as_signed())
            wide.append(element)
        x = sent.i.payload
        m.d.comb += [
            sent.i.valid.eq(valid),
            x.x.eq(Cat(*wide)),
            x.stream.eq(stream_of(self.config, where)),
            x.index.eq(index_of(self.config, where)),
            x.last.eq(stages.delay(i.last, came, "last")),
        ]
        wiring.connect(m, sent.o, wiring.flipped(self.o))
        return m
