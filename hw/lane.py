"""The folded lane: ``total + trit * code`` in the adder's own LUTs, and the adder that joins two totals.

    total ──► A ┐  one half of a CCU2C a bit:
    code  ──► B │  S    = LUT4(A, B, C, D) ^ carry           A ^ code if plus, ~(A ^ code) if minus, A if neither
    minus ──► C │  next = LUT4 ? carry : LUT2(A, B)          LUT2 is the table's quarter at C = D = 0: A
    plus  ──► D ┘
    minus ──► generator: the half below bit 0 turns its A into the first carry, so that ~code + 1 is -code

A product is never made: where the trit is 0, the adder passes ``total``; where it is -1, the adder takes the code
inverted and a carry. Yosys does not find this, so the cells are written out for ECP5; elsewhere, and in simulation, the
same is said in one line.

The generator's LUT4 is 0 and ignores what comes in; the last cell's carry-out has no user, and its attribute
`carry_last` says so. `boards/synthesis.py` takes both ends off, which would cost a slice each.

Cost: one LUT4 a bit and one for the generator, to an even number (a CCU2C has two halves): 10 for 9 bits, 12 for 10 or
11. A lane of an even width has a half to spare, which chooses between two bits for whoever needs that (``Choice``). An
adder of two totals costs as much, but bit 0 of an even width is a LUT4 beside the chain: 13 for 12 bits, not 14.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amaranth.hdl import Cat, Const, Elaboratable, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.layouts import CODE_BITS

LANE_TABLE = 0x969A
"""LUT4 of a lane's bit, indexed D C B A: A; A xnor B (minus); A xor B (plus); A xnor B (both: minus counts)."""
ADDER_TABLE = 0x6AAA
"""LUT4 of an adder's bit, C = D = 1: A xor B."""
PASS_TABLE, AND_TABLE, ZERO_TABLE = 0x000A, 0x0008, 0
"""Generators: with C = D = 1 LUT4 is 0, and the carry is A; A & B; 0."""
CHOICE_TABLE = 0xCACA
"""A half of its own: B where C, else A."""

Half = tuple[int, Value, Value, Value, Value]


@dataclass
class Choice:
    """``o`` is ``b`` where ``by``, else ``a``: of bits, in a half that a lane has to spare."""

    a: Signal = field(default_factory=Signal)
    b: Signal = field(default_factory=Signal)
    by: Signal = field(default_factory=Signal)
    o: Signal = field(default_factory=Signal)


def carry_chain(m: Module, halves: list[Half], apart: bool = False) -> Value:
    """Bits S of the halves (table, A, B, C, D) above the generator, which is the first of them; ``apart``: the last one
    takes no carry."""
    sums = Signal(len(halves))
    carry: Value | None = None
    for index in range(0, len(halves), 2):
        ports: dict[str, object] = {}
        for place, half in enumerate(halves[index : index + 2]):
            table, *inputs = half
            ports[f"p_INIT{place}"] = Const(table, 16)
            ports |= {f"i_{name}{place}": value for name, value in zip("ABCD", inputs, strict=True)}
            if index + place:
                ports[f"o_S{place}"] = sums[index + place]
        if index + 1 == len(halves):  # a half of no use: ones, for C and D cannot be tied to 0 and would be routed
            ports |= {"p_INIT1": Const(0, 16), **{f"i_{name}1": Const(1) for name in "ABCD"}}
        if carry is not None:
            ports["i_CIN"] = carry
        if index + 2 < len(halves):
            carry = Signal(name="carry")
            ports["o_COUT"] = carry
        else:
            ports["a_carry_last"] = 1
        takes_none = apart and index + 2 == len(halves)
        m.submodules += Instance("CCU2C", p_INJECT1_0="NO", p_INJECT1_1="YES" if takes_none else "NO", **ports)
    return sums[1:]


class Lane(wiring.Component):
    """``o = total + trit * code``, combinational.

    Parameters: ``total_bits``, ``bits`` of the result, ``cells`` to build it of CCU2C. Members: ``total``, ``code``,
    ``plus`` and ``minus`` (the trit; both is -1), ``o``. Numerics: exact modulo 2 ** bits. Latency 0. ``choice``: of a
    lane of cells that has a half to spare.
    """

    def __init__(self, total_bits: int, bits: int, *, cells: bool) -> None:
        self.bits, self.cells = bits, cells
        self.choice = Choice() if cells and bits % 2 == 0 else None
        super().__init__(
            {
                "total": In(signed(total_bits)),
                "code": In(signed(CODE_BITS)),
                "plus": In(1),
                "minus": In(1),
                "o": Out(signed(bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        if not self.cells:
            m.d.comb += self.o.eq(self.total + Mux(self.minus, -self.code, Mux(self.plus, self.code, 0)))
            return m
        one: Value = Const(1)
        halves: list[Half] = [(PASS_TABLE, self.minus, one, one, one)]
        for bit in range(self.bits):
            halves.append((LANE_TABLE, _bit(self.total, bit), _bit(self.code, bit), self.minus, self.plus))
        if self.choice:
            choice = self.choice
            sums = carry_chain(m, [*halves, (CHOICE_TABLE, choice.a, choice.b, choice.by, one)], apart=True)
            m.d.comb += [self.o.eq(sums[:-1]), choice.o.eq(sums[-1])]
        else:
            m.d.comb += self.o.eq(carry_chain(m, halves))
        return m


class Adder(wiring.Component):
    """``o = a + b``, combinational.

    Parameters: ``a_bits``, ``b_bits``, ``bits`` of the result, ``cells`` to build it of CCU2C. Members: ``a``, ``b``,
    ``o``, all signed. Numerics: exact modulo 2 ** bits. Latency 0.
    """

    def __init__(self, a_bits: int, b_bits: int, bits: int, *, cells: bool) -> None:
        self.bits, self.cells = bits, cells
        super().__init__({"a": In(signed(a_bits)), "b": In(signed(b_bits)), "o": Out(signed(bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        one: Value = Const(1)
        if not self.cells:
            m.d.comb += self.o.eq(self.a + self.b)
            return m
        apart = self.bits % 2 == 0
        halves: list[Half] = [
            (AND_TABLE, self.a[0], self.b[0], one, one) if apart else (ZERO_TABLE, one, one, one, one)
        ]
        halves += [(ADDER_TABLE, _bit(self.a, bit), _bit(self.b, bit), one, one) for bit in range(apart, self.bits)]
        sums = carry_chain(m, halves)
        m.d.comb += self.o.eq(Cat(self.a[0] ^ self.b[0], sums) if apart else sums)
        return m


def _bit(value: Value, index: int) -> Value:
    """Bit of a signed value, its sign above."""
    return value[min(index, len(value) - 1)]
