"""Counters of what the lanes and the record stream do in each cycle of a token, phase by phase.

    embedding's row │ f_proj, layer 0 │ i_proj │ ... │ lm_head │ choice      phases of a token, no cycle between them
      to its last     to the last beat of trits ...              to the token
      beat

    lanes    beats │ barrier │ codes │ trits │ sums                  one of five causes a cycle, so their sum is the
    records  words │ memory │ operations │ gains │ trit_fifo         phase's length, and that of all phases the token's

At the end of a phase its ten counts go into a table, a row a phase, over those of the token before. The meaning of each
is in hw/protocol.py. Nothing here stands in the data's way: every input ends in a register.

Cost: ten counters of 32 bits, and a table of ``counted_phases`` rows of 320 bits: 9 block RAMs, 910 places of logic and
370 flip-flops (`lutern cost counters --preset sdram-x16`). A resident machine's block RAMs are full of trits, so its
table is built of LUTs: 6,700 places and 690 flip-flops. So they are an option.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.pipeline import new_memory, read_register
from lutern.hw.protocol import COUNTER_NAMES, COUNTER_STRIDE

BITS = 32
ROW_BITS = BITS * len(COUNTER_NAMES)
INPUTS = (
    "begins",
    "ends_token",
    "ends_row",
    "codes",
    "trits",
    "beat",
    "last_beat",
    "word",
    "taken",
    "to_gains",
    "to_trits",
)
"""Members of one bit each, see `Counters`."""


def table_style(config: HwConfig) -> str:
    """What the table is built of: on a resident machine the block RAMs are full of trits."""
    return "distributed" if config.source == "resident" else "block"


class Counters(wiring.Component):
    """Counts cycles by cause.

    Members: ``begins`` a run, ``ends_token``: its cycle is the next token's first; ``ends_row``: its cycle is the
    phase's last, as that of a ``beat`` with ``last_beat``; of the lanes ``codes`` and ``trits`` that are offered;
    of the record stream ``word`` offered, ``taken``, wanted by the gains (``to_gains``) or the trits (``to_trits``).
    ``address``: phase times ``COUNTER_STRIDE`` plus counter, whose ``data`` comes one cycle later; ``phases`` of the
    last token, 0 if none was chosen since the run began.

    Latency: a token's counts are in the table 2 cycles after ``ends_token``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__({**{name: In(1) for name in INPUTS}, "address": In(16), "data": Out(BITS), "phases": Out(16)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        depth, count = self.config.counted_phases, len(COUNTER_NAMES)
        attrs: dict[str, str | int] = {"no_rw_check": 1, "ram_style": table_style(self.config)}
        m.submodules.table = table = new_memory(ROW_BITS, depth, attrs=attrs)

        # what the cycle before was spent on
        begun = Signal()  # the first beat of this matrix has been taken
        ends_matrix = self.beat & self.last_beat
        with m.If(self.beat):
            m.d.sync += begun.eq(~self.last_beat)
        stuck = self.word & ~self.taken
        cause = Signal(count)
        m.d.sync += cause.eq(
            Cat(
                self.beat,
                ~self.codes & ~begun,
                ~self.codes & begun,
                self.codes & ~self.trits,
                self.codes & self.trits & ~self.beat,
                self.word & self.taken,
                ~self.word,
                stuck & ~self.to_gains & ~self.to_trits,
                stuck & self.to_gains,
                stuck & self.to_trits,
            )
        )
        begins, ends_token, ends_phase, phase_ended = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            begins.eq(self.begins),
            ends_token.eq(self.ends_token),
            ends_phase.eq(self.ends_row | ends_matrix),
            phase_ended.eq(ends_phase),  # its own cycle counts as well
        ]

        counts = [Signal(BITS, name=f"count_{name}") for name in COUNTER_NAMES]
        phase = Signal(16)
        restarts, ends = begins | ends_token | phase_ended, ends_token | phase_ended
        for counter, one in zip(counts, cause, strict=True):
            m.d.sync += counter.eq(Mux(restarts, 0, counter) + one)
        write = table.write_port()
        m.d.comb += [write.addr.eq(phase), write.data.eq(Cat(counts)), write.en.eq(ends & (phase < depth))]
        with m.If(begins):
            m.d.sync += [phase.eq(0), self.phases.eq(0)]
        with m.Elif(ends_token):
            m.d.sync += [phase.eq(0), self.phases.eq(phase + 1)]
        with m.Elif(phase_ended):
            m.d.sync += phase.eq(phase + 1)

        stride_bits = (COUNTER_STRIDE - 1).bit_length()
        row = read_register(m, table, self.address[stride_bits:])
        column = Signal(stride_bits)
        m.d.sync += column.eq(self.address[:stride_bits])
        words = [row[BITS * index : BITS * (index + 1)] for index in range(count)]
        m.d.comb += self.data.eq(Array([*words, *[0] * (COUNTER_STRIDE - count)])[column])
        return m
