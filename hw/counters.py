"""The counters record, for each phase of a token, what the lanes and the record stream do in each cycle.

    embedding's row │ f_proj, layer 0 │ i_proj │ ... │ lm_head │ choice      the phases of a token, without gaps
      to its last     to the last beat of trits ...              to the token
      beat

    lanes    beats │ barrier │ codes │ trits │ sums                  one of these five in each cycle
    records  words │ memory │ operations │ gains │ trit_fifo         one of these five in each cycle

The five counts of the lanes in a phase add up to the cycles of the phase, and so do the five counts of the records. The
cycles of all phases add up to the cycles of the token.

At the end of a phase its ten counts are written to a table that has one row for each phase. These counts replace the
counts of the previous token. hw/protocol.py explains each count. Every input ends in a register, so the counters do not
lengthen the paths of the machine.

Cost: ten counters of 32 bits, and a table of ``counted_phases`` rows of 320 bits. Counters and table take 9 block RAMs,
910 logic cells and 370 flip-flops (`lutern cost counters --preset sdram-x16`). The block RAMs of a resident machine are
full of trits, so its table is built of LUTs. On a resident machine, counters and table take 6,700 logic cells and 690
flip-flops. Because of this cost, the counters are an option.
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
"""The inputs of one bit. `Counters` describes these inputs."""


def table_style(config: HwConfig) -> str:
    """Return the kind of RAM of the table. A resident machine uses LUTs, because its block RAMs are full of trits."""
    return "distributed" if config.source == "resident" else "block"


class Counters(wiring.Component):
    """Counts the cycles of each phase by cause.

    Parameters
    ----------
    config : HwConfig
        ``counted_phases`` is the number of rows of the table. ``source`` selects the kind of RAM.

    Members
    -------
    begins : 1 bit, input
        A run begins.
    ends_token : 1 bit, input
        The token is chosen. This cycle is the first cycle of the next token.
    ends_row : 1 bit, input
        The last beat of the embedding row is used. This cycle is the last cycle of the row's phase.
    codes : 1 bit, input
        The code memory offers codes to the lanes.
    trits : 1 bit, input
        Trits are offered to the lanes.
    beat : 1 bit, input
        The lanes take a beat.
    last_beat : 1 bit, input
        Valid if ``beat`` is 1: the beat is the last beat of a matrix, and this cycle is the last cycle of the matrix's
        phase.
    word : 1 bit, input
        The memory offers a word of the record stream.
    taken : 1 bit, input
        Valid if ``word`` is 1: the decoder accepts the word.
    to_gains : 1 bit, input
        Valid if ``word`` is 1: the word goes to the supply of gains.
    to_trits : 1 bit, input
        Valid if ``word`` is 1: the word goes to the FIFO of trits.
    address : 16 bits, input
        Selects a count: the phase times ``COUNTER_STRIDE`` plus the number of the counter.
    data : 32 bits, output
        The count, one cycle after ``address``.
    phases : 16 bits, output
        Number of phases of the last token, or 0 if no token was chosen since the run began.

    Numerics
    --------
    Counts are modulo 2^32.

    Latency
    -------
    The counts of a token are in the table 2 cycles after ``ends_token``.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__({**{name: In(1) for name in INPUTS}, "address": In(16), "data": Out(BITS), "phases": Out(16)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        depth, count = self.config.counted_phases, len(COUNTER_NAMES)
        attrs: dict[str, str | int] = {"no_rw_check": 1, "ram_style": table_style(self.config)}
        m.submodules.table = table = new_memory(ROW_BITS, depth, attrs=attrs)

        # the causes of the previous cycle
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
            phase_ended.eq(ends_phase),  # one cycle later, because the last cycle of the phase is counted, too
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
