"""Kinds of memory next to a chip: joules per bit that is read, watts in standby, and the source of the figures.

    joules per token = bits x (core + interface) + standby x parts x seconds

``core`` is the energy in the array and the data path of the part. ``interface`` is the energy in pins, lines,
termination and, if a figure includes it, the PHY of the controller. ``standby`` is the watts of one part that is
clocked and refreshed but not read, which the joules per bit do not include. Every figure is an interval, and no figure
has been compared with a meter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lutern.firmware.limits import sizes_of
from lutern.hw.config import HwConfig
from lutern.measure.calibration import Coefficient
from lutern.measure.word_rate import peak_word_hz
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError


@dataclass(frozen=True)
class Dram:
    """A kind of memory, with joules per bit and watts per part.

    ``event`` is the name of its bytes in a calibration file. ``peak`` is the largest number of bytes/s of one part.
    """

    name: str
    title: str
    event: str
    part: str
    peak: float
    core: Coefficient
    interface: Coefficient
    standby: Coefficient
    source: str

    @property
    def byte(self) -> Coefficient:
        """Joules per byte that is read."""
        return Coefficient(
            *(8 * (getattr(self.core, name) + getattr(self.interface, name)) for name in ("value", "low", "high"))
        )

    def parts(self, config: HwConfig) -> int:
        """Return the number of parts that are needed to supply all words that a machine can take."""
        return math.ceil(peak_word_hz(config) * config.word_bytes / self.peak - 1e-9)

    def standby_watts(self, config: HwConfig) -> Coefficient:
        """Return the standby watts of all parts of a machine together."""
        return Coefficient(*(self.parts(config) * getattr(self.standby, name) for name in ("value", "low", "high")))


def _pico(value: float, low: float, high: float) -> Coefficient:
    return Coefficient(value * 1e-12, low * 1e-12, high * 1e-12)


DRAMS = {
    dram.name: dram
    for dram in (
        Dram(
            "sdram",
            "SDR SDRAM",
            "memory_byte",
            "x16 part",
            266e6,
            _pico(110, 62, 209),
            _pico(24, 14, 41),
            Coefficient(0.0, 0.0, 0.0),
            "40 to 135 mA at 3.3 V and 266 MB/s, standby included (the upper figure is IDD4 of Micron's "
            "MT48LC16M16A2 data sheet); interface: C V^2 / 4 a bit, with pins of 5 to 15 pF",
        ),
        Dram(
            "ddr3",
            "DDR3",
            "ddr3_byte",
            "x16 part",
            800e6,
            _pico(16, 12, 20),
            _pico(15, 3, 54),
            Coefficient(0.06, 0.036, 0.1),
            "array: IDD4R less IDD3N of a MT41J256M8 is 84 mA at 8.5 Gb/s (Micron data sheet JDF18C512_1Gx72AZ, "
            "table 11, divided by its parts); interface: 20 lines, from 5 pF without termination to 75 ohm to half "
            "of 1.5 V (12.7 mW each); standby: 25 mA at 1.35 V to 60 mA at 1.5 V, and refreshing",
        ),
        Dram(
            "ddr4",
            "DDR4-2400",
            "ddr4_byte",
            "x16 part",
            4.8e9,
            _pico(5, 4.1, 6.2),
            _pico(10, 4, 19),
            Coefficient(0.057, 0.038, 0.076),
            "array and standby: IDD of MT40A512M16 at 2400 MT/s, a quarter of Micron's module MTA4ATF51264AZ (data "
            "sheet, table 13: IDD4R 972, IDD3N 188, IDD5B 1,120 mA at 1.2 V); these are limits, and the lower ends "
            "are assumed to be two thirds of them; interface, lower end: lines of a x64 channel, half of them low, "
            "34 ohm to 60 ohm at 1.2 V, without a PHY; upper end: array and interface together have the 25 pJ a "
            "bit that Larimi et al. (slides of arXiv 2101.00969) give for DDRx",
        ),
        Dram(
            "hbm2",
            "HBM2",
            "hbm2_byte",
            "stack",
            230e9,
            _pico(2.4, 1.6, 3.5),
            _pico(1.2, 0.3, 3.5),
            Coefficient(1.0, 0.65, 2.0),
            "3.92 pJ a bit, of which 2.24 are data movement, 1.21 activation and 0.3 to 0.8 the interposer "
            "(O'Connor et al., MICRO 2017, as others quote it; the paper was not read); lower ends of array and "
            "standby: currents of DRAMsim3's HBM2_8Gb_x128.ini; upper ends: array and interface together have the "
            "7 pJ of Larimi et al. (slides of arXiv 2101.00969), and standby is assumed",
        ),
    )
}
"""The kinds of memory, by the names that `lutern power estimate --dram` takes."""
CHOOSES = ("port", "axi")
"""Values of ``HwConfig.memory`` with which the user chooses the kind of memory."""


def dram_of(config: HwConfig, name: str = "") -> Dram | None:
    """Return the kind of a machine's memory; None if the machine has no memory next to the chip.

    ``name`` selects the kind if the machine does not define it. Raises ``LuternError`` if ``name`` is missing in this
    case, is unknown, or contradicts the machine.
    """
    if name and name not in DRAMS:
        raise LuternError(f"there is no kind of memory {name}; choose one of {', '.join(DRAMS)}.")
    if config.source == "streamed" and config.memory in CHOOSES:
        if not name:
            raise LuternError(
                f"the memory at the ports of {config.name} is the user's, so joules of its bytes are not known; give "
                f"--dram, one of {', '.join(DRAMS)}."
            )
        return DRAMS[name]
    own = DRAMS.get(config.memory) if config.source == "streamed" else None
    if name and (own is None or own.name != name):
        has = own.title if own is not None else "no DRAM"
        raise LuternError(
            f"--dram {name} is for a machine with a port for memory, but {config.name} has {has}; leave --dram out."
        )
    return own


@dataclass(frozen=True)
class Joules:
    """Joules per token. ``transport`` is the energy of the bits that are read. ``standby`` is the energy of the idle
    parts in the time of a token."""

    byte_count: float
    tokens_per_second: float
    transport: Coefficient
    standby: Coefficient


def joules(
    model_config: ModelConfig, config: HwConfig, memory: Dram, tokens_per_second: float, streams: int = 1
) -> Joules:
    """Return the joules per token, if a pass computes ``streams`` tokens, at ``tokens_per_second`` of all streams."""
    byte_count = sizes_of(model_config, config).pass_words(streams) * config.word_bytes / streams
    transport, watts = memory.byte, memory.standby_watts(config)
    return Joules(
        byte_count,
        tokens_per_second,
        Coefficient(*(byte_count * getattr(transport, name) for name in ("value", "low", "high"))),
        Coefficient(*(getattr(watts, name) / tokens_per_second for name in ("value", "low", "high"))),
    )


__all__ = ["CHOOSES", "DRAMS", "Dram", "Joules", "dram_of", "joules"]
