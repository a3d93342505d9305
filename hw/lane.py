"""The folded lane computes ``total + trit * code`` in the LUTs of an adder. A second block adds two totals.

    total ──► A ┐  one half of a CCU2C for each bit:
    code  ──► B │  S    = LUT4(A, B, C, D) ^ carry           A ^ code if plus, ~(A ^ code) if minus, A if neither
    minus ──► C │  next = LUT4 ? carry : LUT2(A, B)          LUT2 = A, the quarter of the table for C = D = 0
    plus  ──► D ┘
    minus ──► generator: the half below bit 0 turns its A into the first carry, so that ~code + 1 is -code

No product is computed. If the trit is 0, the adder passes ``total``. If the trit is -1, the adder adds the inverted
code and a carry. Yosys does not find this form, so the lane instantiates the cells for ECP5. For other targets and in
simulation, one line of arithmetic describes the same function.

The LUT4 of the generator is 0 where C = D = 1, so the first cell ignores its carry-in. The carry-out of the last cell
is not used. The attribute `carry_last` marks the last cell. `boards/synthesis.py` removes this carry-in and this
carry-out, because each of them would cost a slice.

Cost: one LUT4 for each bit and one for the generator, rounded up to an even number because a CCU2C has two halves. A
lane of 9 bits takes 10 LUT4, and a lane of 10 or 11 bits takes 12 LUT4. A lane of an even width has a spare half, which
can select one of two bits (``Choice``). An adder of two totals costs as much as a lane of its width. But in an adder of
an even width, bit 0 is a LUT4 outside the chain, so an adder of 12 bits takes 13 LUT4 instead of 14.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from amaranth.hdl import Cat, Const, Elaboratable, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.layouts import CODE_BITS

LANE_TABLE = 0x969A
"""LUT4 of a bit of a lane, indexed D C B A. The output is A for D C = 00, A xnor B for D C = 01 (minus), A xor B for D
C = 10 (plus), and A xnor B for D C = 11 (plus and minus, which acts as minus)."""
ADDER_TABLE = 0x6AAA
"""LUT4 of a bit of an adder. With C = D = 1 the output is A xor B."""
PASS_TABLE, AND_TABLE, ZERO_TABLE = 0x000A, 0x0008, 0
"""LUT4s of generators. With C = D = 1 the output of the LUT4 is 0. The carry is A for ``PASS_TABLE``, A & B for
``AND_TABLE``, and 0 for ``ZERO_TABLE``."""
CHOICE_TABLE = 0xCACA
"""LUT4 of a half that is not in the carry chain. The output is B if C is 1, else A."""

Half = tuple[int, Value, Value, Value, Value]


@dataclass
class Choice:
    """Selects between two bits in a spare half of a lane. ``o`` is ``b`` if ``by`` is 1, else ``a``."""

    a: Signal = field(default_factory=Signal)
    b: Signal = field(default_factory=Signal)
    by: Signal = field(default_factory=Signal)
    o: Signal = field(default_factory=Signal)


def carry_chain(m: Module, halves: list[Half], apart: bool = False) -> Value:
    """Add a chain of CCU2C cells and return the sum bits above its generator.

    Parameters
    ----------
    m : Module
        Receives the cells.
    halves : list of (table, A, B, C, D)
        The half cells from the lowest bit on. The first half is the generator.
    apart : bool
        The last half does not use a carry.

    Returns
    -------
    Value
        The outputs S of all halves except the first half.
    """
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
        if index + 1 == len(halves):  # an unused half; its inputs are 1, because a 0 at C or D would need routing
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
    """Computes ``o = total + trit * code``.

    Parameters
    ----------
    total_bits : int
        Number of bits of ``total``.
    bits : int
        Number of bits of the result.
    cells : bool
        Builds the lane of CCU2C cells. Such a lane has a spare half if its width is even. The attribute ``choice`` is
        the ``Choice`` of the spare half, or None without a spare half.

    Members
    -------
    total : ``total_bits`` bits signed, input
        The sum to which the product is added.
    code : 8 bits signed, input
        The code.
    plus : 1 bit, input
        The trit is +1.
    minus : 1 bit, input
        The trit is -1. ``minus`` takes precedence over ``plus``.
    o : ``bits`` bits signed, output
        The result.

    Numerics
    --------
    Exact modulo 2 ** ``bits``.

    Latency
    -------
    0 cycles, because the block is combinational.

    Reference
    ---------
    None.
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
    """Computes ``o = a + b``.

    Parameters
    ----------
    a_bits, b_bits : int
        Number of bits of the operands.
    bits : int
        Number of bits of the result.
    cells : bool
        Builds the adder of CCU2C cells.

    Members
    -------
    a : ``a_bits`` bits signed, input
        The first operand.
    b : ``b_bits`` bits signed, input
        The second operand.
    o : ``bits`` bits signed, output
        The result.

    Numerics
    --------
    Exact modulo 2 ** ``bits``.

    Latency
    -------
    0 cycles, because the block is combinational.

    Reference
    ---------
    None.
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
    """Return a bit of a signed value. Above the top bit of the value this is the sign."""
    return value[min(index, len(value) - 1)]
