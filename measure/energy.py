"""Estimates joules per token: the part's static energy, plus counted activity times a calibration's coefficients.

    toggles, cycles, flip-flops, block RAMs, bytes ─► events per token ─┐
    calibration file ─► joules per event, low and high ─────────────────┴─► joules per token, low to high

The static power is the typical supply currents of the ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012, "ECP5 Supply
Current (Standby)") times their voltages, at 25 degrees. Its upper end is twice this value, because leakage doubles in
about 30 degrees. Static power is listed separately, and the joules of an event do not include it. These joules also do
not include the standby power of a memory next to the chip (dram.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lutern.hw.config import HwConfig
from lutern.measure.calibration import STATIC, Calibration, Coefficient
from lutern.measure.dram import Dram, dram_of
from lutern.measure.estimate import Estimate as Computed
from lutern.model_ref.errors import LuternError

TYPICAL_STATIC_WATTS = {"12F": 0.125, "25F": 0.125, "45F": 0.170, "85F": 0.298}
"""Typical static power in watts, by the size in a part's name."""


NO_WATTS = Coefficient(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Term:
    """Events of one kind: their number per token, and their joules."""

    name: str
    events: float
    joules: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Power and energy of a token.

    ``static`` is the watts of the chip, and ``standby`` the watts of the memory next to the chip. ``dynamic`` is the
    joules per token without these two, and ``joules`` includes both.
    """

    part: str
    seconds: float
    static: Coefficient
    terms: list[Term]
    source: str
    standby: Coefficient = NO_WATTS

    @property
    def dynamic(self) -> Coefficient:
        """Joules of all events of a token together."""
        return Coefficient(*(sum(getattr(term, name) for term in self.terms) for name in ("joules", "low", "high")))

    @property
    def joules(self) -> Coefficient:
        """Joules per token, with static and standby power during the time of the token."""
        return Coefficient(
            *(
                getattr(self.dynamic, name) + (getattr(self.static, name) + getattr(self.standby, name)) * self.seconds
                for name in ("value", "low", "high")
            )
        )

    @property
    def watts(self) -> Coefficient:
        """Mean watts while the machine decodes."""
        return Coefficient(*(getattr(self.joules, name) / self.seconds for name in ("value", "low", "high")))


def static_watts(part: str, calibration: Calibration) -> Coefficient:
    """Return the static power of a part: the measured power if the calibration has it, else the data sheet's figure.

    Raises ``LuternError`` if neither of them has a figure for the part.
    """
    if STATIC in calibration.coefficients:
        return calibration.coefficients[STATIC]
    for size, watts in TYPICAL_STATIC_WATTS.items():
        if part.endswith(size):
            return Coefficient(watts, watts, 2 * watts)
    raise LuternError(
        f"the static power of {part} is not known; give an ECP5 part whose name ends "
        f"with one of {', '.join(TYPICAL_STATIC_WATTS)}, such as LFE5U-85F."
    )


def estimate(part: str, calibration: Calibration, events: Mapping[str, float], seconds: float) -> Estimate:
    """Return the joules of a token that has these events and takes ``seconds``. Raise ``LuternError`` if a coefficient
    is missing."""
    calibration.require(part)
    terms = []
    for name, count in events.items():
        if count == 0:
            continue
        if name not in calibration.coefficients:
            raise LuternError(
                f"the calibration ({calibration.source}) has no coefficient for {name}, but the token has "
                "such events; calibrate with a design that has them, too."
            )
        item = calibration.coefficients[name]
        terms.append(Term(name, count, count * item.value, count * item.low, count * item.high))
    return Estimate(part, seconds, static_watts(part, calibration), terms, calibration.source)


def with_memory(calibration: Calibration, memory: Dram) -> Calibration:
    """Return the calibration with a coefficient for the bytes of ``memory``: the calibration's if it has one, else the
    figure of ``memory.byte``."""
    if memory.event in calibration.coefficients:
        return calibration
    return replace(
        calibration,
        source=f"{calibration.source}; {memory.title}: {memory.source}",
        coefficients={**calibration.coefficients, memory.event: memory.byte},
    )


def without_nets(
    part: str, calibration: Calibration, config: HwConfig, found: Computed, dram_name: str = ""
) -> Estimate:
    """Estimate a token of a machine that was not simulated, from its memory, clock and block RAM; nets are left out.

    Joules and seconds are the values of a pass divided by its tokens. ``dram_name`` is the kind of memory, for a
    machine whose configuration does not define it.
    """
    memory = dram_of(config, dram_name)
    cycles = config.clock_hz / found.tokens_per_second
    events = {"register_clock": found.resources.ff * cycles, "block_ram_access": found.resources.block_rams * cycles}
    if memory is None:
        return estimate(part, calibration, events, 1 / found.tokens_per_second)
    events[memory.event] = found.bytes_read / found.streams
    known = with_memory(calibration, memory)
    return replace(estimate(part, known, events, 1 / found.tokens_per_second), standby=memory.standby_watts(config))


def of_windows(
    part: str,
    calibration: Calibration,
    toggles: Mapping[str, tuple[int, int]],
    flip_flops: int,
    block_rams: int,
    clock_hz: float,
) -> dict[str, Coefficient]:
    """Return the dynamic joules of each window of a token (``toggles.Token``), from its (toggles, cycles), by name."""
    return {
        name: estimate(
            part,
            calibration,
            {"net_toggle": count, "register_clock": flip_flops * cycles, "block_ram_access": block_rams * cycles},
            cycles / clock_hz,
        ).dynamic
        for name, (count, cycles) in toggles.items()
    }
