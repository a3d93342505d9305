"""The code memory holds two banks of int8 codes of T streams between the quantiser and the ternary unit.

    Q codes of one stream per beat ─┬─► bank w ... bank r ─► FIFO ─► C codes of each stream per beat, for each row group
                                    └─────────────────────────┘

While the ternary unit uses the codes of one operation from bank r, the quantiser fills bank w, stream after stream. The
quantiser begins only when a bank is free, so codes never stall. The first row group does not wait for the whole vector,
because a beat is read as soon as its C codes of the last stream are written. If the memory is built of LUTs, a beat can
be read in the cycle in which its last Q codes are written.

Beats are read ahead as long as the FIFO at the output has room (``hw/pipeline/credits.py``).

Each stream has C / Q memories, which are called part memories. A part memory of up to 32 words is built of LUTs. A
deeper part memory is built of block RAM with a register at its output.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import CODE_BITS, ENGINE_OP, codes_payload, quantised_payload
from lutern.hw.pipeline import CreditFifo, Stages, new_memory, read_register

LUT_RAM_WORDS = 32
"""A part memory of up to this many words is built of LUTs. A block RAM, which is 36 bits wide, would
replace at most 108 of these LUTs."""


class CodeMemory(wiring.Component):
    """Feeds the ternary unit with codes, row group after row group.

    Parameters
    ----------
    config : HwConfig
        ``columns`` (C), ``streams`` (T), ``codes_per_cycle`` (Q), ``max_width``.

    Members
    -------
    i_codes : stream of ``layouts.quantised_payload``, input
        Codes from the quantiser. Each operation has one code pass for each stream from 0 to ``final_stream``. Always
        ready.
    may_begin : 1 bit, output
        A bank is free for the codes of an operation.
    begins : 1 bit, input
        The bank is claimed in this cycle.
    i_op : stream of ``layouts.ENGINE_OP``, input
        Operations in the order of their codes. After an operation with ``keep``, the next operation uses the same
        codes.
    o : stream of ``layouts.codes_payload``, output
        Codes of all T streams for the ternary unit. In the last beat of a vector, old codes follow the end of the
        vector. A stream that is not used also has old codes.
    final_stream : ``stream_bits`` bits, input
        N - 1 for a run of N streams. Constant while codes or beats are in flight.

    Numerics
    --------
    The block copies codes and computes nothing.

    Latency
    -------
    ``latency`` by ``is_in_luts``: 1 for True, 3 for False. ``latency`` counts the cycles from the write of the last
    stream's C codes to ``o``. If the part memories are built of LUTs, and the vector's last codes do not fill the last
    part memory of their beat, this takes 2 cycles. An operation follows the previous operation without an idle cycle
    if the codes of the operation are written. A bank may be claimed ``bank_latency`` = 2 cycles after its last read.

    Reference
    ---------
    None.
    """

    bank_latency = 2

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.latency = self.latency_of(config)
        super().__init__(
            {
                "i_codes": In(stream.Signature(quantised_payload(config))),
                "may_begin": Out(1),
                "begins": In(1),
                "i_op": In(stream.Signature(ENGINE_OP)),
                "o": Out(stream.Signature(codes_payload(config))),
                "final_stream": In(config.stream_bits),
            }
        )

    @staticmethod
    def is_in_luts(config: HwConfig) -> bool:
        """Return whether the part memories are built of LUTs. A part memory contains both banks."""
        return 2 * -(-config.max_width // config.columns) <= LUT_RAM_WORDS

    @staticmethod
    def latency_of(config: HwConfig) -> int:
        """Return the number of cycles from the write of the last codes of a beat to ``o``."""
        return CodeMemory.read_latency_of(config) + CodeMemory.written_latency(config, whole=True)

    @staticmethod
    def read_latency_of(config: HwConfig) -> int:
        """Return the number of cycles from the read of a beat to ``o``."""
        return 1 if CodeMemory.is_in_luts(config) else 2

    @staticmethod
    def written_latency(config: HwConfig, *, whole: bool) -> int:
        """Return the number of cycles from the write of a beat's last codes to the read of this beat.

        Parameters
        ----------
        config : HwConfig
            The machine.
        whole : bool
            Whether the last codes are in the last part memory of the beat.
        """
        return 0 if whole and CodeMemory.is_in_luts(config) else 1

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        parts = config.columns // config.codes_per_cycle
        beats = -(-config.max_width // config.columns)

        # write side: the next codes go to part memory `part` of beat `column` of the bank that is being filled
        part = Signal(range(parts)) if parts > 1 else Signal(1)
        column = Signal(range(beats + 1))
        bank_w = Signal()
        full = [Signal(name=f"full_{bank}") for bank in range(2)]
        written = [Signal(range(beats + 1), name=f"written_{bank}") for bank in range(2)]
        store, i = self.i_codes.valid, self.i_codes.payload
        ends_beat = part == parts - 1
        last_part = ends_beat | i.last
        of_final = i.stream == self.final_stream if config.streams > 1 else Const(1, 1)
        claimed = Signal(range(3))
        m.d.comb += [self.i_codes.ready.eq(1), self.may_begin.eq(~claimed[1])]

        # read side
        op = self.i_op.payload
        row_group, beat = Signal(16), Signal(range(beats + 1))
        bank_r = Signal()
        m.submodules.ahead = ahead = CreditFifo(codes_payload(config))
        in_luts = self.is_in_luts(config)
        # While a bank is not full, its written beats are never fewer than its read beats, so no carry chain is needed.
        there = Array(full)[bank_r] | (Array(written)[bank_r] != beat)
        comes = store & ends_beat & of_final & (bank_r == bank_w) & (beat == column) if in_luts else Const(0, 1)
        may_issue = (there | comes) & ahead.room
        issue = self.i_op.valid & may_issue
        last_column = beat == op.column_beats - 1
        last_row_group = row_group == op.row_groups - 1
        m.d.comb += self.i_op.ready.eq(may_issue & last_column & last_row_group)

        write_address, read_address = Signal(range(2 * beats)), Signal(range(2 * beats))
        m.d.comb += [
            write_address.eq(Mux(bank_w, column + beats, column)),
            read_address.eq(Mux(bank_r, beat + beats, beat)),
        ]
        reads = self._add_parts(m, 2 * beats, part, write_address, read_address, comes)
        results = Mux(last_row_group, op.last_results, config.rows // config.results_per_cycle)
        stages = Stages(m)
        delay = self.read_latency_of(config) - 1
        beat_read = ahead.i.payload
        m.d.comb += [
            ahead.enters.eq(issue),
            ahead.i.valid.eq(stages.valid(issue, delay)),
            beat_read.codes.eq(Cat(*reads)),
            beat_read.last_column.eq(stages.delay(last_column, delay)),
            beat_read.last_row_group.eq(stages.delay(last_row_group, delay)),
            beat_read.results.eq(stages.delay(results, delay)),
        ]
        wiring.connect(m, ahead.o, wiring.flipped(self.o))

        with m.If(store):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), column.eq(column + 1)]
                for bank in range(2):
                    with m.If((bank_w == bank) & of_final):
                        m.d.sync += written[bank].eq(column + 1)
            with m.If(i.last):
                m.d.sync += column.eq(0)
                with m.If(of_final):
                    m.d.sync += bank_w.eq(~bank_w)
                for bank in range(2):
                    with m.If((bank_w == bank) & of_final):
                        m.d.sync += full[bank].eq(1)

        released = Signal(2)  # banks whose last beat has been read (they are free one cycle later)
        m.d.sync += [released.eq(0), claimed.eq(claimed + self.begins - released.any())]
        for bank in range(2):
            with m.If(released[bank]):
                m.d.sync += [full[bank].eq(0), written[bank].eq(0)]
        with m.If(issue):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last_column):
                m.d.sync += [beat.eq(0), row_group.eq(row_group + 1)]
                with m.If(last_row_group):
                    m.d.sync += row_group.eq(0)
                    with m.If(~op.keep):
                        m.d.sync += [bank_r.eq(~bank_r), released.eq(Mux(bank_r, 0b10, 0b01))]
        return m

    def _add_parts(
        self, m: Module, depth: int, part: Signal, write_address: Signal, read_address: Signal, comes: Value
    ) -> list[Value]:
        """Add the part memories of all streams. Return the codes that are read from each part memory.

        ``comes`` is 1 in the cycle in which the last codes of the beat are both read and written.
        """
        config, in_luts = self.config, self.is_in_luts(self.config)
        store, i = self.i_codes.valid, self.i_codes.payload
        parts = config.columns // config.codes_per_cycle
        reads: list[Value] = []
        for number in range(config.streams):
            of_stream = i.stream == number if config.streams > 1 else 1
            for index in range(parts):
                attrs: dict[str, str | int] = {"no_rw_check": 1}  # a word that is being written is never used
                attrs["ram_style"] = "distributed" if in_luts else "block"
                memory = new_memory(config.codes_per_cycle * CODE_BITS, depth, attrs=attrs)
                m.submodules[f"part_{number}_{index}"] = memory
                write = memory.write_port()
                m.d.comb += [
                    write.addr.eq(write_address),
                    write.data.eq(i.codes),
                    write.en.eq(store & (part == index) & of_stream),
                ]
                if in_luts:
                    read = memory.read_port(domain="comb")
                    m.d.comb += read.addr.eq(read_address)
                    is_written = comes & of_stream if index == parts - 1 else Const(0, 1)
                    reads.append(Mux(is_written, i.codes, read.data))
                else:
                    reads.append(read_register(m, memory, read_address))
        return reads
