"""Reads a power meter, and computes the joules per token from its readings.

    hwmon (ina2xx driver) ─┐
    I2C (INA219, INA226) ──┼─► Log(seconds, watts) ─► idle, loaded ─► (W loaded - W idle) * seconds / tokens ± interval
    any CSV ───────────────┘

INA219 and INA226 are read without their calibration register, as bus voltage x shunt voltage / shunt resistance.
Data sheets: SBOS448 (INA219: bus 4 mV in bits 15..3, shunt 10 uV), SBOS547 (INA226: bus 1.25 mV, shunt 2.5 uV).

Intervals of 95 % are bootstrapped, with a seed, over blocks of readings, because neighbouring readings are similar.
"""

from __future__ import annotations

import fcntl
import os
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lutern.measure.tables import listed, number, read_table
from lutern.model_ref.errors import LuternError

HWMON = Path("/sys/class/hwmon")
COLUMNS = {"time": ("time", "seconds", "time_s", "t"), "watts": ("watts", "power_w", "power", "w")}
CHIPS = {"ina219": (4e-3, 3, 10e-6), "ina226": (1.25e-3, 0, 2.5e-6)}
"""For each chip: volts per step of the bus register, its number of unused low bits, volts per step of the shunt."""
_I2C_SLAVE = 0x0703  # linux/i2c-dev.h
SAMPLES = 2000
SEED = 1
SECONDS, WATTS = (-1e12, 1e12), (0.0, 1e6)
"""Bounds of a log's readings. A board does not return power, so negative watts mean that the shunt is reversed."""
FEWEST = 8
"""Smallest number of readings for which an interval is given."""


@dataclass(frozen=True)
class Log:
    """Readings in order of time: seconds and watts."""

    name: str
    seconds: NDArray[np.float64]
    watts: NDArray[np.float64]

    @property
    def duration(self) -> float:
        """Seconds from the first reading to the last."""
        return float(self.seconds[-1] - self.seconds[0])


@dataclass(frozen=True)
class Interval:
    """A value and its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """Watts of the idle and the loaded board, and joules per token. ``joules`` is the energy above the idle board's,
    ``joules_total`` is the whole energy that the meter measures."""

    idle: Interval
    loaded: Interval
    joules: Interval
    joules_total: Interval


def checked(name: str, seconds: NDArray[np.float64], watts: NDArray[np.float64]) -> Log:
    """Return a log; raise ``LuternError`` if it has too few readings, or if they are not in order of time."""
    if len(seconds) < FEWEST:
        raise LuternError(
            f"{name} has {len(seconds)} readings, but an interval needs at least {FEWEST}; measure longer."
        )
    log = Log(name, seconds, watts)
    if not (np.diff(log.seconds) > 0).all():
        place = int(np.argmin(np.diff(log.seconds) > 0)) + 1
        raise LuternError(f"{name}: reading {place + 1} is not later than the one before; sort the log by time.")
    return log


def read_csv(path: str | Path) -> Log:
    """Read a log with columns for time (seconds) and watts. Other columns are ignored.

    Raises ``LuternError`` if a column is missing or a field is no number.
    """
    path = Path(path)
    rows = read_table(path, "log with columns time and watts")
    headings = next(rows, [])
    places = []
    for wanted, spellings in COLUMNS.items():
        found = [place for place, heading in enumerate(headings) if heading.strip().lower() in spellings]
        if not found:
            raise LuternError(
                f"{path} has the columns {listed(headings) or 'of no reading'}, but none for {wanted}; "
                f"name one of them {' or '.join(spellings[:2])}."
            )
        places.append(found[0])
    values = array("d"), array("d")
    for count, row in enumerate(rows, 1):
        where = f"{path}: reading {count}"
        for place, kept, (least, most) in zip(places, values, (SECONDS, WATTS), strict=True):
            kept.append(number(row[place] if place < len(row) else "", where, least, most))
    return checked(str(path), *(np.frombuffer(kept or array("d")) for kept in values))


def hwmon_reader(root: Path = HWMON) -> Callable[[], float]:
    """Return a function that reads watts from the first INA219 or INA226 that Linux lists. Raise ``LuternError`` if
    there is none."""
    for folder in sorted(root.glob("hwmon*")):
        name = folder / "name"
        if name.exists() and name.read_text().strip() in CHIPS and (folder / "power1_input").exists():
            return lambda path=folder / "power1_input": int(path.read_text()) * 1e-6  # type: ignore[misc]
    raise LuternError(
        f"no INA219 or INA226 is in {root}; load the driver ina2xx, or give the chip as i2c:BUS:ADDRESS:CHIP:OHM."
    )


def ina_watts(chip: str, bus: int, shunt: int, ohm: float) -> float:
    """Return the watts from the two 16-bit registers of a chip; ``ohm`` is the shunt's resistance."""
    bus_step, unused, shunt_step = CHIPS[chip]
    signed = shunt - 0x10000 if shunt & 0x8000 else shunt
    return (bus >> unused) * bus_step * signed * shunt_step / ohm


def i2c_reader(text: str) -> Callable[[], float]:
    """Return a function that reads the watts of a chip on an I2C bus, from ``BUS:ADDRESS:CHIP:OHM``, for
    example ``1:0x40:ina226:0.1``.

    Raises ``LuternError`` if the text is not understood or the bus cannot be opened.
    """
    try:
        number, address, chip, ohm_text = text.split(":")
        bus, place, ohm = int(number), int(address, 0), float(ohm_text)
        if chip not in CHIPS or ohm <= 0 or not 3 <= place <= 0x77:
            raise ValueError
    except ValueError:
        raise LuternError(
            f"the meter i2c:{text} is not understood; give i2c:BUS:ADDRESS:CHIP:OHM, as "
            f"i2c:1:0x40:ina226:0.1, with a chip of {', '.join(CHIPS)}."
        ) from None
    try:
        device = os.open(f"/dev/i2c-{bus}", os.O_RDWR)
        fcntl.ioctl(device, _I2C_SLAVE, place)
    except OSError as error:
        raise LuternError(
            f"the meter at i2c:{text} cannot be opened ({error.strerror}); check bus, address and rights."
        ) from None

    def register(index: int) -> int:
        os.write(device, bytes([index]))
        return int.from_bytes(os.read(device, 2), "big")

    return lambda: ina_watts(chip, register(2), register(1), ohm)


def open_meter(text: str) -> Callable[[], float]:
    """Return a function that reads watts from ``hwmon`` or ``i2c:BUS:ADDRESS:CHIP:OHM``; else raise ``LuternError``."""
    if text == "hwmon":
        return hwmon_reader()
    if text.startswith("i2c:"):
        return i2c_reader(text.removeprefix("i2c:"))
    raise LuternError(f"there is no meter {text}; give hwmon, or i2c:BUS:ADDRESS:CHIP:OHM.")


def sample(read: Callable[[], float], rate_hz: float, busy: Callable[[], bool]) -> Iterator[tuple[float, float]]:
    """Yield (seconds, watts) while ``busy``; raise ``LuternError`` if the meter stops answering."""
    start = time.monotonic()
    count = 0
    while busy():
        try:
            watts = read()
        except (OSError, ValueError) as error:
            raise LuternError(
                f"the meter stopped answering after {count} readings ({error}); check its cable and measure again."
            ) from None
        yield time.monotonic() - start, watts
        count += 1
        time.sleep(max(0.0, start + count / rate_hz - time.monotonic()))


def _means(watts: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return the mean watts of resampled logs. A block has as many readings as the square root of their number."""
    size = max(1, round(len(watts) ** 0.5))
    starts = random.integers(0, len(watts) - size + 1, (SAMPLES, -(-len(watts) // size)))
    return np.asarray(watts[starts[..., None] + np.arange(size)].mean(axis=(1, 2)))


def _interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def joules_per_token(idle: Log, loaded: Log, tokens: int) -> Measured:
    """Return the joules per token, from a log of the idle board and a log of the run that chose ``tokens`` tokens.

    Raises ``LuternError`` if the run chose no token.
    """
    if tokens < 1:
        raise LuternError(f"the run made {tokens} tokens, so there are no joules per token; let it run longer.")
    random = np.random.default_rng(SEED)
    idles, loads = _means(idle.watts, random), _means(loaded.watts, random)
    idle_watts, loaded_watts = float(idle.watts.mean()), float(loaded.watts.mean())
    seconds = loaded.duration / tokens
    return Measured(
        _interval(idle_watts, idles),
        _interval(loaded_watts, loads),
        _interval((loaded_watts - idle_watts) * seconds, (loads - idles) * seconds),
        _interval(loaded_watts * seconds, loads * seconds),
    )
