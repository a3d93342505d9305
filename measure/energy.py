"""Estimates joules of a token: static power of the part, plus counted activity times a calibration's coefficients.

    toggles, cycles, flip-flops, block RAMs, bytes ─► events a token ─┐
    calibration file ─► joules an event, low and high ────────────────┴─► joules a token, low to high

Static power: typical supply currents of the ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012, "ECP5 Supply Current
(Standby)") times their voltages, at 25 degrees. The upper end is twice that, since leakage doubles in about 30 degrees.
Static power is listed on its own: the joules of an event do not include it. The same holds for the standby of a memory
next to the chip (dram.py).
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
    """Events of one kind: their number a token, and their joules."""

    name: str
    events: float
    joules: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Power and energy of a token.

    ``static`` and ``standby``: watts of the chip and of the memory next to it. ``dynamic``: joules of a token without
    them. ``joules``: with both.
    """

    part: str
    seconds: float
    static: Coefficient
    terms: list[Term]
    source: str
    standby: Coefficient = NO_WATTS

    @property
    def dynamic(self) -> Coefficient:
        """Joules that all events of a token take together."""
        return Coefficient(*(sum(getattr(term, name) for term in self.terms) for name in ("joules", "low", "high")))

    @property
    def joules(self) -> Coefficient:
        """Joules a token, with static and standby power during its time."""
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
    """Return the static power of a part: measured, if the calibration has it, else the data sheet's.

    Raises ``LuternError`` for a part of which neither has a figure.
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
    """Return joules of a token that has these events and takes ``seconds``; ``LuternError`` if a coefficient is
    missing."""
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

    Joules and seconds are a token's share of a pass. ``dram_name``: the kind of memory, for a machine whose
    configuration does not name one.
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
    """Return dynamic joules of each window of a token; ``toggles`` has toggles and cycles by the name of the window."""
    return {
        name: estimate(
            part,
            calibration,
            {"net_toggle": count, "register_clock": flip_flops * cycles, "block_ram_access": block_rams * cycles},
            cycles / clock_hz,
        ).dynamic
        for name, (count, cycles) in toggles.items()
    }
