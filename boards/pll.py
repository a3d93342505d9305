"""The PLL of ECP5, an EHXPLLL: computes its dividers, and keeps every frequency in the range of the data sheet.

    input ─► / reference ─► phase detector ─► VCO ─┬─► / feedback output ─► / feedback ─► back to the phase detector
                                                   ├─► / CLKOS  ─► first output
                                                   ├─► / CLKOS2 ─► second output
                                                   └─► / CLKOS3 ─► third output

    detector = input / reference        CLKOP = detector * feedback        VCO = CLKOP * (CLKOP's divider)

CLKOP is used for the feedback only, so an output may be the VCO divided by any whole number. `ecppll --highres` does
the same. A delay in degrees is converted into whole periods and eighths of a period of the VCO. CPHASE is the
output's divider - 1 plus the whole periods, and FPHASE is the eighths.

Source of the ranges: FPGA-DS-02012 (ECP5 data sheet), table "sysCLOCK PLL Timing". Source of the phases: FPGA-TN-02200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from amaranth.hdl import Const, Elaboratable, Instance, Module, Signal

from lutern.model_ref.errors import LuternError

INPUT_HZ = (8_000_000, 400_000_000)
OUTPUT_HZ = (3_125_000, 400_000_000)
DETECTOR_HZ = (10_000_000, 400_000_000)
VCO_HZ = (400_000_000, 800_000_000)
HIGHEST_DIVIDER = 128
HIGHEST_FEEDBACK = 80
"""Highest CLKFB_DIV."""
OUTPUTS = ("CLKOS", "CLKOS2", "CLKOS3")
TOLERANCE = Fraction(1, 200)
"""Largest relative error of an output. The length of the UART's bit is computed from the actual frequency."""


@dataclass(frozen=True)
class PllPlan:
    """The dividers of a PLL. ``dividers`` are the dividers of the outputs, in the order of the requests."""

    input_hz: int
    reference: int
    feedback: int
    feedback_output: int
    dividers: tuple[int, ...]

    def __post_init__(self) -> None:
        checks = (
            ("input", Fraction(self.input_hz), INPUT_HZ),
            ("phase detector", self.detector_hz, DETECTOR_HZ),
            ("feedback output", self.detector_hz * self.feedback, OUTPUT_HZ),
            ("VCO", self.vco_hz, VCO_HZ),
            *((f"output {index}", self.output_hz(index), OUTPUT_HZ) for index in range(len(self.dividers))),
        )
        for name, value, (low, high) in checks:
            if not low <= value <= high:
                raise LuternError(
                    f"PLL: the {name} would be at {float(value) / 1e6:.3f} MHz, but ECP5 takes "
                    f"{low / 1e6:g} to {high / 1e6:g}; choose another frequency."
                )
        assert 1 <= self.feedback <= HIGHEST_FEEDBACK and len(self.dividers) <= len(OUTPUTS)
        assert all(1 <= value <= HIGHEST_DIVIDER for value in (self.reference, self.feedback_output, *self.dividers))

    @property
    def detector_hz(self) -> Fraction:
        """Frequency of both inputs of the phase detector."""
        return Fraction(self.input_hz, self.reference)

    @property
    def vco_hz(self) -> Fraction:
        """Frequency of the VCO."""
        return self.detector_hz * self.feedback * self.feedback_output

    def output_hz(self, index: int) -> Fraction:
        """Return the frequency of an output."""
        return self.vco_hz / self.dividers[index]

    def phase(self, index: int, degrees: float) -> tuple[int, int]:
        """Return CPHASE and FPHASE of an output delayed by ``degrees``, to the nearest eighth of a VCO period."""
        divider = self.dividers[index]
        eighths = round(degrees / 360 * divider * 8) % (divider * 8)
        return divider - 1 + eighths // 8, eighths % 8

    def parameters(self, phases: Mapping[int, float] | None = None) -> dict[str, int]:
        """Return the parameters of an EHXPLLL that depend on frequencies and phases.

        ``phases`` are the delays of outputs in degrees, by the output's index.
        """
        values = {
            "CLKI_DIV": self.reference,
            "CLKFB_DIV": self.feedback,
            "CLKOP_DIV": self.feedback_output,
            "CLKOP_CPHASE": self.feedback_output - 1,
            "CLKOP_FPHASE": 0,
        }
        for index, divider in enumerate(self.dividers):
            whole, eighths = self.phase(index, (phases or {}).get(index, 0.0))
            name = OUTPUTS[index]
            values |= {f"{name}_DIV": divider, f"{name}_CPHASE": whole, f"{name}_FPHASE": eighths}
        return values


def plan_pll(input_hz: int, *wanted_hz: int, rough_hz: int = 0) -> PllPlan:
    """Return the dividers for which the largest relative error of the frequencies ``wanted_hz`` is smallest.

    If several plans have this error, the highest frequency of the phase detector is chosen, and then the highest
    frequency of the VCO, because high frequencies have the least jitter. ``rough_hz`` is the approximate frequency of
    an additional output, which is the last output.
    """
    if not INPUT_HZ[0] <= input_hz <= INPUT_HZ[1]:
        raise LuternError(
            f"PLL: the input is at {input_hz / 1e6:g} MHz, but ECP5 takes {INPUT_HZ[0] / 1e6:g} to "
            f"{INPUT_HZ[1] / 1e6:g}."
        )
    found: list[tuple[Fraction, Fraction, Fraction, PllPlan]] = []
    references = range(1, input_hz // DETECTOR_HZ[0] + 1)
    for reference, multiple in product(references, range(1, VCO_HZ[1] // DETECTOR_HZ[0] + 1)):
        detector, vco = Fraction(input_hz, reference), Fraction(input_hz * multiple, reference)
        if not VCO_HZ[0] <= vco <= VCO_HZ[1]:
            continue
        pair = _split(detector, multiple)
        dividers = tuple(round(vco / hz) for hz in wanted_hz)
        if pair is None or not all(1 <= divider <= HIGHEST_DIVIDER for divider in dividers):
            continue
        off = max(abs(vco / divider / hz - 1) for divider, hz in zip(dividers, wanted_hz, strict=True))
        if off <= TOLERANCE and all(vco / divider <= OUTPUT_HZ[1] for divider in dividers):
            rough = (round(vco / rough_hz),) if rough_hz else ()
            found.append((off, -detector, -vco, PllPlan(input_hz, reference, *pair, (*dividers, *rough))))
    if not found:
        raise LuternError(
            f"PLL: no dividers make {' and '.join(f'{hz / 1e6:g}' for hz in wanted_hz)} MHz from "
            f"{input_hz / 1e6:g} MHz within {float(TOLERANCE):.1%}; choose other frequencies, "
            f"{OUTPUT_HZ[0] / 1e6:g} to {OUTPUT_HZ[1] / 1e6:g} MHz."
        )
    return min(found, key=lambda item: item[:3])[3]


def _split(detector: Fraction, multiple: int) -> tuple[int, int] | None:
    """Return the dividers of feedback and feedback output for a VCO at ``multiple`` times the detector.

    With these dividers CLKOP is as slow as possible. The result is None if no such dividers exist.
    """
    for feedback in range(1, HIGHEST_FEEDBACK + 1):
        divider, rest = divmod(multiple, feedback)
        if not rest and divider <= HIGHEST_DIVIDER and detector * feedback <= OUTPUT_HZ[1]:
            return feedback, divider
    return None


class Pll(Elaboratable):
    """Adds one EHXPLLL.

    Parameters
    ----------
    plan : PllPlan
        The dividers.
    phases : Mapping[int, float] | None
        The delays of outputs in degrees, by the output's index.
    moving : int | None
        Index of an output that ``phase_step`` moves.

    Members
    -------
    clki : 1 bit, input
        The input clock.
    clocks : signals of 1 bit, output
        The output clocks.
    locked : 1 bit, output
        High while the PLL is locked.
    phase_step : 1 bit, input
        Each time that this input falls, the output ``moving`` moves by an eighth of a VCO period
        (``hw/memory/sdram_phase.py``).
    phase_dir : 1 bit, input
        0 moves the output to a later phase, 1 to an earlier phase.
    """

    def __init__(self, plan: PllPlan, phases: Mapping[int, float] | None = None, moving: int | None = None) -> None:
        self.plan, self.phases, self.moving = plan, dict(phases or {}), moving
        self.clki, self.locked = Signal(), Signal()
        self.clocks = [Signal(name=f"{name.lower()}_out") for name in OUTPUTS[: len(plan.dividers)]]
        self.phase_step, self.phase_dir = Signal(init=1), Signal(init=1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan = self.plan
        feedback = Signal()
        parameters: dict[str, object] = {
            "p_PLLRST_ENA": "DISABLED",
            "p_INTFB_WAKE": "DISABLED",
            "p_STDBY_ENABLE": "DISABLED",
            "p_DPHASE_SOURCE": "DISABLED" if self.moving is None else "ENABLED",
            "p_OUTDIVIDER_MUXA": "DIVA",
            "p_OUTDIVIDER_MUXB": "DIVB",
            "p_OUTDIVIDER_MUXC": "DIVC",
            "p_OUTDIVIDER_MUXD": "DIVD",
            "p_FEEDBK_PATH": "CLKOP",
            "p_CLKOP_ENABLE": "ENABLED",
            **{f"p_{name}": value for name, value in plan.parameters(self.phases).items()},
        }
        for name, clock in zip(OUTPUTS, self.clocks, strict=False):
            parameters |= {f"p_{name}_ENABLE": "ENABLED", f"o_{name}": clock}
        # PHASESEL: 0 CLKOS, 1 CLKOS2, 2 CLKOS3, 3 CLKOP.
        m.submodules.ehxplll = Instance(
            "EHXPLLL",
            *(("a", name, value) for name, value in _ATTRIBUTES.items()),
            a_FREQUENCY_PIN_CLKI=f"{plan.input_hz / 1e6:g}",
            **parameters,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_PHASESEL0=Const((self.moving or 0) & 1),
            i_PHASESEL1=Const((self.moving or 0) >> 1),
            i_PHASEDIR=self.phase_dir,
            i_PHASESTEP=self.phase_step,
            i_PHASELOADREG=Const(1),
            i_CLKI=self.clki,
            i_CLKFB=feedback,
            o_CLKOP=feedback,
            o_LOCK=self.locked,
        )
        return m


# Loop filter and charge pump as ecppll and Diamond set them.
_ATTRIBUTES = {"ICP_CURRENT": "12", "LPF_RESISTOR": "8", "MFG_ENABLE_FILTEROPAMP": "1", "MFG_GMCREF_SEL": "2"}
