"""Dividers of the PLL: exact if possible and always within the data sheet's ranges, or refused with a message."""

from __future__ import annotations

from fractions import Fraction

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module

from lutern.boards.catalog import BOARDS
from lutern.boards.pll import DETECTOR_HZ, TOLERANCE, VCO_HZ, Pll, PllPlan, plan_pll
from lutern.hw.presets import PRESETS
from lutern.model_ref.errors import LuternError

MHZ = 1_000_000


def vcos(input_hz: int) -> list[Fraction]:
    """Return every VCO frequency that the dividers can set."""
    found = {
        Fraction(input_hz * multiple, reference)
        for reference in range(1, 11)
        for multiple in range(1, 81)
        if input_hz >= reference * DETECTOR_HZ[0]
    }
    return [vco for vco in found if VCO_HZ[0] <= vco <= VCO_HZ[1]]


@pytest.mark.parametrize("input_hz", sorted({board.clock_hz for board in BOARDS.values()}))
@pytest.mark.parametrize("wanted", [(75,), (80,), (100,), (62.5,), (75, 100, 100), (80, 100, 100), (50, 133)])
def test_boards(input_hz: int, wanted: tuple[float, ...]) -> None:
    """For the boards' oscillators and common clocks, the dividers are as exact as those of an exhaustive search."""
    hz = [round(mhz * MHZ) for mhz in wanted]
    best = min(max(abs(vco / round(vco / one) / one - 1) for one in hz) for vco in vcos(input_hz))
    if best > TOLERANCE:
        with pytest.raises(LuternError, match="no dividers make"):
            plan_pll(input_hz, *hz)
        return
    plan = plan_pll(input_hz, *hz)
    assert max(abs(plan.output_hz(index) / one - 1) for index, one in enumerate(hz)) == best
    assert plan.vco_hz == plan.detector_hz * plan.feedback * plan.feedback_output


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_exact(preset: str) -> None:
    """On every board the PLL can generate the clock for which the preset's tokens/s are computed, to the hertz. The
    clock of a machine for any clock is for the boards whose default this machine is."""
    for board in BOARDS.values():
        clock_hz = PRESETS[preset].clock_hz
        if not PRESETS[preset].any_clock or board.preset == preset:
            assert round(plan_pll(board.clock_hz, clock_hz).output_hz(0)) == clock_hz, board.name


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((25 * MHZ, 5, 80, 1, (4,)), "the phase detector would be at 5.000 MHz, but ECP5 takes 10 to 400"),
        ((25 * MHZ, 1, 1, 10, (4,)), "the VCO would be at 250.000 MHz, but ECP5 takes 400 to 800"),
        ((25 * MHZ, 1, 4, 9, (4,)), "the VCO would be at 900.000 MHz"),
        ((25 * MHZ, 1, 20, 1, (1,)), "the feedback output would be at 500.000 MHz, but ECP5 takes 3.125 to 400"),
        ((25 * MHZ, 1, 1, 20, (1,)), "output 0 would be at 500.000 MHz"),
        ((5 * MHZ, 1, 10, 10, (5,)), "the input would be at 5.000 MHz, but ECP5 takes 8 to 400"),
    ],
)
def test_out_of_range(fields: tuple[int, int, int, int, tuple[int, ...]], text: str) -> None:
    with pytest.raises(LuternError, match=text):
        PllPlan(*fields)


def test_frequencies_that_the_pll_cannot_generate() -> None:
    with pytest.raises(LuternError, match=r"^PLL: no dividers make 500 MHz from 25 MHz within 0\.5%; choose other"):
        plan_pll(25 * MHZ, 500 * MHZ)
    with pytest.raises(LuternError, match=r"^PLL: the input is at 5 MHz, but ECP5 takes 8 to 400\.$"):
        plan_pll(5 * MHZ, 75 * MHZ)


def test_phase() -> None:
    """A phase of a clock has steps of 1/8 VCO period. With a VCO at 600 MHz, a period of a clock at 100 MHz has 48
    steps of 208 ps."""
    plan = PllPlan(25 * MHZ, 1, 1, 24, (8, 6))
    assert plan.phase(1, 0) == (5, 0)
    assert plan.phase(1, 90) == (6, 4)
    assert plan.phase(1, 180) == (8, 0)
    assert plan.phase(1, -90) == plan.phase(1, 270) == (9, 4)
    assert plan.phase(1, 7.5) == (5, 1)
    assert plan.phase(1, 359.9) == (5, 0)


class Alone(Elaboratable):
    """A top level that contains only a PLL."""

    def __init__(self, pll: Pll) -> None:
        self.pll = pll

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pll = self.pll
        return m


@pytest.mark.parametrize("moving", [None, 1])
def test_cell(moving: int | None) -> None:
    pll = Pll(PllPlan(25 * MHZ, 1, 1, 24, (8, 6)), {1: 90.0}, moving)
    text = rtlil.convert(Alone(pll), ports=[pll.clki, pll.locked, *pll.clocks, pll.phase_step, pll.phase_dir])
    for line in (
        "cell \\EHXPLLL",
        "parameter \\CLKFB_DIV 1",
        "parameter \\CLKOP_DIV 24",
        "parameter \\CLKOS_DIV 8",
        "parameter \\CLKOS2_DIV 6",
        "parameter \\CLKOS2_CPHASE 6",
        "parameter \\CLKOS2_FPHASE 4",
        f'parameter \\DPHASE_SOURCE "{"DISABLED" if moving is None else "ENABLED"}"',
        f"connect \\PHASESEL0 1'{moving or 0}",
        "connect \\PHASESEL1 1'0",
    ):
        assert line in text, line
    assert "CLKOS3" not in text


@pytest.mark.parametrize("input_mhz", [25, 30, 48, 100])
def test_an_output_with_low_accuracy(input_mhz: int) -> None:
    """The output with low accuracy divides the VCO frequency that the other outputs need, and does not change the
    others."""
    plan = plan_pll(input_mhz * MHZ, 200 * MHZ, 60 * MHZ, rough_hz=25 * MHZ)
    exact = plan_pll(input_mhz * MHZ, 200 * MHZ, 60 * MHZ)
    assert plan.dividers[:2] == exact.dividers and plan.vco_hz == exact.vco_hz
    assert abs(plan.output_hz(2) / (25 * MHZ) - 1) < 0.04
