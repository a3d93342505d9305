"""Shifts that keep few bits and flag the lost bits, and the limits of signed numbers, for every value of a few bits."""

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.sim import Simulator

from lutern.hw.pipeline import beyond, saturate, shift_right
from lutern.model_ref import fixed

VALUE_BITS, AMOUNT_BITS = 9, 4


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("keep", [1, 4, 8, 9, 12])
def test_shift_right(is_signed: bool, keep: int) -> None:
    m = Module()
    value, amount = Signal((signed if is_signed else unsigned)(VALUE_BITS)), Signal(AMOUNT_BITS)
    kept, flags = shift_right(m, value, amount, keep)
    assert len(kept) == min(keep, VALUE_BITS) and kept.shape().signed == is_signed
    kept_out, lost = Signal(kept.shape()), Signal()
    m.d.comb += [kept_out.eq(kept), lost.eq(flags.any())]
    low, high = (-(1 << keep - 1), (1 << keep - 1) - 1) if is_signed else (0, (1 << keep) - 1)

    async def bench(ctx):
        for given in range(*((-256, 256) if is_signed else (0, 512))):
            for count in range(1 << AMOUNT_BITS):
                ctx.set(value, given)
                ctx.set(amount, count)
                await ctx.delay(1e-9)
                wanted = given >> count
                assert ctx.get(lost) == (not low <= wanted <= high), (given, count)
                assert (ctx.get(kept_out) - wanted) % (1 << len(kept)) == 0, (given, count)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("bits", [2, 5, 8, 9])
def test_limits(bits: int) -> None:
    m = Module()
    value, clamped, outside = Signal(signed(VALUE_BITS)), Signal(signed(bits)), Signal()
    m.d.comb += [clamped.eq(saturate(value, bits)), outside.eq(Mux(beyond(value, bits), 1, 0))]

    async def bench(ctx):
        for given in range(-256, 256):
            ctx.set(value, given)
            await ctx.delay(1e-9)
            wanted = int(fixed.saturate(np.array(given), (1 << bits - 1) - 1))
            assert (ctx.get(clamped), ctx.get(outside)) == (wanted, wanted != given), given

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
