"""The roundings of short floats in gateware, each compared with the same function of the integer model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.sim import Simulator

from lutern.hw.norm import short_float
from lutern.hw.norm.short_float import PRODUCT_BITS, FloatAdder, align, round_aligned
from lutern.model_ref import fixed
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_MAX, MANTISSA_ONE

SEED = 1207
ALL_ONES = [MANTISSA_MAX, MANTISSA_MAX - 1, MANTISSA_ONE, MANTISSA_ONE + 1]


def simulate(module: Any, bench: Callable[[Any], Any], clocked: bool = False) -> None:
    simulator = Simulator(module)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def products() -> list[int]:
    """Return products of the smallest and largest mantissas, exact halves with both places of the leading bit, and
    random products."""
    draw = np.random.default_rng(SEED)
    found = [a * b for a in (0, *ALL_ONES) for b in ALL_ONES]
    found += [(MANTISSA_ONE | 5) << 16 | 1 << 15, (MANTISSA_ONE | 5) << 17 | 1 << 16]
    pairs = draw.integers(MANTISSA_ONE, MANTISSA_MAX + 1, (400, 2)).tolist()
    return [*found, *(a * b for a, b in pairs)]


def check_round_product(piece: Callable[[Value], tuple[Value, Value]]) -> None:
    """Compare a circuit with the rounding of ``multiply_float``. This function contains the rounding itself, because
    some of the numbers are no products of mantissas."""
    m, product = Module(), Signal(PRODUCT_BITS)
    mantissa, high = Signal(MANTISSA_BITS), Signal()
    rounded, is_high = piece(product)
    m.d.comb += [mantissa.eq(rounded), high.eq(is_high)]

    async def bench(context: Any) -> None:
        for number in products():
            context.set(product, number)
            shift = 16 + (number >> PRODUCT_BITS - 1)
            expected = min(number + (1 << shift - 1) >> shift, MANTISSA_MAX)
            got = context.get(mantissa), context.get(high)
            assert got == (expected, shift - 16), f"round_product of {number:#x} is {got}, expected {expected:#x}"

    simulate(m, bench)


def test_round_product() -> None:
    check_round_product(short_float.round_product)


def test_products_are_those_of_the_model() -> None:
    """The rounding in ``check_round_product`` equals that of ``multiply_float``."""
    draw = np.random.default_rng(SEED)
    a, b = draw.integers(MANTISSA_ONE, MANTISSA_MAX + 1, (2, 1000))
    mantissa, exponent = fixed.multiply_float((a, np.zeros_like(a)), (b, np.zeros_like(b)))
    shift = 16 + (a * b >> PRODUCT_BITS - 1)
    assert (exponent == shift).all()
    assert (mantissa == np.minimum(a * b + (1 << shift - 1) >> shift, MANTISSA_MAX)).all()


def test_a_product_without_rounding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_float, "round_up", lambda kept, half: kept)
    with pytest.raises(AssertionError, match="round_product of 0x"):
        check_round_product(short_float.round_product)


def test_a_product_rounded_at_a_wrong_bit_is_found() -> None:
    def wrong(product: Value) -> tuple[Value, Value]:
        high = product[PRODUCT_BITS - 1]
        kept = Mux(high, product[17:34], product[16:33])
        return short_float.round_up(kept, product[15]), high

    with pytest.raises(AssertionError, match="round_product of 0x"):
        check_round_product(wrong)


def test_alignment() -> None:
    """``align`` and ``round_aligned`` equal ``rsh`` for shifts up to 40, 64 and 4095, and for smallest, largest and
    random mantissas."""
    m, mantissa, shift, result = Module(), Signal(MANTISSA_BITS), Signal(12), Signal(MANTISSA_BITS)
    m.d.comb += result.eq(round_aligned(align(mantissa, shift)))
    draw = np.random.default_rng(SEED)
    values = [0, 1, *ALL_ONES, *draw.integers(0, MANTISSA_MAX + 1, 6).tolist()]

    async def bench(context: Any) -> None:
        for value in values:
            for places in [*range(41), 64, 4095]:
                context.set(mantissa, value)
                context.set(shift, places)
                expected = value + (1 << places >> 1) >> places
                assert context.get(result) == expected, f"{value:#x} moved by {places}"

    simulate(m, bench)


def test_float_adder() -> None:
    """The adder equals ``add_float`` for zeros, equal numbers, carries after rounding up, and random numbers."""
    adder = FloatAdder()
    draw = np.random.default_rng(SEED)
    pairs = [(x, y) for x in ((0, 0), (MANTISSA_MAX, 3), (MANTISSA_ONE, 3)) for y in ((0, 0), (MANTISSA_MAX, 2))]
    for _ in range(150):
        mantissas = draw.integers(MANTISSA_ONE, MANTISSA_MAX + 1, 2).tolist()
        exponent = int(draw.integers(-200, 200))
        pairs.append(((mantissas[0], exponent), (mantissas[1], exponent + int(draw.integers(-20, 21)))))

    async def bench(context: Any) -> None:
        for a, b in pairs:
            for port, (mantissa, exponent) in ((adder.a, a), (adder.b, b)):
                context.set(port.mantissa, mantissa)
                context.set(port.exponent, exponent)
            await context.tick().repeat(adder.latency)
            expected = fixed.add_float(*((np.array(x), np.array(e)) for x, e in (a, b)))
            got = context.get(adder.total.mantissa), context.get(adder.total.exponent)
            mantissa, exponent = int(expected[0]), int(expected[1])
            assert got[0] == mantissa and (got[1] == exponent or not mantissa), f"{a} + {b}: {got}, seed {SEED}"

    simulate(adder, bench, clocked=True)
