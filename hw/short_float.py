"""Gateware twins of the short floats of ``model_ref.fixed``: combinational pieces, cut where a register belongs.

    to_float        integer ─► magnitude ─║─ normalise_coarse ─║─ normalise_fine ─║─ round_up ─║─ mantissa
    multiply_float  mantissas ─║─ product ─║─ round_product ─║─ mantissa, "one bit higher"
    rsh by data     mantissa ─► align ─║─ round_aligned ─║─
    add_float       six states of an FSM: add_states

║ marks a register that the caller places. Mantissas are magnitudes of 17 bits with the sign beside them: products need
no complement, and (exponent, mantissa) compares as one unsigned key.

`LeadingBits` normalises a wide sum serially: three shifts to choose from instead of seven levels of multiplexers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.layouts import SCALAR
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, SCALAR_EXPONENT_BITS

PRODUCT_BITS = 2 * MANTISSA_BITS
ALIGN_STEPS = 5
"""An alignment shifts by 0..31; from 18 on nothing is left of a mantissa."""


def shift_left(value: Value, count: int) -> Value:
    """``value << count`` in the width of ``value``."""
    return Cat(Const(0, count), value)[: len(value)]


def normalise_coarse(magnitude: Value) -> tuple[Value, Value]:
    """``magnitude`` moved up by a multiple of 8 until its top 8 bits are not zero, and that multiple (3 bits)."""
    bits = len(magnitude)
    moved, groups = magnitude, -(-bits // 8)
    count: Value = Const(0, 3)
    for index in reversed(range(groups - 1)):  # the highest group decides last
        group = magnitude[max(0, bits - 8 * (index + 1)): bits - 8 * index]
        if index == groups - 2:
            moved, count = shift_left(magnitude, 8 * (groups - 1)), Const(groups - 1, 3)
        moved = Mux(group.any(), shift_left(magnitude, 8 * index), moved)
        count = Mux(group.any(), Const(index, 3), count)
    return moved[:bits], count


def normalise_fine(magnitude: Value) -> tuple[Value, Value]:
    """``magnitude`` moved up by 0..7 until its top bit is set, and the distance (3 bits). 0 moves by 7."""
    moved, counts = magnitude, []
    for step in (4, 2, 1):
        empty = ~moved[-step:].any()
        moved = Mux(empty, shift_left(moved, step), moved)[: len(magnitude)]
        counts.append(empty)
    return moved, Cat(*reversed(counts))


def round_up(kept: Value, half: Value) -> Value:
    """``kept + half``, except that all ones stay: the saturation of ``to_float`` and ``multiply_float``."""
    return (kept + (half & ~kept.all()))[: len(kept)]


def round_product(product: Value) -> tuple[Value, Value]:
    """Twin of ``multiply_float``: 17-bit magnitude of a 34-bit product, and whether it lies one bit higher."""
    high = product[PRODUCT_BITS - 1]
    kept = Mux(high, product[17:34], product[16:33])
    return round_up(kept, Mux(high, product[16], product[15])), high


def align(mantissa: Value, shift: Value) -> Value:
    """``mantissa >> shift`` with one more bit below the point, for `round_aligned`; shifts of 32 and more give 0."""
    moved = Cat(Const(0, 1), mantissa)
    for step in range(ALIGN_STEPS):
        moved = Mux(shift[step], moved >> (1 << step), moved)
    return Mux(shift[ALIGN_STEPS:].any(), 0, moved)[: len(mantissa) + 1]


def round_aligned(aligned: Value) -> Value:
    """The rounding of ``rsh``: halves up. Never overflows, because a shift of 0 leaves no half."""
    return (aligned[1:] + aligned[0])[: len(aligned) - 1]


class LeadingBits(wiring.Component):
    """The 17 leading bits (truncated) of a wide unsigned number, and how many zeros stood above them.

    Parameters: ``number_bits``.

    Members: ``load`` takes ``number``; ``mantissa`` and ``zeros`` hold from ``latency`` cycles later, when ``done``
    rises, until the next ``load``. A number of 0 gives mantissa 0 (``zeros`` is then meaningless).

    Latency: ``1 + 5 + 3 + 3`` for 82 bits: so many conditional shifts by 16, by 4 and by 1.

    Reference: ``model_ref.norm.square_sum``, its last three lines.
    """

    def __init__(self, number_bits: int) -> None:
        self.number_bits = number_bits
        self.steps = [16] * ((number_bits - 1) // 16) + [4] * 3 + [1] * 3
        super().__init__(
            {"load": In(1), "number": In(number_bits), "done": Out(1), "mantissa": Out(MANTISSA_BITS), "zeros": Out(7)}
        )

    @property
    def latency(self) -> int:
        """Cycles from ``load`` to ``done``."""
        return 1 + len(self.steps)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        number = Signal(self.number_bits, reset_less=True)
        zeros = Signal(7, reset_less=True)
        step = Signal(range(len(self.steps) + 1), init=len(self.steps))
        by_16 = step < self.steps.count(16)
        by_4 = step < self.steps.count(16) + 3
        distance = Mux(by_16, 16, Mux(by_4, 4, 1))
        empty = ~Mux(by_16, number[-16:].any(), Mux(by_4, number[-4:].any(), number[-1]))
        moved = Mux(by_16, shift_left(number, 16), Mux(by_4, shift_left(number, 4), shift_left(number, 1)))
        m.d.comb += [
            self.done.eq(step == len(self.steps)),
            self.mantissa.eq(number[-MANTISSA_BITS:]),
            self.zeros.eq(zeros),
        ]
        with m.If(self.load):
            m.d.sync += [number.eq(self.number), zeros.eq(0), step.eq(0)]
        with m.Elif(~self.done):
            m.d.sync += step.eq(step + 1)
            with m.If(empty):
                m.d.sync += [number.eq(moved), zeros.eq(zeros + distance)]
        return m


def add_states(m: Module, augend: data.View, t: data.View, second: Value) -> None:
    """``fixed.add_float``: ``t = augend + t`` in six states, then on to ROOT (``second``) or EPS E2."""
    difference = Signal(signed(SCALAR_EXPONENT_BITS + 1), reset_less=True)
    large, small = Signal(MANTISSA_BITS, reset_less=True), Signal(MANTISSA_BITS, reset_less=True)
    shift = Signal(SCALAR_EXPONENT_BITS, reset_less=True)
    aligned = Signal(MANTISSA_BITS + 1, reset_less=True)
    total = Signal(MANTISSA_BITS + 1, reset_less=True)
    with m.State("ADD"):
        m.d.sync += difference.eq(augend.exponent - t.exponent)
        m.next = "ADD SELECT"
    with m.State("ADD SELECT"):
        m.d.sync += [large.eq(augend.mantissa), small.eq(t.mantissa), shift.eq(difference)]
        m.next = "ADD ALIGN"
        with m.If((t.mantissa != 0) & ((augend.mantissa == 0) | (difference < 0))):
            m.d.sync += [large.eq(t.mantissa), small.eq(augend.mantissa), shift.eq(-difference)]
        with m.Else():
            m.d.sync += t.exponent.eq(augend.exponent)
    with m.State("ADD ALIGN"):
        m.d.sync += aligned.eq(align(small, shift))
        m.next = "ADD ROUND"
    with m.State("ADD ROUND"):
        m.d.sync += small.eq(round_aligned(aligned))
        m.next = "ADD SUM"
    with m.State("ADD SUM"):
        m.d.sync += total.eq(large + small)
        m.next = "ADD CARRY"
    with m.State("ADD CARRY"):
        carry = total[-1]
        rounded = round_up(Mux(carry, total[1:], total[:MANTISSA_BITS]), carry & total[0])
        m.d.sync += [t.mantissa.eq(rounded), t.exponent.eq(t.exponent + carry)]
        m.next = "EPS E2"
        with m.If(second):
            m.next = "ROOT"


def scalar_signal(name: str) -> data.View:
    """A register for a short float that is not negative; cleared, so that the first producer scale is 0."""
    return Signal(SCALAR, name=name)


assert MANTISSA_MAX == (1 << 17) - 1 and PRODUCT_BITS == 34
