"""The operations of ``model_ref.fixed`` on short floats, in gateware.

Most operations are combinational pieces, which are divided where a register belongs:

    to_float        integer ─► magnitude ─║─ normalise_coarse ─║─ normalise_fine ─║─ round_up ─║─ mantissa
    multiply_float  mantissas ─║─ product ─║─ round_product ─║─ mantissa, "one bit higher"
    rsh by data     mantissa ─► align ─║─ round_aligned ─║─
    add_float       FloatAdder

║ marks a register that the caller places. Mantissas are magnitudes of 17 bits with a separate sign bit. Products
therefore need no complement, and (exponent, mantissa) can be compared as one unsigned key.

`LeadingBits` normalises a wide sum in three steps. The first step selects 32 bits, beginning with the first group of 16
bits that is not zero. The second step shifts by a multiple of 4 bits, and the third step by single bits.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.layouts import SCALAR
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, SCALAR_EXPONENT_BITS

PRODUCT_BITS = 2 * MANTISSA_BITS
CHUNK = 16
ALIGN_STEPS = 5
"""An alignment shifts by 0 to 31 bits. A shift of 18 or more bits removes all bits of a mantissa."""


def shift_left(value: Value, count: int) -> Value:
    """Return ``value << count`` in the width of ``value``."""
    return Cat(Const(0, count), value)[: len(value)]


def normalise_coarse(magnitude: Value) -> tuple[Value, Value]:
    """Shift ``magnitude`` left by a multiple of 8 until its top 8 bits are not zero.

    The second result is the shift divided by 8, in 3 bits.
    """
    bits = len(magnitude)
    moved, groups = magnitude, -(-bits // 8)
    count: Value = Const(0, 3)
    for index in reversed(range(groups - 1)):  # the highest group decides last
        group = magnitude[max(0, bits - 8 * (index + 1)) : bits - 8 * index]
        if index == groups - 2:
            moved, count = shift_left(magnitude, 8 * (groups - 1)), Const(groups - 1, 3)
        moved = Mux(group.any(), shift_left(magnitude, 8 * index), moved)
        count = Mux(group.any(), Const(index, 3), count)
    return moved[:bits], count


def normalise_fine(magnitude: Value) -> tuple[Value, Value]:
    """Shift ``magnitude`` left by 0 to 7 until its top bit is set.

    The second result is the shift, in 3 bits. A magnitude of 0 is shifted by 7.
    """
    moved, counts = magnitude, []
    for step in (4, 2, 1):
        empty = ~moved[-step:].any()
        moved = Mux(empty, shift_left(moved, step), moved)[: len(magnitude)]
        counts.append(empty)
    return moved, Cat(*reversed(counts))


def round_up(kept: Value, half: Value) -> Value:
    """Return ``kept + half``, but leave all ones unchanged. This is the saturation of ``to_float`` and
    ``multiply_float``."""
    return (kept + (half & ~kept.all()))[: len(kept)]


def round_product(product: Value) -> tuple[Value, Value]:
    """Return the 17-bit magnitude of a 34-bit product, and whether the magnitude begins at the top bit of the product.

    The magnitude is rounded as in ``multiply_float``.
    """
    high = product[PRODUCT_BITS - 1]
    kept = Mux(high, product[17:34], product[16:33])
    return round_up(kept, Mux(high, product[16], product[15])), high


def align(mantissa: Value, shift: Value) -> Value:
    """Return ``mantissa >> shift`` with one extra bit below the point, for `round_aligned`.

    The result of a shift of 32 or more is 0.
    """
    moved: Value = Cat(Const(0, 1), mantissa)
    for step in range(ALIGN_STEPS):
        moved = Mux(shift[step], moved >> (1 << step), moved)
    return Mux(shift[ALIGN_STEPS:].any(), 0, moved)[: len(mantissa) + 1]


def round_aligned(aligned: Value) -> Value:
    """Round halves up, as ``rsh`` does. The result cannot overflow, because a shift of 0 leaves no half to round."""
    return (aligned[1:] + aligned[0])[: len(aligned) - 1]


class LeadingBits(wiring.Component):
    """Finds the 17 leading bits (truncated) of a wide unsigned number, and the exponent of these bits.

    The block accepts a number in every cycle and has no handshake. Cost for 82 bits: 383 LUT4 and 172 flip-flops.

    Parameters
    ----------
    number_bits : int
        Width of the number, at most 112.

    Members
    -------
    number : ``number_bits``, input
        The number.
    value : ``layouts.SCALAR``, output
        The leading bits of the number and their exponent. The exponent of the number 0 has no meaning.

    Numerics
    --------
    Truncates, as the last three lines of ``model_ref.norm.square_sum`` do.

    Latency
    -------
    ``latency`` = 4 cycles.

    Reference
    ---------
    ``model_ref.norm.square_sum``.
    """

    latency = 4

    def __init__(self, number_bits: int) -> None:
        self.number_bits = number_bits
        super().__init__({"number": In(number_bits), "value": Out(SCALAR)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        top_down = Cat(Const(0, -self.number_bits % CHUNK + CHUNK), self.number)
        chunks = len(top_down) // CHUNK - 1
        number = Signal(len(top_down), reset_less=True)
        used = Signal(chunks - 1, reset_less=True)
        m.d.sync += [
            number.eq(top_down),
            used.eq(Cat(top_down[len(top_down) - CHUNK * (k + 1) :][:CHUNK].any() for k in range(chunks - 1))),
        ]

        window, sixteens = Signal(2 * CHUNK, reset_less=True), Signal(3, reset_less=True)
        place: Value = Const(chunks - 1, 3)
        for index in reversed(range(chunks - 1)):
            place = Mux(used[index], index, place)
        first = Signal(3)
        m.d.comb += first.eq(place)
        with m.Switch(first):
            for index in range(chunks):
                with m.Case(index):
                    m.d.sync += window.eq(number[len(number) - CHUNK * (index + 2) :][: 2 * CHUNK])
            with m.Default():
                m.d.sync += window.eq(number[: 2 * CHUNK])
        m.d.sync += sixteens.eq(first)

        narrow, below = Signal(MANTISSA_BITS + 3, reset_less=True), Signal(7, reset_less=True)
        fours = Signal(2)
        nibbles = [window[2 * CHUNK - 4 * (k + 1) :][:4].any() for k in range(3)]
        m.d.comb += fours.eq(Mux(nibbles[0], 0, Mux(nibbles[1], 1, Mux(nibbles[2], 2, 3))))
        with m.Switch(fours):
            for index in range(4):
                with m.Case(index):
                    m.d.sync += narrow.eq(window[2 * CHUNK - 4 * index - len(narrow) :][: len(narrow)])
        m.d.sync += below.eq(Cat(Const(0, 2), fours, sixteens))

        ones = Signal(2)
        m.d.comb += ones.eq(Mux(narrow[-1], 0, Mux(narrow[-2], 1, Mux(narrow[-3], 2, 3))))
        with m.Switch(ones):
            for index in range(4):
                with m.Case(index):
                    m.d.sync += self.value.mantissa.eq(narrow[3 - index :][:MANTISSA_BITS])
        m.d.sync += self.value.exponent.eq(self.number_bits - MANTISSA_BITS - (below | ones))
        return m


class FloatAdder(wiring.Component):
    """Adds short floats that are not negative. The block has no handshake.

    Parameters
    ----------
    None.

    Members
    -------
    a : ``layouts.SCALAR``, input
        A summand.
    b : ``layouts.SCALAR``, input
        A summand.
    total : ``layouts.SCALAR``, output
        The sum of ``a`` and ``b``, after ``a`` and ``b`` have been constant for ``latency`` cycles.

    Numerics
    --------
    Exact, equal to ``fixed.add_float``.

    Latency
    -------
    ``latency`` = 4 cycles.

    Reference
    ---------
    ``model_ref.fixed.add_float``.
    """

    latency = 4

    def __init__(self) -> None:
        super().__init__({"a": In(SCALAR), "b": In(SCALAR), "total": Out(SCALAR)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        a, b = self.a, self.b
        ahead = a.exponent - b.exponent
        swap = (b.mantissa != 0) & ((a.mantissa == 0) | ahead[-1])
        large, small = Signal(MANTISSA_BITS, reset_less=True), Signal(MANTISSA_BITS, reset_less=True)
        shift = Signal(SCALAR_EXPONENT_BITS, reset_less=True)
        exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)
        with m.If(swap):
            m.d.sync += [large.eq(b.mantissa), small.eq(a.mantissa), exponent.eq(b.exponent)]
            m.d.sync += shift.eq(b.exponent - a.exponent)
        with m.Else():
            m.d.sync += [large.eq(a.mantissa), small.eq(b.mantissa), exponent.eq(a.exponent), shift.eq(ahead)]
        aligned = Signal(MANTISSA_BITS + 1, reset_less=True)
        total = Signal(MANTISSA_BITS + 1, reset_less=True)
        carry = total[-1]
        m.d.sync += [
            aligned.eq(align(small, shift)),
            total.eq((Cat(Const(1, 1), large) + aligned)[1:]),  # large + round_aligned(aligned) in one addition
            self.total.mantissa.eq(round_up(Mux(carry, total[1:], total[:MANTISSA_BITS]), carry & total[0])),
            self.total.exponent.eq(exponent + carry),
        ]
        return m


def scalar_signal(name: str) -> Any:
    """Make a register for a short float that is not negative. A reset clears the register, so the first producer scale
    is 0."""
    return Signal(SCALAR, name=name)


assert MANTISSA_MAX == (1 << 17) - 1 and PRODUCT_BITS == 34
