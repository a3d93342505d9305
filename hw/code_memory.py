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


class _Writes:
    """Adds the write side to a module. The next codes go to part memory ``part`` of beat ``column`` of bank ``bank``.

    ``written`` is the number of beats of each bank whose codes of all streams are written, and ``full`` is 1 if this is
    the whole vector. ``stored`` is 1 in the cycle in which the last codes of a beat are written, and ``ends_beat`` if
    these codes go to the last part memory.
    """

    def __init__(self, m: Module, memory: CodeMemory, beats: int) -> None:
        config, i = memory.config, memory.i_codes.payload
        parts = config.columns // config.codes_per_cycle
        self.part = Signal(range(parts)) if parts > 1 else Signal(1)
        self.column = Signal(range(beats + 1))
        self.bank = Signal(name="bank_w")
        self.full = [Signal(name=f"full_{bank}") for bank in range(2)]
        self.written = [Signal(range(beats + 1), name=f"written_{bank}") for bank in range(2)]
        self.ends_beat = self.part == parts - 1
        ends_part = self.ends_beat | i.last
        of_final = i.stream == memory.final_stream if config.streams > 1 else Const(1, 1)
        self.stored = memory.i_codes.valid & ends_part & of_final
        with m.If(memory.i_codes.valid):
            m.d.sync += self.part.eq(self.part + 1)
            with m.If(ends_part):
                m.d.sync += [self.part.eq(0), self.column.eq(self.column + 1)]
            with m.If(i.last):
                m.d.sync += self.column.eq(0)
        with m.If(self.stored):
            for bank in range(2):
                with m.If(self.bank == bank):
                    m.d.sync += [self.written[bank].eq(self.column + 1), self.full[bank].eq(i.last)]
            with m.If(i.last):
                m.d.sync += self.bank.eq(~self.bank)

    def release(self, m: Module, released: Signal) -> None:
        """Empty the banks of ``released``."""
        for bank in range(2):
            with m.If(released[bank]):
                m.d.sync += [self.full[bank].eq(0), self.written[bank].eq(0)]

    def ends_with(self, bank: Value, beats: Value) -> Value:
        """Return whether ``beats`` beats of a bank are written, and the vector has more."""
        return ~Array(self.full)[bank] & (Array(self.written)[bank] == beats)

    def is_empty(self, bank: Value, released: Signal) -> Value:
        """Return whether no beat of a bank is written, or the bank is being released."""
        return Array(released[at] | (self.written[at] == 0) for at in range(2))[bank]


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
        config, op = self.config, self.i_op.payload
        beats = -(-config.max_width // config.columns)
        writes = _Writes(m, self, beats)
        row_group, beat = Signal(16), Signal(range(beats + 1))
        bank_r = Signal()
        waits = Signal(init=1)  # the next beat is not written yet
        released = Signal(2)  # banks whose last beat has been read (they are free one cycle later)
        m.submodules.ahead = ahead = CreditFifo(codes_payload(config))
        stored_here = writes.stored & (writes.bank == bank_r)
        comes = waits & stored_here & writes.ends_beat if self.is_in_luts(config) else Const(0, 1)
        may_issue = (~waits | comes) & ahead.room
        issue = self.i_op.valid & may_issue
        next_beat, next_row_group = beat + 1, row_group + 1
        last_column, last_row_group = next_beat == op.column_beats, next_row_group == op.row_groups
        leaves = last_row_group & ~op.keep  # with the last column: the next beat comes from the other bank
        m.d.comb += self.i_op.ready.eq(may_issue & last_column & last_row_group)

        write_address, read_address = Signal(range(2 * beats)), Signal(range(2 * beats))
        m.d.comb += [
            write_address.eq(Mux(writes.bank, writes.column + beats, writes.column)),
            read_address.eq(Mux(bank_r, beat + beats, beat)),
        ]
        reads = self._add_parts(m, 2 * beats, writes.part, write_address, read_address, comes)
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

        claimed = Signal(range(3))
        m.d.comb += [self.i_codes.ready.eq(1), self.may_begin.eq(~claimed[1])]
        m.d.sync += [released.eq(0), claimed.eq(claimed + self.begins - released.any())]
        writes.release(m, released)
        with m.If(issue):
            m.d.sync += beat.eq(next_beat)
            with m.If(last_column):
                m.d.sync += [beat.eq(0), row_group.eq(next_row_group)]
                with m.If(last_row_group):
                    m.d.sync += row_group.eq(0)
                with m.If(leaves):
                    m.d.sync += [bank_r.eq(~bank_r), released.eq(Mux(bank_r, 0b10, 0b01))]
        # ``waits`` is computed one cycle early, because the path through the comparisons to the operations is long
        with m.If(issue):
            waits_here = waits | (writes.ends_with(bank_r, next_beat) & ~stored_here)
            waits_there = writes.is_empty(~bank_r, released) & ~(writes.stored & (writes.bank != bank_r))
            m.d.sync += waits.eq(Mux(last_column, leaves & waits_there, waits_here))
        with m.Elif(stored_here):
            m.d.sync += waits.eq(0)
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
