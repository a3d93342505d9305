"""The ternary accumulate unit: R rows of trits against C codes a cycle, P sums out.

    sums[r] = sum over beats and columns of trits[r, column] * codes[column]        21 bits, exact

    word ──► decoder ──► plus, minus ─┐   ┌── x R rows ────────────────────────────────────┐
                                      ├──►│ C of {0, code, -code} ► adder tree ► accumulate │──► R sums ──► P a cycle
    codes ─► code, -code ─────────────┘   └────────────────────────────────────────────────┘    (drain)

No multiplier: a product is one of three, four inputs a bit (code, -code, plus, minus), which is one LUT4. The negative
codes are shared by all rows. Products are offset by 128, so that the tree adds unsigned numbers: nothing is extended or
masked on the way, and at its end the offset 128 C is the top bit, which is inverted.

The decoder takes a word apart in planes: bit k of all bytes at once, byte b at position 8 b of the plane. In gates that
is 23 LUT4 a byte; in simulation one 64-bit operation serves eight bytes.

Cost: 4.6 LUT4 a lane for the decoder, 8 for the product, about 9 for the tree, 21 a row for each of accumulator and
drain; ECP5 with R 4 and C 16 needs 28 a lane in all (a CCU2C counts as two) and routes at 130 MHz. The accumulator goes
on while the drain empties, and waits only where a row group ends before the one ahead of it has left: ``results``
P-beats want at least as many beats of trits.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutern.hw.config import TRITS_PER_BYTE, HwConfig
from lutern.hw.layouts import CODE_BITS, codes_payload, decode_byte, sums_payload
from lutern.hw.stages import Stages, pack
from lutern.model_ref import ternary
from lutern.model_ref.fixed import Int
from lutern.model_ref.ternary import SUM_BITS

OFFSET = 1 << (CODE_BITS - 1)
"""Added to every product; a product of 0 is this."""
LEVELS_PER_STAGE = 2
"""Levels of the adder tree between two registers: 9 and 10 bits behind a LUT, then 11 and 12."""
PLANE_BYTES = 8
"""Bytes that are decoded together; 64 bits are one operation for Verilator."""


def _pair_tables() -> tuple[int, int, int, int]:
    """Truth tables over the 3-bit name of a pair: first trit is +1, first is -1, second is +1, second is -1."""
    pairs = [decode_byte(index << 3) for index in range(8)]  # t = 0: p names trits 1 and 2
    tables = [sum((pair[which] == trit) << i for i, pair in enumerate(pairs) if pair) for which in (1, 2)
              for trit in (1, -1)]
    return tables[0], tables[1], tables[2], tables[3]


PAIR_TABLES = _pair_tables()


def lookup(table: int, planes: list[Value]) -> Value:
    """Bit ``index`` of ``table`` at every position, ``index`` given in planes, lowest bit first."""
    count = 1 << (len(planes) - 1)
    low, high = table & ((1 << count) - 1), table >> count
    top = planes[-1]
    if count == 1:
        return {(0, 0): Const(0, len(top)), (1, 0): ~top, (0, 1): top, (1, 1): ~Const(0, len(top))}[low, high]
    if low == high:
        return lookup(low, planes[:-1])
    if low == 0:
        return top & lookup(high, planes[:-1])
    if high == 0:
        return ~top & lookup(low, planes[:-1])
    return (top & lookup(high, planes[:-1])) | (~top & lookup(low, planes[:-1]))


def decode_planes(word: Value) -> tuple[list[Value], list[Value]]:
    """Bytes of five trits to planes: bit 8 b of ``plus[k]`` tells that trit k of byte b is +1, of ``minus[k]``, -1.

    Other bits of a plane mean nothing. ``layouts.decode_byte`` says how a byte is read.
    """
    bits = len(word) - 7
    q0, q1, q2, p0, p1, p2, t0, t1 = (word[k : k + bits] for k in range(8))
    escape = t0 & t1
    # Behind an escape q says which pairs are (0, 0) and where the first trit stands; the only other pair is named by p.
    both = q0 & q1
    first_pair = ~(escape & q2)
    second_pair = ~escape | (q2 & ~both)
    s0, s1, s2 = ((escape & p) | (~escape & q) for p, q in ((p0, q0), (p1, q1), (p2, q2)))
    in_p = both & q2
    first = [(escape & ((in_p & p) | (~in_p & q))) | (~escape & t) for p, q, t in ((p0, q0, t0), (p1, q1, t1))]
    one = [lookup(table, [p0, p1, p2]) & first_pair for table in PAIR_TABLES]
    two = [lookup(table, [s0, s1, s2]) & second_pair for table in PAIR_TABLES]
    return [first[0], one[0], one[2], two[0], two[2]], [first[1], one[1], one[3], two[1], two[3]]


class TernaryUnit(wiring.Component):
    """Sums of trits and codes, row group by row group.

    Parameters
    ----------
    config: HwConfig
        ``rows`` R, ``columns`` C, ``results_per_cycle`` P.

    Members
    -------
    i_weights: In(stream)
        A beat of R x C trits, five in a byte; trit ``row * C + column``. Trits beyond R x C are ignored.
    i_codes: In(stream of ``layouts.codes_payload``)
        The codes of the same beat. ``last_column`` ends the row group, ``last_row_group`` and ``results`` (1 to R / P
        beats to drain) count with it.
    o_sums: Out(stream of ``layouts.sums_payload``)
        Sums of rows in order, P at a time; ``last`` with the last beat of the last row group.

    A beat is taken when both inputs are valid: either ready waits for the other's valid.

    Numerics
    --------
    Codes are -127 to 127 (-128 is no code). Sums are exact in 21 bits: up to 8,256 columns.

    Latency
    -------
    ``latency`` cycles from the last beat of a row group to its first sums, then one beat a cycle.

    Reference: ``model_ref.ternary.ternary_sums``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__({
            "i_weights": In(stream.Signature(config.word_bits)),
            "i_codes": In(stream.Signature(codes_payload(config))),
            "o_sums": Out(stream.Signature(sums_payload(config))),
        })

    @property
    def latency(self) -> int:
        """Cycles from the last beat of a row group to its first sums: decoder, adder tree, accumulator."""
        return 2 + -(-ceil_log2(self.config.columns) // LEVELS_PER_STAGE)

    @staticmethod
    def model(codes: Int, trits: np.ndarray) -> Int:
        """Sums ``[rows]`` of ``codes [n]`` and ``trits [rows, n]``."""
        return ternary.ternary_sums(codes[None], trits.astype(np.float32))[0]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, beat = self.config, self.i_codes.payload
        advance, accepted = Signal(), Signal()
        m.d.comb += [
            self.i_weights.ready.eq(self.i_codes.valid & advance),
            self.i_codes.ready.eq(self.i_weights.valid & advance),
            accepted.eq(self.i_weights.valid & self.i_codes.valid),
        ]
        stages = Stages(m, advance)
        depth = self.latency - 1
        valid = stages.valid(accepted, depth)
        ends = stages.delay(beat.last_column, depth, "ends")
        final = stages.delay(beat.last_row_group, depth, "final")
        results = stages.delay(beat.results, depth, "results")
        sums = self._tree(m, stages)

        totals = []
        for row, partial in enumerate(sums):
            total, kept = Signal(SUM_BITS, name=f"total_{row}"), Signal(SUM_BITS, name=f"kept_{row}")
            m.d.comb += total.eq(kept + Cat(partial[:-1], ~partial[-1]).as_signed())
            with m.If(advance & valid):
                m.d.sync += kept.eq(Mux(ends, 0, total))
            totals.append(total)

        # The drain: R sums that move down by P with every beat that is taken.
        drain = [Signal(SUM_BITS, name=f"drain_{row}", reset_less=True) for row in range(config.rows)]
        busy, one_left, of_last = Signal(), Signal(), Signal(reset_less=True)
        left = Signal.like(results, name="left")  # beats after the one that shows
        load = Signal()
        m.d.comb += [
            one_left.eq(left == 0),
            advance.eq(~(valid & ends & busy) | (one_left & self.o_sums.ready)),
            load.eq(advance & valid & ends),
            self.o_sums.valid.eq(busy),
            self.o_sums.payload.sums.eq(pack(drain[: config.results_per_cycle])),
            self.o_sums.payload.last.eq(of_last & one_left),
        ]
        with m.If(load):
            m.d.sync += [busy.eq(1), left.eq(results - 1), of_last.eq(final)]
            m.d.sync += [held.eq(total) for held, total in zip(drain, totals, strict=True)]
        with m.Elif(busy & self.o_sums.ready):
            m.d.sync += [busy.eq(~one_left), left.eq(left - 1)]
            m.d.sync += [a.eq(b) for a, b in zip(drain, drain[config.results_per_cycle :], strict=False)]
        return m

    def _tree(self, m: Module, stages: Stages) -> list[Value]:
        """Sum of the products of each row, offset by ``OFFSET * C``."""
        config = self.config
        word, codes = self.i_weights.payload, self.i_codes.payload.codes
        plus: list[Value] = []
        minus: list[Value] = []
        for start in range(0, config.word_bits, 8 * PLANE_BYTES):
            some = word[start : start + 8 * PLANE_BYTES]
            planes = [[stages.register(plane) for plane in side] for side in decode_planes(some)]
            for bit in range(0, len(some), 8):
                plus += [plane[bit] for plane in planes[0]]
                minus += [plane[bit] for plane in planes[1]]
        assert len(plus) == config.word_bytes * TRITS_PER_BYTE
        offset_codes, offset_negatives = [], []
        for column in range(config.columns):
            code = codes.word_select(column, CODE_BITS).as_signed()
            offset_codes.append(stages.register((code + OFFSET)[:CODE_BITS], f"code_{column}"))
            offset_negatives.append(stages.register((OFFSET - code)[:CODE_BITS], f"negative_{column}"))

        rows = []
        for row in range(config.rows):
            level: list[Value] = []
            for column in range(config.columns):
                lane = row * config.columns + column
                level.append(
                    Mux(minus[lane], offset_negatives[column], Mux(plus[lane], offset_codes[column], OFFSET))
                )
            step = 0
            while len(level) > 1:
                level = [self._add(m, a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
                step += 1
                if step % LEVELS_PER_STAGE == 0 or len(level) == 1:
                    level = [stages.register(value) for value in level]
            rows.append(level[0])
        return rows

    @staticmethod
    def _add(m: Module, a: Value, b: Value) -> Value:
        """Sum of a and b on a carry chain of its own.

        Kept apart from the next level: yosys makes carry-save adders of sums of four, 34 instead of 28 LUT4 a lane.
        """
        total = Signal((a + b).shape(), name="sum", attrs={"keep": 1})
        m.d.comb += total.eq(a + b)
        return total
