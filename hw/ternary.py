"""The ternary unit applies R rows of trits to C codes of T streams in every cycle, and sends P sums per cycle.

    sums[t, r] = sum over beats and columns of trits[r, column] * codes[t, column]        21 bits, exact

    beat ─► decoder ─► plus, minus ─┐   ┌── T streams x R rows ──────────────────────────┐
                                    ├──►│ C of {0, code, -code} ► adder tree ► accumulate │──► T x R sums ─► P per cycle
    codes ─► code, -code ───────────┘   └────────────────────────────────────────────────┘        (drain)

The trits of a beat are decoded once for all streams. Each stream has its own codes, sums and section of the drain.

There is no multiplier. On ECP5 (``cells`` "ecp5") a row consists of chains of ``CHAIN`` folded lanes (``lane.py``). A
tree adds the sums of the chains. Registers delay the trits of the later lanes of a chain:

    {0, code, -code} ─► lane ─► lane ─►█─► lane ─► tree ─►█─► tree ─►█─► accumulate     █ register

For other targets and in simulation, a tree adds the products. A product is one of three values, so each bit of a
product has four inputs (code, -code, plus, minus). All rows share the negative codes. 128 is added to each product, so
the tree adds unsigned numbers and needs no sign extension and no masks. At the end of the tree the top bit is inverted,
which removes the offset 128 C. Registers at the end of the tree make the latency of the tree equal to the latency of
the chains.

The decoder splits a beat into planes. Plane k holds bit k of all bytes, and the bit of byte b is at position 8 b. On an
FPGA the decoder takes 23 LUT4 per byte. In simulation one 64-bit operation decodes eight bytes.

Cost on ECP5, routed (`lutern cost lanes`), without the decoder, which takes 3.9 LUT4 per trit: 8 x 32 lanes take 14.5
LUT4 and 10.4 flip-flops per lane and reach 146 MHz. 16 x 32 lanes take 14.2 LUT4 and 10.3 flip-flops per lane and reach
139 MHz. The form with products and a tree takes 24.9 LUT4 and 8.8 flip-flops per lane and reaches 139 MHz. Each further
stream costs as much as the first stream without the decoder.

The pipeline never stalls. Its registers, which are spread over the chip, therefore need no clock enable. Back-pressure
acts only at the input, where the last beat of a row group waits until the sums of the previous row group move from
``hold`` to the drain. The drain is one shift register of T x R sums. Sums of unused streams never leave the drain. Row
groups follow one another without a bubble if each has at least ``latency`` - 1 beats, and, in a run of N streams, at
least N R / P beats, because the sums of N streams leave in N R / P cycles. If the last row group has fewer than R rows,
only ``results`` beats of sums leave for each stream, and R / P - ``results`` idle cycles separate the sums of two
streams.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutern.hw.config import HwConfig
from lutern.hw.lane import Adder, Choice, Lane
from lutern.hw.layouts import CODE_BITS, codes_payload, decode_byte, sum_bits, sums_payload
from lutern.hw.pipeline import Stages, own_register, pack
from lutern.model_ref import ternary
from lutern.model_ref.fixed import Int
from lutern.model_ref.ternary import SUM_BITS

OFFSET = 1 << (CODE_BITS - 1)
"""This number is added to every product. It therefore represents a product of 0."""
CHAIN = 4
"""Number of folded lanes in a chain. A tree adds the sums of the chains. The first lane of a chain only computes its
product."""
LANES_PER_STAGE = 2
"""Number of adders between two registers, in a chain of lanes and in the tree that joins chains."""
ROWS_TOGETHER = 8
"""Number of rows that share registers of codes and controls. Only a few rows share registers, because lanes are placed
all over the chip, near their trits."""
LEVELS_PER_STAGE = 2
"""Number of levels of a tree between two registers."""
PLANE_BYTES = 8
"""Number of bytes that are decoded together, because Verilator computes 64 bits in one operation."""


def _pair_tables() -> tuple[int, int, int, int]:
    """Return four truth tables over the 3-bit name of a pair: the first trit is +1, the first trit is -1, the second
    trit is +1, the second trit is -1."""
    pairs = [decode_byte(index << 3) for index in range(8)]  # t = 0: p names trits 1 and 2
    tables = [
        sum((pair[which] == trit) << i for i, pair in enumerate(pairs) if pair) for which in (1, 2) for trit in (1, -1)
    ]
    return tables[0], tables[1], tables[2], tables[3]


PAIR_TABLES = _pair_tables()


def lookup(table: int, planes: list[Value]) -> Value:
    """Look up a bit of ``table`` at every position of a plane.

    Parameters
    ----------
    table : int
        The truth table.
    planes : list of Value
        Bits of the index, one plane for each bit, lowest bit first.

    Returns
    -------
    Value
        A plane. At each position it contains the bit of ``table`` that the index at this position selects. The plane is
        combinational.
    """
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
    """Decode bytes of five trits each to planes.

    Parameters
    ----------
    word : Value
        The bytes. ``layouts.decode_byte`` defines their code.

    Returns
    -------
    tuple of (plus, minus)
        Two lists of five planes. Bit 8 b of ``plus[k]`` is 1 if trit k of byte b is +1. Bit 8 b of ``minus[k]`` is 1 if
        this trit is -1. The other bits of a plane are undefined. The planes are combinational.
    """
    bits = len(word) - 7
    q0, q1, q2, p0, p1, p2, t0, t1 = (word[k : k + bits] for k in range(8))
    escape = t0 & t1
    # After an escape, q says which pairs are (0, 0) and which bits hold the first trit. p names the only pair that is
    # not (0, 0).
    both = q0 & q1
    first_pair = ~(escape & q2)
    second_pair = ~escape | (q2 & ~both)
    s0, s1, s2 = ((escape & p) | (~escape & q) for p, q in ((p0, q0), (p1, q1), (p2, q2)))
    in_p = both & q2
    first = [(escape & ((in_p & p) | (~in_p & q))) | (~escape & t) for p, q, t in ((p0, q0, t0), (p1, q1, t1))]
    one = [lookup(table, [p0, p1, p2]) & first_pair for table in PAIR_TABLES]
    two = [lookup(table, [s0, s1, s2]) & second_pair for table in PAIR_TABLES]
    return [first[0], one[0], one[2], two[0], two[2]], [first[1], one[1], one[3], two[1], two[3]]


Trit = tuple[Value, Value]
"""Two bits of a trit: the first is 1 if the trit is +1, the second is 1 if the trit is -1."""


def _bits(lanes: int) -> int:
    """Return the number of bits that hold the sum of ``lanes`` products."""
    return (lanes * (OFFSET - 1)).bit_length() + 1


class TernaryUnit(wiring.Component):
    """Adds the products of trits and codes, one row group after another.

    A beat is accepted when trits and codes are both valid, so the ready of each input depends on the valid of the other
    input. A beat that ends a row group stalls while the sums of the previous row group are not in the drain yet.

    Parameters
    ----------
    config : HwConfig
        ``rows`` (R), ``columns`` (C), ``streams`` (T), ``results_per_cycle`` (P), ``cells``.

    Members
    -------
    i_weights : stream of ``beat_bits`` bits, input
        A beat of R x C trits, five in a byte. Trit ``row * C + column`` belongs to row ``row`` and column ``column``.
        Further trits are ignored.
    i_codes : stream of ``layouts.codes_payload``, input
        The codes of the same beat. ``last_column`` ends the row group. In the same beat, ``last_row_group`` marks the
        last row group of a matrix, and ``results`` is the number of beats to drain for each stream (1 to R / P).
    o_sums : stream of ``layouts.sums_payload``, output
        P sums of consecutive rows per beat. Each row group sends one block for every stream. ``last`` marks the last
        beat of each stream in the last row group.
    final_stream : ``stream_bits`` bits, input
        N - 1, so that the sums of streams 0 to N - 1 are drained. Constant while beats or sums are in flight.

    Numerics
    --------
    Codes are -127 to 127. -128 is not a code. Sums are exact in 21 bits for up to 8,256 columns.

    Latency
    -------
    ``latency`` by ``columns``: 4 for 2, 5 for 4, 6 for 8 and 16, 7 for 32 and 64. ``latency`` counts the cycles from
    the last beat of a row group to its first sums. After the first sums, a beat of sums follows in every cycle.

    Reference
    ---------
    ``model_ref.ternary.ternary_sums``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self.latency = self.latency_of(config)
        super().__init__(
            {
                "i_weights": In(stream.Signature(config.beat_bits)),
                "i_codes": In(stream.Signature(codes_payload(config))),
                "o_sums": Out(stream.Signature(sums_payload(config))),
                "final_stream": In(config.stream_bits),
            }
        )

    @staticmethod
    def latency_of(config: HwConfig) -> int:
        """Return the number of cycles from the last beat of a row group to its first sums, through decoder, chain,
        tree, accumulator and drain."""
        chain = min(CHAIN, config.columns)
        levels = ceil_log2(config.columns // chain)
        return 3 + -(-chain // LANES_PER_STAGE) + -(-levels // LEVELS_PER_STAGE)

    @staticmethod
    def model(codes: Int, trits: np.ndarray) -> Int:
        """Return the sums ``[streams, rows]`` of ``codes [streams, n]`` and ``trits [rows, n]``."""
        return ternary.ternary_sums(codes, trits.astype(np.float32))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, beat = self.config, self.i_codes.payload
        bits = sum_bits(config)
        drain = [Signal(bits, name=f"drain_{row}", reset_less=True) for row in range(config.streams * config.rows)]
        pending = Signal()  # a row group has ended, and its sums are not in the drain yet
        enters, accepted = Signal(), Signal()
        m.d.comb += [
            enters.eq(~(beat.last_column & pending)),
            self.i_weights.ready.eq(self.i_codes.valid & enters),
            self.i_codes.ready.eq(self.i_weights.valid & enters),
            accepted.eq(self.i_weights.valid & self.i_codes.valid & enters),
        ]
        stages = Stages(m)
        depth = self.latency - 2
        trits = [self._trits(stages)]
        if self._cells:  # later lanes of a chain use their trits later
            for _ in range(LANES_PER_STAGE + 1, min(CHAIN, config.columns), LANES_PER_STAGE):
                trits.append([(stages.register(plus), stages.register(minus)) for plus, minus in trits[-1]])
        self._choices: dict[int, list[Choice]] = defaultdict(list)
        build = self._chains if self._cells else self._tree
        sums = [value for codes in self._codes() for value in build(m, stages, trits, codes)]

        # The stage of the accumulators. When a row group has ended, `hold` copies the accumulators. Then `waits` is 1
        # until the drain can load `hold`
        take = stages.valid(accepted, depth)
        ends = stages.valid(accepted & beat.last_column, depth)
        going, next_going, waits = Signal(), Signal(), Signal()  # going: a row group has begun
        load, next_load, next_step, room = Signal(), Signal(), Signal(), Signal()
        final, results = Signal(reset_less=True), Signal.like(beat.results, name="results", reset_less=True)
        m.d.comb += next_load.eq((ends | (waits & ~load)) & room)
        m.d.sync += [load.eq(next_load), waits.eq(ends | (waits & ~load))]
        with m.If(accepted & beat.last_column):
            m.d.sync += pending.eq(1)
        with m.Elif(next_load):
            m.d.sync += pending.eq(0)
        m.d.comb += next_going.eq(Mux(take, ~ends, going))
        m.d.sync += going.eq(next_going)
        of_final = stages.delay(beat.last_row_group, depth, "of_final")
        to_drain = stages.delay(beat.results, depth, "to_drain")
        with m.If(ends):
            m.d.sync += [final.eq(of_final), results.eq(to_drain)]
        early_take, early_ends = stages.valid(accepted, depth - 1), stages.valid(accepted & beat.last_column, depth - 1)
        early_going = Mux(early_take, ~early_ends, next_going)
        self._accumulate(m, sums, drain, (early_take, early_ends, ~early_going, next_load, next_load | next_step))
        self._drain(m, drain, load=load, final=final, results=results, room=room, next_step=next_step)
        return m

    def _accumulate(self, m: Module, sums: list[Value], drain: list[Signal], controls: tuple[Value, ...]) -> None:
        """Add the accumulators, their copies (``hold``) and the drain of all rows. ``ROWS_TOGETHER`` rows share
        registers of controls.

        The ``controls`` arrive one cycle before they act. The controls mean, in this order:

        - the partial sums are added,
        - the partial sums are the last ones of the row group,
        - no row group continues, so the accumulators begin with 0,
        - the drain is loaded with the copies,
        - the drain is loaded or moves by P.
        """
        bits = sum_bits(self.config)
        take, ends, clear, load, moves = (Const(0),) * 5
        for row, partial in enumerate(sums):
            if row % ROWS_TOGETHER == 0:
                take, ends, clear, load, moves = (own_register(m, value, cells=self._cells) for value in controls)
            kept = Signal(signed(bits), name=f"kept_{row}", reset_less=True)
            hold = Signal(bits, name=f"hold_{row}", reset_less=True)
            total = self._join(m, partial, kept, bits)
            with m.If(clear):  # this is the reset of the flip-flops, so the adder needs no gate
                m.d.sync += kept.eq(0)
            with m.Elif(take):
                m.d.sync += kept.eq(total)
            with m.If(ends):
                m.d.sync += hold.eq(total)
            above = row + self.config.results_per_cycle
            # outside of the If, because it would gate the inputs of the lanes' spare halves with "moves"
            next_drain = self._choose(m, row, load, hold, drain[above]) if above < len(sums) else hold
            with m.If(moves):
                m.d.sync += drain[row].eq(next_drain)

    def _drain(
        self,
        m: Module,
        drain: list[Signal],
        *,
        load: Value,
        final: Value,
        results: Value,
        room: Signal,
        next_step: Signal,
    ) -> None:
        """Send the T x R sums of the drain, and move the drain down by P. ``room`` is 1 if the drain may be loaded in
        the next cycle."""
        config, o = self.config, self.o_sums.payload
        per_cycle, full = config.results_per_cycle, config.rows // config.results_per_cycle
        busy, final_beat, of_last = Signal(), Signal(), Signal(reset_less=True)
        steps = Signal(range(config.streams * full + 1), reset_less=True)  # beats that follow the beat at the output
        base, index = Signal(config.index_bits), Signal(config.index_bits, reset_less=True)  # base: of the next group
        waits = Signal()  # a beat is held, so the drain must not move
        step, next_busy, next_final_beat, next_waits = Signal(), Signal(), Signal(), Signal()
        hole, next_hole = Signal(), Signal()  # the beat at the output belongs to no row
        shown = [Signal(signed(SUM_BITS), name=f"shown_{lane}") for lane in range(per_cycle)]
        here = Signal(o.shape(), name="here")
        held = Signal(o.shape(), name="held", reset_less=True)
        others = Signal.like(steps, name="others")  # beats of all streams except one
        if config.streams > 1:
            bits = [Mux(bit, full << place, 0) for place, bit in enumerate(self.final_stream)]
            m.d.sync += others.eq(sum(bits[1:], bits[0]))  # "*" would take a multiplier block
        m.d.comb += [
            here.sums.eq(pack(shown)),
            *(show.eq(total.as_signed()) for show, total in zip(shown, drain, strict=False)),
            here.index.eq(index),
            step.eq(busy & (hole | ~waits)),
            next_final_beat.eq(Mux(load, (results == 1) & (others == 0), Mux(step, steps == 1, final_beat))),
            next_busy.eq(load | (busy & ~(final_beat & ~waits))),
            next_waits.eq(self.o_sums.valid & ~self.o_sums.ready),
            next_step.eq(next_busy & (next_hole | ~next_waits)),
            room.eq(~next_busy | (next_final_beat & ~next_waits)),
            self.o_sums.valid.eq((busy & ~hole) | waits),
            o.eq(Mux(waits, held, here)),
        ]
        m.d.sync += [waits.eq(next_waits), busy.eq(next_busy), final_beat.eq(next_final_beat), hole.eq(next_hole)]
        with m.If(~waits):
            m.d.sync += held.eq(here)
        with m.If(load):
            m.d.sync += [steps.eq(others + results - 1), of_last.eq(final), index.eq(base)]
            m.d.sync += base.eq(Mux(final, 0, base + full))
        with m.Elif(step):
            m.d.sync += [steps.eq(steps - 1), index.eq(index + 1)]
        if config.streams == 1:
            m.d.comb += here.last.eq(of_last & final_beat)
            return

        number = Signal(config.stream_bits, reset_less=True)
        left, beats, holes = (Signal.like(results, name=name, reset_less=True) for name in ("left", "beats", "holes"))
        first = Signal.like(index, name="first")
        begins_hole = (left == 0) & ~hole & (holes != 0)
        m.d.comb += [
            here.stream.eq(number),
            here.last.eq(of_last & (left == 0)),
            next_hole.eq(~load & Mux(step & (left == 0), begins_hole, hole)),
        ]
        with m.If(load):
            m.d.sync += [number.eq(0), first.eq(base)]
            m.d.sync += [left.eq(results - 1), beats.eq(results - 1), holes.eq(full - results)]
        with m.Elif(step):
            m.d.sync += left.eq(left - 1)
            with m.If(begins_hole):
                m.d.sync += left.eq(holes - 1)
            with m.Elif(left == 0):
                m.d.sync += [left.eq(beats), index.eq(first), number.eq(number + 1)]

    @property
    def _cells(self) -> bool:
        """Return whether rows are built of CCU2C cells."""
        return self.config.cells == "ecp5"

    def _codes(self) -> list[list[Value]]:
        """Return the codes of each stream."""
        codes = [
            self.i_codes.payload.codes.word_select(place, CODE_BITS).as_signed()
            for place in range(self.config.streams * self.config.columns)
        ]
        return [codes[at : at + self.config.columns] for at in range(0, len(codes), self.config.columns)]

    def _trits(self, stages: Stages) -> list[Trit]:
        """Return the registered trits of the beat. Item ``row * C + column`` is the trit of that row and column."""
        beat = self.i_weights.payload
        trits: list[Trit] = []
        for start in range(0, len(beat), 8 * PLANE_BYTES):
            some = beat[start : start + 8 * PLANE_BYTES]
            plus, minus = ([stages.register(plane) for plane in side] for side in decode_planes(some))
            trits += [(a[bit], b[bit]) for bit in range(0, len(some), 8) for a, b in zip(plus, minus, strict=True)]
        return trits[: self.config.lanes]

    def _chains(self, m: Module, stages: Stages, trits: list[list[Trit]], codes: list[Value]) -> list[Value]:
        """Return the sum of the products of each row, built of CCU2C cells. ``trits[k]`` are the trits delayed by k
        cycles."""
        config = self.config
        columns, chain = config.columns, min(CHAIN, config.columns)
        level: list[list[Value]] = []  # for each row, the sums of its chains
        for first in range(0, config.rows, ROWS_TOGETHER):  # these rows share registers of the codes
            some = range(first, min(first + ROWS_TOGETHER, config.rows))
            held = [own_register(m, code, cells=True) for code in codes]
            negatives = [own_register(m, (-code)[:CODE_BITS], cells=True) for code in codes[::chain]]
            level += self._rows(m, stages, trits, held, negatives, some)
        count, adders = chain, chain - 1
        while count < columns:
            if adders and adders % LANES_PER_STAGE == 0:
                level = [[stages.register(value) for value in row] for row in level]
            count, adders = 2 * count, adders + 1
            level = [
                [self._join(m, a, b, _bits(count)) for a, b in zip(row[::2], row[1::2], strict=True)] for row in level
            ]
        return [stages.delay(row[0], self.latency - 3 - max(0, adders - 1) // LANES_PER_STAGE) for row in level]

    def _rows(
        self,
        m: Module,
        stages: Stages,
        trits: list[list[Trit]],
        codes: list[Value],
        negatives: list[Value],
        rows: range,
    ) -> list[list[Value]]:
        """Return the unregistered sums of every chain of some rows, and add the spare halves of lanes to
        ``_choices``."""
        columns, chain = self.config.columns, min(CHAIN, self.config.columns)
        level: list[list[Value]] = [[] for _row in rows]
        for start in range(0, columns, chain):
            for place in range(chain):
                column, waited = start + place, max(0, place - 1) // LANES_PER_STAGE
                code = codes[column]
                for _ in range(waited):
                    code = own_register(m, code, cells=True)
                for row, totals in zip(rows, level, strict=True):
                    plus, minus = trits[waited][row * columns + column]
                    if place > 1 and place % LANES_PER_STAGE == 1:
                        totals[-1] = stages.register(totals[-1])
                    if place == 0:
                        product = Mux(minus, negatives[start // chain], Mux(plus, code, 0))
                        totals.append(product[:CODE_BITS].as_signed())
                    else:
                        lane = self._lane(m, totals[-1], code, plus, minus, _bits(place + 1))
                        totals[-1] = lane.o
                        if lane.choice:
                            self._choices[row].append(lane.choice)
        return level

    def _lane(self, m: Module, total: Value, code: Value, plus: Value, minus: Value, bits: int) -> Lane:
        """Add a lane of CCU2C cells."""
        lane = Lane(len(total), bits, cells=True)
        m.submodules += lane
        m.d.comb += [lane.total.eq(total), lane.code.eq(code), lane.plus.eq(plus), lane.minus.eq(minus)]
        return lane

    def _choose(self, m: Module, row: int, by: Value, one: Value, other: Value) -> Value:
        """Return ``one`` where ``by`` is 1, else ``other``. Use spare halves of the row's lanes as long as spare halves
        are left."""
        chosen: list[Value] = []
        spare = self._choices[row % self.config.rows]
        for a, b in zip(other, one, strict=True):
            if spare:
                choice = spare.pop()
                m.d.comb += [choice.a.eq(a), choice.b.eq(b), choice.by.eq(by)]
                chosen.append(choice.o)
            else:
                chosen.append(Mux(by, b, a))
        return Cat(*chosen)

    def _join(self, m: Module, a: Value, b: Value, bits: int) -> Value:
        """Return the sum of a and b in ``bits`` bits."""
        if not self._cells:
            total = Signal(signed(bits), name="total")
            m.d.comb += total.eq(a + b)
            return total
        adder = Adder(len(a), len(b), bits, cells=True)
        m.submodules += adder
        m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
        return adder.o

    def _tree(self, m: Module, stages: Stages, trits: list[list[Trit]], codes: list[Value]) -> list[Value]:
        """Return the sum of the products of each row, built for any target."""
        columns = self.config.columns
        spare = self.latency - 3 - -(-ceil_log2(columns) // LEVELS_PER_STAGE)
        held = [stages.register(code[:CODE_BITS]) for code in codes]
        negatives = [stages.register((-code)[:CODE_BITS]) for code in codes]
        rows = []
        for row in range(self.config.rows):
            level: list[Value] = [  # masks, because with Mux the simulation would mispredict branches
                ((plus.replicate(CODE_BITS) & code) | (minus.replicate(CODE_BITS) & negative)) ^ OFFSET
                for (plus, minus), code, negative in zip(
                    trits[0][row * columns : (row + 1) * columns], held, negatives, strict=True
                )
            ]
            step = 0
            while len(level) > 1:
                level = [self._add(m, a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
                step += 1
                if step % LEVELS_PER_STAGE == 0 or len(level) == 1:
                    level = [stages.register(value) for value in level]
            total = stages.delay(level[0], spare)  # offset by OFFSET * C
            rows.append(Cat(total[:-1], ~total[-1]).as_signed())
        return rows

    @staticmethod
    def _add(m: Module, a: Value, b: Value) -> Value:
        """Return the sum of a and b on its own carry chain.

        ``keep`` separates the sum from the next level. If ``keep`` were missing, yosys would add four values with
        carry-save adders, and a lane would take 34 instead of 28 LUT4.
        """
        total = Signal((a + b).shape(), name="sum", attrs={"keep": 1})
        m.d.comb += total.eq(a + b)
        return total
