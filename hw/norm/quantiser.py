"""The quantiser computes Q int8 codes per cycle from u: ``code = sign(u) * min(127, rsh(rsh(|u|, s) * R, 26))``.

    P x 3 elements ─► Q/P banks ─║─ u_k ──║─ e_largest - e ─║─ align ─║─ round ─║─ * R ─║─ round, min, sign ─► Q
                                 1        2                 3         4         5       6

Here e is the exponent of u, e_largest is the exponent of the largest |u| of the vector, s is e_largest - e, R is the
factor 127 / largest |u|, and ``rsh`` is the rounding right shift. ║ is a register, with its number below.

There is one code pass for each operation and stream. A code pass may begin in the cycle after the last read of the
previous code pass. R is used only in the last step, so a code pass may begin before R is known, as soon as e_largest is
known. A code pass begins only if the code memory has a free bank, so a code pass never stalls.

Cost: 1 multiplier for each code per cycle. The memory of u has 72 bits for each element, for all three u.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import KEY_BITS, pass_payload
from lutern.hw.norm.short_float import align, round_aligned
from lutern.hw.norm.statistics import U_BITS, U_COUNT, pick
from lutern.hw.pipeline import Stages, in_luts, new_memory
from lutern.model_ref.fixed import MANTISSA_BITS
from lutern.model_ref.norm import CODE_MAX

CODE_SHIFT = 26
"""Shift of the product |u| R. R is 127/128 * 2^33 / largest, so the code 127 |u| / largest is |u| R / 2^(33 - 7)."""
CODE_ROUND = 1 << (CODE_SHIFT - 1)


class Quantiser(wiring.Component):
    """Stores u and turns u into codes, in one code pass for each operation and stream.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P), ``codes_per_cycle`` (Q), ``streams``. A vector has at most ``max_width`` elements.

    Members
    -------
    u : P x 3 elements of ``U_BITS``, input
        Elements of u from `NormStatistics`.
    u_valid : 1 bit, input
        ``u`` is written in this cycle.
    u_stream : ``stream_bits``, input
        The stream of ``u``.
    u_index : ``index_bits``, input
        The index of the beat ``u`` in its vector.
    i_pass : stream of ``layouts.pass_payload``, input
        Describes a code pass. It is accepted with the last read of the code pass.
    factor : 17 bits, input
        R of the code pass, ``factor_stage`` cycles after each read.
    may_begin : 1 bit, input
        The code passes of an operation may begin.
    begins : 1 bit, output
        The code pass of stream 0 begins in this cycle.
    o : stream of ``layouts.quantised_payload``, output
        The codes, with ``last`` in the last beat of the code pass. ``ready`` is ignored.

    Numerics
    --------
    Exact, equal to ``model_ref.norm.quantise``. Codes past the end of the vector in its last beat have no meaning.

    Latency
    -------
    ``latency`` = 6 cycles from ``i_pass.valid`` to the first codes. Then a beat of codes follows in every cycle.

    Reference
    ---------
    ``model_ref.norm.quantise``.
    """

    latency = 6
    factor_stage = 5

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "u": In(config.results_per_cycle * U_COUNT * U_BITS),
                "u_valid": In(1),
                "u_stream": In(config.stream_bits),
                "u_index": In(config.index_bits),
                "i_pass": In(stream.Signature(pass_payload(config))),
                "factor": In(MANTISSA_BITS),
                "may_begin": In(1),
                "begins": Out(1),
                "o": Out(stream.Signature(layouts.quantised_payload(config))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        banks = config.codes_per_cycle // config.results_per_cycle
        rows = -(-config.max_width // config.codes_per_cycle)
        row_bits, bank_bits = (rows - 1).bit_length(), exact_log2(banks)
        # As in hw/pipeline/vectors.py, no place is left unused if the number of rows is not a power of two.
        is_low = config.streams > 1 and rows != 1 << row_bits
        depth = config.streams * rows  # the depth is equal in both orders of streams and rows
        attrs = {"ram_style": "distributed"} if in_luts(config, depth) else {}
        s = Stages(m)

        def place(row: Value, stream: Value) -> Value:
            if config.streams == 1:
                return row[:row_bits]
            return Cat(stream, row[:row_bits]) if is_low else Cat(row[:row_bits], stream)

        # The row counter is 0 whenever no code pass runs.
        given = self.i_pass.payload
        row, begun, enters = Signal(range(rows)), Signal(), Signal()
        last = row + 1 == given.beats
        first = ~begun & (given.stream == 0 if config.streams > 1 else Const(1, 1))  # first code pass
        m.d.comb += [
            enters.eq(self.i_pass.valid & (self.may_begin | ~first)),
            self.i_pass.ready.eq(last & (self.may_begin | ~first)),
            self.begins.eq(enters & first),
        ]
        with m.If(enters):
            m.d.sync += [row.eq(Mux(last, 0, row + 1)), begun.eq(~last)]

        words = []
        for bank in range(banks):
            memory = new_memory(config.results_per_cycle * U_COUNT * U_BITS, depth, attrs=attrs)
            m.submodules[f"bank_{bank}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.u_valid & (self.u_index[:bank_bits] == bank)),
                write.addr.eq(place(self.u_index[bank_bits:], self.u_stream)),
                write.data.eq(self.u),
                read.addr.eq(place(row, given.stream)),
            ]
            words.append(read.data)
        elements = Cat(*words)

        # The u of several streams fill block RAMs all over the chip. The words of the memory are therefore registered
        # first, and u_k is selected after this register.
        spread = config.streams > 1
        u_index = s.delay(given.u_index, 2 if spread else 1)
        exponent = s.delay(given.exponent, 2)
        codes = [
            self._code(
                s, pick(s.register(us), u_index) if spread else s.register(pick(us, u_index)), exponent, self.factor
            )
            for us in (elements.word_select(index, U_COUNT * U_BITS) for index in range(config.codes_per_cycle))
        ]
        m.d.comb += [
            self.o.valid.eq(s.valid(enters, self.latency)),
            self.o.payload.stream.eq(s.delay(given.stream, self.latency) if config.streams > 1 else 0),
            self.o.payload.last.eq(s.delay(last, self.latency)),
            self.o.payload.codes.eq(Cat(*codes)),
        ]
        return m

    @staticmethod
    def _code(s: Stages, u: Value, exponent: Value, multiplier: Value) -> Value:
        """Return one code, which is valid after register 6, from its u in register 2."""
        shift = s.register((exponent - u[MANTISSA_BITS:KEY_BITS])[: KEY_BITS - MANTISSA_BITS])
        aligned = s.register(align(s.register(u[:MANTISSA_BITS]), shift))
        product = s.register(s.register(round_aligned(aligned)) * multiplier)
        size = ((product + CODE_ROUND) >> CODE_SHIFT)[: 2 * MANTISSA_BITS + 1 - CODE_SHIFT]
        clamped = Mux(size > CODE_MAX, CODE_MAX, size)[: layouts.CODE_BITS]
        return Mux(s.delay(u[-1], 4), -clamped, clamped)[: layouts.CODE_BITS]
