"""Estimates the resources of a machine on an ECP5 from its description.

    block RAM   = sum over its memories (memories.py)                 exact
    multipliers = 13 P + Q + 2, one less if the host sends weights. The 13 P: scale 1, glu 2, mlgru 3, sigmoid 1,
                  norm 5, head 1
    LUT, FF     = sum of coefficient * term                           terms of ``TERMS``, fitted to synthesised machines
    LUT placed  = LUT * ``packing()``                                 what a build reports

LUTs are places of logic before placement (`comb` of `lutern cost chip`). The coefficients minimise the relative squared
error over the rows of ``resources.json`` that are presets or samples for the fit. ``errors`` compares estimates with
the rows of each use. An estimate takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lutern.hw.config import HwConfig
from lutern.hw.memory.trit_parts import BANK_BEATS
from lutern.measure import samples
from lutern.measure.memories import chip_memories

TERMS: dict[str, Callable[[HwConfig], float]] = {
    "1": lambda c: 1.0,
    "lanes": lambda c: c.lanes,
    "lanes x further streams": lambda c: c.lanes * (c.streams - 1),
    "results a cycle": lambda c: c.results_per_cycle,
    "codes a cycle": lambda c: c.codes_per_cycle,
    "further streams": lambda c: c.streams - 1,
    "word bits": lambda c: c.word_bits,
    "distributed RAMs": lambda c: sum(memory.distributed_rams for memory in chip_memories(c)),
    "bits of tables of LUTs": lambda c: sum(memory.table_bits for memory in chip_memories(c)),
    "bits of banks": lambda c: -(-c.trit_beats // BANK_BEATS) * c.beat_bits * (c.source == "resident"),
    "SDRAM": lambda c: c.memory == "sdram",
    "DDR3": lambda c: c.memory == "ddr3",
    "state in memory": lambda c: c.state == "memory",
    "host": lambda c: c.memory == "host",
}


@dataclass(frozen=True)
class Resources:
    """LUT, FF, block RAM and multipliers of a chip with a serial line. ``placed_luts`` is LUT as a build reports it."""

    luts: float
    placed_luts: float
    ff: float
    block_rams: int
    multipliers: int


@dataclass(frozen=True)
class Errors:
    """Largest relative errors over ``machines`` machines.

    ``luts`` and ``ff`` are the errors after synthesis. ``placed_luts`` is the error of LUT after packing, which is
    known for ``packed`` machines.
    """

    machines: int
    luts: float
    ff: float
    packed: int
    placed_luts: float


def _logic(config: HwConfig) -> list[float]:
    return [term(config) for term in TERMS.values()]


def _solve(terms: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(terms / wanted[:, None], np.ones(len(wanted)), rcond=None)[0])


def fit(rows: list[samples.Row]) -> dict[str, NDArray[np.float64]]:
    """Return the coefficients of LUT and FF, by relative least squares."""
    logic = np.array([_logic(row.config) for row in rows], float)
    return {
        "luts": _solve(logic, np.array([row.comb for row in rows], float)),
        "ff": _solve(logic, np.array([row.ff for row in rows], float)),
    }


def predict(fitted: NDArray[np.float64], config: HwConfig) -> float:
    """Return the sum of coefficients times terms."""
    return float(np.dot(_logic(config), fitted))


@cache
def coefficients() -> dict[str, NDArray[np.float64]]:
    """Return the coefficients of LUT and FF, fitted to the rows that are not reserved for checks."""
    return fit([row for row in samples.read() if row.use != "check"])


@cache
def packing() -> float:
    """Return the ratio of LUT after packing by nextpnr to LUT after synthesis: the median over the rows that
    have both figures."""
    return float(np.median([row.placed / row.comb for row in samples.read() if row.placed]))


def resources(config: HwConfig) -> Resources:
    """Estimate the resources of a machine."""
    luts = predict(coefficients()["luts"], config)
    return Resources(
        luts,
        luts * packing(),
        predict(coefficients()["ff"], config),
        sum(memory.blocks for memory in chip_memories(config)),
        13 * config.results_per_cycle + config.codes_per_cycle + (1 if config.memory == "host" else 2),
    )


@cache
def errors(use: str) -> Errors:
    """Return the largest errors over the rows of one ``use``: "preset", "fit" or "check"."""
    pairs = [(row, resources(row.config)) for row in samples.read() if row.use == use]
    placed = [abs(found.placed_luts / row.placed - 1) for row, found in pairs if row.placed]
    return Errors(
        len(pairs),
        max(abs(found.luts / row.comb - 1) for row, found in pairs),
        max(abs(found.ff / row.ff - 1) for row, found in pairs),
        len(placed),
        max(placed, default=0.0),
    )
