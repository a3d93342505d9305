"""Registers and arithmetic of `NormScalar`, which all states of `NormScalar` share.

    operand, previous scale, largest ─► address ─► table ─► guess
    a or guess, b ─► product ─┬─► rounded               a short float
                              ├─► newton                a step of an iteration on the guess
                              └─► factor                127 * newton, for a reciprocal
    ss or squares of g ─► LeadingBits ─► FloatAdder ◄─ t

There is one multiplier, one table and one adder.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import KEY_BITS, QUANTISE_OP
from lutern.hw.norm.short_float import FloatAdder, LeadingBits, round_product, scalar_signal
from lutern.hw.norm.statistics import SQUARES_BITS, Running, leading_bits, pick
from lutern.hw.pipeline import new_memory
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, RECIPROCAL_TABLE, RSQRT_TABLE, SCALAR_EXPONENT_BITS

TABLE_WORDS = [0] * 128 + [int(y) for y in RSQRT_TABLE] + [int(y) for y in RECIPROCAL_TABLE]
"""The guess for the root of a number m is at ``m >> 9`` (128 to 511). The guess for the reciprocal of m is at
``512 + m[15:8]``."""
ROUND_FACTOR = 1 << 6
"""Half of the last place of R, in the units of 127 * inverse. This product has 7 more bits than R."""


class ScalarPath:
    """Holds the registers that the states of ``scalar`` read and write.

    Parameters
    ----------
    m : Module
        The module that receives the logic.
    config : HwConfig
        ``streams`` T.
    scalar
        The `NormScalar`, for its members.

    Attributes
    ----------
    op : QUANTISE_OP
        The operation.
    largest : key
        The key of the largest |u| of the operation.
    state_shift : 7 bits signed
        The sampled ``state_shift`` of the vector.
    t : SCALAR
        The last product, as a short float.
    preparing : 1 bit
        The reciprocal of the scale of the stream's previous operation is computed, not the reciprocal of the largest
        |u|.
    zero : 1 bit
        The vector's ss is 0.
    root, root_exponent : mantissa, exponent
        1 / sqrt(ss + eps).
    inverse : mantissa
        The result of a reciprocal.
    factor : mantissa
        127 * (the result of a reciprocal), rounded, in the cycle before ``inverse`` has this result.
    largest_k : SCALAR
        largest * K.
    a, b : 18 bits signed
        Operands of the multiplier.
    of_guess : 1 bit
        The multiplier uses ``guess`` in place of ``a``.
    sum_exponent : exponent
        Exponent of the product.
    guess : mantissa
        The word that was read from the table.
    operand : 18 bits
        The number whose root is computed.
    counting_g : 1 bit
        `LeadingBits` reads the squares of g, not ss.
    scaled : 1 bit
        The scale of the operation and stream is ready in ``t``.
    for_root, for_largest : 1 bit
        The address of the table comes from the operand of the root (``for_root``) or from the largest
        (``for_largest``).
    """

    def __init__(self, m: Module, config: HwConfig, scalar: Any) -> None:
        m.submodules.table = table = new_memory(MANTISSA_BITS, 1024, TABLE_WORDS)
        self.read = table.read_port()
        self.op = Signal(QUANTISE_OP, reset_less=True)
        self.largest = Signal(KEY_BITS, reset_less=True)
        self.state_shift = Signal(signed(7), reset_less=True)
        self.t = scalar_signal("t")
        self.preparing = Signal()
        self.counting_g = Signal()
        self.operand = Signal(18, reset_less=True)
        self.ending = scalar.stream == scalar.final_stream if config.streams > 1 else Const(1, 1)
        self._keep_scales(m, config, scalar)
        self._multiply(m)
        self._look_up(m, scalar)
        self._add(m, scalar)

    def _keep_scales(self, m: Module, config: HwConfig, scalar: Any) -> None:
        """Add the registers of the root, and of the last scale and root of each stream."""
        self.zero = Signal(reset_less=True)
        self.root = Signal(MANTISSA_BITS, reset_less=True)
        self.root_exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)
        self.scaled = Signal()
        self.result = Mux(self.zero | (self.largest == 0), 0, self.t.as_value())
        previous_scale = Running(m, "previous", layouts.shape_bits(layouts.SCALAR), config.streams, scalar.stream)
        previous_scale.replace(self.scaled, self.result)
        self.previous = data.View(layouts.SCALAR, previous_scale.value)
        self.roots = Cat(self.root, self.root_exponent, self.zero)
        if config.streams > 1:
            self.kept_roots = Running(m, "roots", len(self.roots), config.streams, scalar.stream)
            self.kept_roots.replace(self.scaled, self.roots)

    def _multiply(self, m: Module) -> None:
        """Add the multiplier, and the forms in which its product is used."""
        self.a, self.b = Signal(signed(18), reset_less=True), Signal(signed(18), reset_less=True)
        self.product = product = Signal(signed(36), reset_less=True)
        self.guess, self.of_guess = Signal(MANTISSA_BITS, reset_less=True), Signal()
        m.d.sync += product.eq(Mux(self.of_guess, Cat(self.guess, Const(0, 1)).as_signed(), self.a) * self.b)
        self.sum_exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)
        self.rounded, high = round_product(product[:34])
        self.rounded_exponent = self.sum_exponent + 16 + high
        self.inverse = Signal(MANTISSA_BITS, reset_less=True)
        self.largest_k = scalar_signal("largest_k")
        self.newton = Signal(MANTISSA_BITS)
        step, half = product[25:].as_signed(), product[24]
        stepped = self.guess + step + half
        m.d.comb += self.newton.eq(Mux(stepped > MANTISSA_MAX, MANTISSA_MAX, stepped))

        # R = 127 * (guess + step + half), rounded, without a multiplier: 127 * y is 128 * y - y. R is at most 127/128
        # of 2^17. The register is ready together with the product, because the guess is older.
        guess_part = Signal(MANTISSA_BITS + 7, name="factor_of_guess", reset_less=True)
        m.d.sync += guess_part.eq((self.guess << 7) - self.guess + ROUND_FACTOR)
        step_part = Cat(half.replicate(7), step).as_signed() - step
        factor = Mux(stepped > MANTISSA_MAX, 127 * MANTISSA_MAX + ROUND_FACTOR, guess_part + step_part)
        self.factor = factor[7 : 7 + MANTISSA_BITS]

    def _look_up(self, m: Module, scalar: Any) -> None:
        """Add the table's address. The state TABLE and the state before a RECIPROCAL of a scale use the address for a
        reciprocal."""
        for_root, for_largest = Signal(), Signal()
        self.for_root, self.for_largest = for_root, for_largest
        largest = pick(scalar.largest, self.op.u_index)
        reciprocal_of = Mux(for_largest, leading_bits(largest), leading_bits(self.previous.mantissa))
        address = Mux(for_root, self.operand[9:18], Cat(reciprocal_of, Const(2, 2)))
        m.d.comb += self.read.addr.eq(address)

    def _add(self, m: Module, scalar: Any) -> None:
        """Add the adder. Usually `LeadingBits` reads ss, which is ready in the state SUM.

        In an O_PROJ operation `LeadingBits` reads the sum of the squares of g until the factor is computed, and then ss
        for the state ADD.
        """
        m.submodules.leading = self.leading = LeadingBits(SQUARES_BITS)
        m.submodules.adder = self.adder = FloatAdder()
        m.d.comb += [
            self.leading.number.eq(Mux(self.counting_g, scalar.g_squares, scalar.squares)),
            self.adder.a.eq(self.leading.value),
            self.adder.b.eq(self.t),
        ]
