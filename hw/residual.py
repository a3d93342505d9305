"""The residual stream h. The embedding row writes h, and o_proj and down_proj add to h.

    place ─► h[j] ───┐
    values ──────────┴─► value (EMBED)  or  h[j] + value (RESIDUAL), saturated to 32 bits ─► memory
                                                                                       └─► x, into the next norm

Each element needs one read, one addition and one write. Cost for each of the P elements, without the memory: 37 LUT4
and 50 CCU2C.
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
"""h saturates at this number of bits."""


class Residual(wiring.Component):
    """Stores h of every stream, and sends each new h to the norm.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) elements per beat, ``max_width``, ``streams`` (T).

    Members
    -------
    i : stream of ``layouts.place_payload``, input
        The place (``stream`` and ``index``) of a beat of RESIDUAL (``adds`` is 1) or EMBED (``adds`` is 0).
    values : P values of 32 bits signed, input
        The values have the fraction bits of h, and arrive ``SumScale.latency`` cycles after their place. RESIDUAL adds
        the values to h. The values of EMBED are the new h.
    o : stream of ``layouts.x_payload``, output
        The new h, sign-extended to 35 bits.
    saturated : 1 bit, output
        Pulses in the cycle in which a beat of the new h is written, if a value of this beat did not fit.
    tap_valid : 1 bit, output
        A beat of the new h is written in this cycle.
    tap : P values of 32 bits, output
        The new h.
    tap_stream : ``stream_bits`` bits, output
        The stream of ``tap``.
    tap_index : ``index_bits`` bits, output
        The index of the beat ``tap`` in its vector.

    Numerics
    --------
    ``saturate(h + value)``, symmetric at 32 bits. This is equal to ``model_ref.model.add_residual``, bit for bit.

    Latency
    -------
    ``latency`` = 6 cycles from ``i`` to ``o``. The same beat of the same stream may enter again from the 4th cycle on,
    because its new h is read correctly from that cycle on. An interlock is not needed, because a barrier separates
    operations on h.

    Reference
    ---------
    ``model``.
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
        """Return the new h of a beat, and whether it saturated."""
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

        # h is read as late as possible, while the scale computes the values. The sum is saturated and written
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
