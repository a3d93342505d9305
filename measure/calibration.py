"""Coefficients that convert counted activity into watts: the file with the coefficients, and their fit to readings.

    watts = static + sum(coefficient * activity per second)         Coefficient: value, low, high, in joules per event

A file names its part, source and date. Lutern's own calibration for ECP5 is not measured. It contains bounds and their
sources, because no coefficients are published. ``fit`` computes a calibration by least squares from a user's readings
of designs whose activity is known. The intervals of 95 % come from resampled residuals.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lutern.measure.tables import number, read_table
from lutern.model_ref.errors import LuternError, named, quoted
from lutern.model_ref.file_kinds import read_json
from lutern.model_ref.output_files import write_whole

SHIPPED = Path(__file__).with_name("ecp5_bounds.json")
EVENTS = {
    "net_toggle": "a net of logic changes once",
    "register_clock": "a flip-flop sees a rising edge",
    "block_ram_access": "a block RAM reads or writes a word",
    "memory_byte": "a byte is read from SDR SDRAM; pins and the whole part are included",
    "ddr3_byte": "a byte is read from DDR3; pins and their termination are included, standby and refreshing are not",
    "ddr4_byte": "a byte is read from DDR4, or written to it",
    "hbm2_byte": "a byte is read from HBM2, or written to it",
}
"""Events that can have a coefficient. For the bytes of a memory, measure/dram.py has default coefficients."""
STATIC = "static_watts"
SAMPLES = 2000
SEED = 1
MOST_CONDITION = 1e6
"""Largest condition number, with columns scaled to 1. Above it, two of the activities cannot be distinguished."""


MAX_BYTES = 1 << 20
MAX_TEXT = 1000
LARGEST = 1e6
"""Largest coefficient, in joules or watts."""
MOST_EVENTS = 1e18
MOST_READINGS = 10_000
"""Largest number of readings in a file, because the fit is repeated for many resamples, which are all in memory."""
_MENDED = "make one: lutern power calibrate READINGS.csv"


@dataclass(frozen=True)
class Coefficient:
    """Joules per event (watts for ``static_watts``), with the interval from ``low`` to ``high``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """The coefficients of one part, by event."""

    part: str
    source: str
    date: str
    coefficients: dict[str, Coefficient]

    def require(self, part: str) -> None:
        """Raise ``LuternError`` if this file is for another part. A file for the part "ECP5" is for all parts."""
        if self.part not in (part, "ECP5"):
            raise LuternError(f"the calibration is of {self.part}, but the chip is {part}; give a file for that part.")

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON."""
        write_whole(Path(path), json.dumps(asdict(self), indent=1) + "\n")


def load(path: str | Path = SHIPPED) -> Calibration:
    """Read a calibration file; raise ``LuternError`` if the file is not a calibration."""
    path = Path(path)
    try:
        values = read_json(path, MAX_BYTES, "calibration file")
        coefficients = {
            name: Coefficient(*(float(item[key]) for key in ("value", "low", "high")))
            for name, item in values["coefficients"].items()
        }
        texts = [values[key] for key in ("part", "source", "date")]
    except OSError as error:
        raise LuternError(f"the calibration {path} cannot be read ({error.strerror}); give another file.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise LuternError(f"{path} is no calibration file; {_MENDED}") from None
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
            raise LuternError(f"{path}: part, source and date must be short texts, not {quoted(text)}; {_MENDED}")
    if not any(name in EVENTS for name in coefficients):
        raise LuternError(f"{path} has no coefficient of {', '.join(EVENTS)}; {_MENDED}")
    for name, item in coefficients.items():
        _check(path, name, item)
    part, source, date = texts
    return Calibration(part, source, date, coefficients)


def _check(path: Path, name: str, item: Coefficient) -> None:
    """Refuse a coefficient that no chip can have. The interval of a coefficient near 0 may begin below 0."""
    if name not in (*EVENTS, STATIC) or not item.low <= item.value <= item.high:
        raise LuternError(f"{path}: the coefficient {named(name)} is unknown or not within its interval; {_MENDED}")
    if item.value < 0 or max(-item.low, item.high) > LARGEST:
        raise LuternError(
            f"{path}: the coefficient {name} is {item.value:g} ({item.low:g} to {item.high:g}), but must be a number "
            f"from 0 to {LARGEST:g}; {_MENDED}"
        )


@dataclass(frozen=True)
class Reading:
    """Measured watts of a design whose activity (events per second) is known."""

    design: str
    activity: dict[str, float]
    watts: float


def read_readings(path: str | Path) -> list[Reading]:
    """Read a CSV with one reading per row: ``design``, ``watts``, and for each event a column of events per second.

    Events that do not occur need no column. Raises ``LuternError`` for any other content.
    """
    path = Path(path)
    rows = read_table(path, "CSV with columns design and watts")
    places = {heading: place for place, heading in enumerate(next(rows, []))}
    if places:
        missing = [name for name in ("design", "watts") if name not in places]
        if missing:
            raise LuternError(
                f"{path} has no column {missing[0]}; give design, watts and columns of {', '.join(EVENTS)}."
            )
    found = []
    for count, row in enumerate(rows, 1):
        fields = {name: row[place] if place < len(row) else "" for name, place in places.items()}
        where = f"{path}: reading {count}"
        activity = {name: number(fields.get(name) or "0", where, 0, MOST_EVENTS) for name in EVENTS}
        found.append(Reading(named(fields["design"]), activity, number(fields["watts"], where, 0, LARGEST)))
        if len(found) > MOST_READINGS:
            raise LuternError(f"{path} holds more than {MOST_READINGS} readings; give the mean of each run.")
    if not found:
        raise LuternError(f"{path} holds no readings; give one row per reading, with columns design, watts and events.")
    return found


def fit(part: str, readings: list[Reading], source: str, date: str) -> Calibration:
    """Fit coefficients to readings by least squares; events that no design has are left out.

    Raises ``LuternError`` if there are too few readings, or if they do not determine the coefficients.
    """
    events = [name for name in EVENTS if any(reading.activity[name] for reading in readings)]
    columns = np.array([[1.0, *(reading.activity[name] for name in events)] for reading in readings])
    watts = np.array([reading.watts for reading in readings])
    if len(readings) < 2 * columns.shape[1]:
        raise LuternError(
            f"{len(readings)} readings are too few for {columns.shape[1]} coefficients with intervals; give at least "
            f"{2 * columns.shape[1]}."
        )
    scale = np.abs(columns).max(axis=0)
    if np.linalg.cond(columns / scale) > MOST_CONDITION:
        raise LuternError(
            "two activities rise and fall together in all readings, so their coefficients cannot be told "
            "apart; measure a design that has only one of them."
        )
    found = _solve(columns / scale, watts)
    residuals = watts - columns / scale @ found
    freedom = (len(watts) / (len(watts) - columns.shape[1])) ** 0.5
    random = np.random.default_rng(SEED)
    drawn = np.array(
        [
            _solve(columns / scale, columns / scale @ found + freedom * random.choice(residuals, len(watts)))
            for _ in range(SAMPLES)
        ]
    )
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    names = (STATIC, *events)
    values = {
        name: Coefficient(
            float(found[i] / scale[i]),
            float(min(low[i], found[i]) / scale[i]),
            float(max(high[i], found[i]) / scale[i]),
        )
        for i, name in enumerate(names)
    }
    for name, item in values.items():
        if item.value < 0:
            raise LuternError(
                f"the readings give {name} the coefficient {item.value:.3g}, which no chip has; measure longer or with "
                "more activity."
            )
    return Calibration(part, source, date, values)


def _solve(columns: NDArray[np.float64], watts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(columns, watts, rcond=None)[0])
