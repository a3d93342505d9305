"""What a machine takes of an ECP5, from its description alone: a formula fitted to machines that were synthesised.

    LUT, FF    = sum of coefficient * term         terms of ``TERMS``
    block RAM  = memories of trits and words as the part's blocks hold them + coefficients * the smaller ones
    multipliers = 14 P + Q + 2, with weights from the host one less: scale 1, glu 3, mlgru 4, norm 5, head 1 of each P

LUT are places of logic before placement (`comb` of `lutern cost chip`). The coefficients are those of relative least
squares over the rows of ``resources.json`` that are presets or are there to be fitted to; ``errors`` compares with the
rows that are not. Cost: milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lutern.hw.config import HwConfig
from lutern.hw.mlgru import ELEMENT_BITS, Z_BITS
from lutern.measure import samples
from lutern.measure.samples import Row

TERMS: dict[str, Callable[[HwConfig], float]] = {
    "1": lambda c: 1.0,
    "lanes x streams": lambda c: c.lanes * c.tokens,
    "lanes": lambda c: c.lanes,
    "results a cycle": lambda c: c.results_per_cycle,
    "codes a cycle": lambda c: c.codes_per_cycle,
    "streams": lambda c: c.tokens - 1,
    "word bits": lambda c: c.word_bits,
    "memories of LUTs": lambda c: c.lut_ram_depth,
    "SDRAM": lambda c: c.memory == "sdram",
    "host": lambda c: c.memory == "host",
}
BLOCK_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words and bits that a DP16KD holds."""
LUT_MEMORY = 63
"""Words up to which the synthesis takes LUTs in any case."""


@dataclass(frozen=True)
class Resources:
    """LUT, FF, block RAM and multipliers of a whole chip behind a serial line."""

    luts: float
    ff: float
    block_rams: float
    multipliers: int


@dataclass(frozen=True)
class Errors:
    """Largest errors over machines: of LUT and FF as shares, of block RAM in blocks."""

    machines: int
    luts: float
    ff: float
    block_rams: float


def blocks(words: int, bits: int) -> int:
    """Block RAMs of a memory."""
    return min(-(-bits // wide) * -(-words // deep) for deep, wide in BLOCK_SHAPES)


def _large_memories(config: HwConfig) -> int:
    """Block RAMs of trits and words."""
    if config.memory != "block":
        return 0
    trits = blocks(config.trit_beats, config.beat_bits) if config.source == "resident" else 0
    return trits + blocks(config.memory_words, config.word_bits)


def _small_memories(config: HwConfig) -> list[float]:
    """Terms of the rest: block RAMs of state, h, z, gates, u, codes, logits and FIFOs as each would be alone; tables by
    P; and whether streams keep copies."""
    results, codes, streams = config.results_per_cycle, config.codes_per_cycle, config.tokens
    limit = max(LUT_MEMORY, config.lut_ram_depth)

    def of(words: int, bits: int) -> int:
        return 0 if words <= limit else blocks(words, bits)

    beats = config.max_width * streams // results
    listed = (
        of(config.max_state // results, 32 * results)
        + of(beats, 32 * results) + of(beats, Z_BITS * results) + of(beats, ELEMENT_BITS * results)
        + codes // results * of(config.max_width * streams // codes, 72 * results)
        + of(2 * config.max_width // config.columns, 8 * config.columns * streams)
        + (of(config.max_vocab * streams // results, 21 * results) if not config.top_k else 0)
        + (of(config.trit_fifo_words, config.word_bits) if config.source == "stream" else 0)
        + of(config.gain_fifo_words, config.word_bits)
    )
    return [1.0, listed, *((0, 0) if config.lut_ram_depth > LUT_MEMORY + 1 else (results, float(streams > 1)))]


def _logic(config: HwConfig) -> list[float]:
    return [term(config) for term in TERMS.values()]


def _solve(
    terms: NDArray[np.float64], wanted: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(np.linalg.lstsq(terms * weights[:, None], wanted * weights, rcond=None)[0])


@cache
def coefficients() -> dict[str, NDArray[np.float64]]:
    """Of LUT, FF and block RAM."""
    rows = [row for row in samples.read() if row.use != "check"]
    logic = np.array([_logic(row.config) for row in rows])
    luts, ff = np.array([row.comb for row in rows], float), np.array([row.ff for row in rows], float)
    rest = np.array([row.block_rams - _large_memories(row.config) for row in rows], float)
    small = np.array([_small_memories(row.config) for row in rows], float)
    return {"luts": _solve(logic, luts, 1 / luts), "ff": _solve(logic, ff, 1 / ff),
            "block_rams": _solve(small, rest, np.ones(len(rows)))}


def resources(config: HwConfig) -> Resources:
    """Of a machine."""
    found = coefficients()
    small = max(0.0, float(np.dot(_small_memories(config), found["block_rams"])))
    return Resources(
        float(np.dot(_logic(config), found["luts"])), float(np.dot(_logic(config), found["ff"])),
        _large_memories(config) + small,
        14 * config.results_per_cycle + config.codes_per_cycle + (1 if config.memory == "host" else 2),
    )


def errors(use: str) -> Errors:
    """Largest errors over the rows of a use."""
    pairs: list[tuple[Row, Resources]] = [(row, resources(row.config)) for row in samples.read() if row.use == use]
    return Errors(
        len(pairs), max(abs(found.luts / row.comb - 1) for row, found in pairs),
        max(abs(found.ff / row.ff - 1) for row, found in pairs),
        max(abs(found.block_rams - row.block_rams) for row, found in pairs),
    )
