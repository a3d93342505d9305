"""The residual stream h: written by the embedding row, added to by o_proj and down_proj.

    values ─► h[j] = value (EMBED)  or  h[j] + value (RESIDUAL), saturated to 32 bits ─► memory
                                                                                   └─► x, into the next norm

One read, one addition and one write an element. A lane costs 89 LUT4 and 55 CCU2C beside its memory.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS, Op, values_payload, x_payload
from lutern.hw.scale import beyond
from lutern.hw.stages import Stages, saturate
from lutern.model_ref import fixed
from lutern.model_ref.fixed import Int
from lutern.model_ref.norm import X_BITS

ADDS = int(Op.RESIDUAL)
"""The operation that adds; the other one, EMBED, starts from zero."""
H_BITS = 32
"""h saturates at so many bits."""


class Residual(wiring.Component):
    """Keeps h and sends it on.

    Members: ``i`` values of EMBED (the new h) or RESIDUAL (what is added), s32 with the fraction bits of h; ``o`` the
    new h, sign-extended to 35 bits; ``saturated`` pulses when h did not fit; ``tap_valid``, ``tap`` the new h as
    written (P x 32 bits).

    Numerics: ``saturate(h + value)`` symmetric at 32 bits; twin of ``model_ref.model.add_residual``.

    Latency: 4. An element is not read again within a vector, and vectors are a barrier apart (or have 4 beats or more).
    """

    latency = 4

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(values_payload(config))),
                "o": Out(stream.Signature(x_payload(config))),
                "saturated": Out(1),
                "tap_valid": Out(1),
                "tap": Out(config.results_per_cycle * VALUE_BITS),
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
        lanes, depth = self.config.results_per_cycle, -(-self.config.max_width // self.config.results_per_cycle)
        m.submodules.memory = memory = Memory(shape=lanes * VALUE_BITS, depth=depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        advance = ~self.o.valid | self.o.ready
        stages = Stages(m, advance)
        i = self.i.payload
        index = Signal(range(depth))
        accepted = self.i.valid & advance
        m.d.comb += [self.i.ready.eq(advance), read.addr.eq(index), read.en.eq(advance)]
        with m.If(accepted):
            m.d.sync += index.eq(Mux(i.last, 0, index + 1))

        # 1: h is read; 2: held, because a block RAM is slow; 3: the sum; 4: saturated and written
        valid = stages.valid(self.i.valid, 3)
        values = stages.delay(i.values, 2, "values")
        adds = stages.register(i.op == ADDS, "adds")
        where = stages.delay(index, 3, "where")
        olds = stages.register(Mux(adds, read.data, 0), "olds")
        new, outside = [], []
        for lane in range(lanes):
            old, value = (vector.word_select(lane, VALUE_BITS).as_signed() for vector in (olds, values))
            total = stages.register(old + value, f"total_{lane}")
            new.append(saturate(total, H_BITS))
            outside.append(beyond(total, H_BITS))
        packed = Signal(lanes * VALUE_BITS)
        m.d.comb += [
            packed.eq(Cat(*new)),
            write.addr.eq(where),
            write.data.eq(packed),
            write.en.eq(valid & advance),
            self.saturated.eq(write.en & Cat(*outside).any()),
            self.tap_valid.eq(write.en),
            self.tap.eq(packed),
        ]
        held = stages.register(packed, "held")
        wide = []
        for lane in range(lanes):
            element = Signal(signed(X_BITS), name=f"x_{lane}")
            m.d.comb += element.eq(held.word_select(lane, VALUE_BITS).as_signed())
            wide.append(element)
        m.d.comb += [
            self.o.valid.eq(stages.valid(valid, 1)),
            self.o.payload.x.eq(Cat(*wide)),
            self.o.payload.last.eq(stages.delay(i.last, 4, "last")),
        ]
        return m
