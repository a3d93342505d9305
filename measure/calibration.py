"""Coefficients that turn counted activity into watts: a file, and the fit that makes one from readings.

    watts = static + sum(coefficient * activity a second)           Coefficient: value, low, high; joules an event

A file names its part, source and date. The one that is shipped for ECP5 is not measured: nobody has published any
coefficients, so it holds bounds, and its source says whence. ``fit`` makes one from a user's readings of designs whose
activity is known: least squares, intervals of 95 % from resampled readings.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lutern.model_ref.errors import LuternError

SHIPPED = Path(__file__).with_name("ecp5_bounds.json")
EVENTS = {
    "net_toggle": "a net of logic changes once",
    "register_clock": "a flip-flop sees a rising edge",
    "block_ram_access": "a block RAM reads or writes a word",
    "memory_byte": "a byte is read from memory outside of the chip, pins and memory included",
}
STATIC = "static_watts"
SAMPLES = 2000
SEED = 1
MOST_CONDITION = 1e6
"""Of the columns scaled to 1: beyond, two of the activities cannot be told apart."""


@dataclass(frozen=True)
class Coefficient:
    """Joules of an event (watts, of ``static_watts``), and the interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Coefficients of one part."""

    part: str
    source: str
    date: str
    coefficients: dict[str, Coefficient]

    def require(self, part: str) -> None:
        """Refuse a file for another part; "ECP5" is any of them."""
        if self.part not in (part, "ECP5"):
            raise LuternError(f"the calibration is of {self.part}, but the chip is {part}; give a file for that part.")

    def save(self, path: str | Path) -> None:
        """As JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: str | Path = SHIPPED) -> Calibration:
    """A calibration file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        coefficients = {
            name: Coefficient(*(float(item[key]) for key in ("value", "low", "high")))
            for name, item in values["coefficients"].items()
        }
        found = Calibration(str(values["part"]), str(values["source"]), str(values["date"]), coefficients)
    except OSError as error:
        raise LuternError(f"the calibration {path} cannot be read ({error.strerror}); give another file.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LuternError(f"{path} is no calibration file; make one: lutern power --calibrate READINGS.csv") from None
    for name, item in coefficients.items():
        if name not in (*EVENTS, STATIC) or not item.low <= item.value <= item.high:
            raise LuternError(
                f"{path}: the coefficient {name} is unknown or not within its interval; make the file again."
            )
    return found


@dataclass(frozen=True)
class Reading:
    """Watts of a design whose activity (events a second) is known."""

    design: str
    activity: dict[str, float]
    watts: float


def read_readings(path: str | Path) -> list[Reading]:
    """A CSV with a row a reading: ``design``, ``watts``, and a column of events a second for each event that occurs."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise LuternError(f"{path} cannot be read ({error}); give a CSV with columns design and watts.") from None
    if not rows:
        raise LuternError(f"{path} holds no readings; give a row a reading, with columns design, watts and events.")
    missing = [name for name in ("design", "watts") if name not in rows[0]]
    if missing:
        raise LuternError(f"{path} has no column {missing[0]}; give design, watts and those of {', '.join(EVENTS)}.")
    try:
        return [
            Reading(row["design"], {name: float(row.get(name) or 0) for name in EVENTS}, float(row["watts"]))
            for row in rows
        ]
    except (TypeError, ValueError) as error:
        raise LuternError(f"{path} holds something that is no number ({error}); leave that row out.") from None


def fit(part: str, readings: list[Reading], source: str, date: str) -> Calibration:
    """Least squares of all readings; events that no design has are left out."""
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
            "apart; measure a design that has one without the other."
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
    return Calibration(part, source, date, values)


def _solve(columns: NDArray[np.float64], watts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(columns, watts, rcond=None)[0])
