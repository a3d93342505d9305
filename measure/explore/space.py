"""Lists the fields of a machine that are searched, and makes the machine of a choice.

    results = P, rows = R / P, columns = C / P, codes = Q / P (Q at most C)                    powers of 2, except rows
    memory, word, state, streams, tables, groups                                               lists of values
    depths: as many as the model needs                                                         derived
    clock: by the lanes                                                                        derived

In the machine of every choice, P divides R, C and Q, and Q divides C. Depths are multiples of 512, the depth of a block
RAM with its widest words, because a smaller depth saves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lutern.firmware.limits import state_elements, state_words
from lutern.firmware.schedule import program_sizes
from lutern.hw.config import OUTSIDE, TRITS_PER_BYTE, HwConfig
from lutern.hw.machines import Machine
from lutern.hw.presets import PRESETS
from lutern.measure.explore.target import Target
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

ROWS = (1, 2, 4, 5, 8, 10, 16, 20, 32, 40)
"""Rows of a beat for each sum that leaves in a cycle. Multiples of 5 fill the bytes, which have five trits."""
TABLES = (64, 256, 704)
"""In a resident machine, memories of up to this depth are in LUTs. With 704, all tables of the machine are in LUTs."""
GROUPS = (4, 16, 48)
BASES = {"block": "resident-25f", "ddr3": "ddr3-x16", "host": "host", "port": "stream-x64"}
"""The preset from which a machine is derived, by its memory. With SDR SDRAM the preset also depends on the word."""
DEPTH = 512
MULTIPLIERS, MULTIPLIERS_A_RESULT = 2, 14
"""Multipliers of every machine, and the additional ones for each result per cycle, if Q equals P
(measure/resources.py).
"""
LEAST_LUTS_A_LANE = 10
"""Smallest number of LUTs that a lane can have."""
DEEPEST_GAINS = 1 << 12
FOLLOWERS = ("trit_beats", "memory_words", "max_state", "codes_per_cycle")
"""Fields that hw/machines.py derives from other fields unless a machine gives them."""


@dataclass(frozen=True)
class Dimension:
    """A field that is searched, with its ``choices``. If they are ``ordered``, neighbouring choices are similar."""

    name: str
    choices: tuple[Any, ...]
    ordered: bool = True


def dimensions(target: Target, most_streams: int) -> tuple[Dimension, ...]:
    """Return the fields to choose for a target, without choices that the multipliers or LUTs of the target exclude."""
    most_results = max(1, (target.multipliers - MULTIPLIERS) // MULTIPLIERS_A_RESULT)
    most_lanes = max(1, target.luts // LEAST_LUTS_A_LANE)
    words = max(len(sizes) for _, sizes in target.words)
    outside = set(target.memories) & set(OUTSIDE)
    streams = tuple(1 << power for power in range(most_streams.bit_length()))
    found = (
        Dimension("memory", target.memories, ordered=False),
        Dimension("results", _upto((1, 2, 4, 8), most_results)),
        Dimension("rows", _upto(ROWS, most_lanes)),
        Dimension("columns", _upto((1, 2, 4, 8, 16, 32, 64), most_lanes)),
        Dimension("codes", _upto((1, 2, 4, 8, 16), target.multipliers - MULTIPLIERS)),
        Dimension("word", tuple(range(words))),
        Dimension("tables", TABLES if "block" in target.memories else TABLES[:1]),
        Dimension("groups", GROUPS),
        Dimension("streams", streams),
        Dimension("state", ("block", "memory") if outside else ("block",), ordered=False),
    )
    return tuple(dimension for dimension in found if len(dimension.choices) > 1)


def _upto(choices: tuple[int, ...], most: int) -> tuple[int, ...]:
    return tuple(choice for choice in choices if choice <= most) or choices[:1]


def machine_of(
    choice: Mapping[str, Any], target: Target, model_config: ModelConfig, embedding_bits: int
) -> tuple[Machine, HwConfig]:
    """Return the machine of a choice, as a file describes it and as it is built for the target.

    Raises ``LuternError`` for a choice that is no valid machine.
    """
    memory = choice.get("memory", target.memories[0])
    words = dict(target.words)[memory]
    results, streams = choice.get("results", 1), choice.get("streams", 1)
    rows, columns = results * choice.get("rows", 1), results * choice.get("columns", 1)
    if memory == "block":  # a beat holds a word
        words = tuple(word for word in words if word * TRITS_PER_BYTE < rows * columns + TRITS_PER_BYTE) or words[:1]
    word_bytes = words[choice.get("word", 0) % len(words)]
    base = PRESETS[BASES.get(memory) or f"sdram-x{8 * word_bytes}"]
    if memory != "block":  # a beat is made of whole words
        rows *= 1 if rows % TRITS_PER_BYTE == 0 else TRITS_PER_BYTE
        columns = max(columns, word_bytes // math.gcd(word_bytes, rows // TRITS_PER_BYTE))
    changes: dict[str, Any] = {
        "rows": rows,
        "columns": columns,
        "streams": streams,
        "results_per_cycle": results,
        "codes_per_cycle": min(columns, results * choice.get("codes", 1)),
        "word_bytes": word_bytes,
        "state": choice.get("state", "block") if memory in OUTSIDE else "block",
        "max_width": max(model_config.hidden_size, model_config.intermediate_size),
        "max_state": streams * state_elements(model_config),
        "max_vocab": model_config.vocab_size,
        "gain_fifo_groups": choice["groups"],
    }
    if memory == "block":
        changes |= {"lut_ram_depth": choice.get("tables", TABLES[0])}
    else:
        changes |= {"trit_beats": DEPTH}  # this machine has no memory of trits
    if memory != "ddr3":  # with DDR3, the machine has the clock of the board
        changes |= {"clock_hz": target.clock_for(rows * columns)}
    config = _deep_enough(base.with_(**changes), model_config, embedding_bits)
    fitted = target.fitted(config)
    named = config.with_(name=f"{base.name}-{fitted.digest[:8]}")
    given = {
        field.name: getattr(config, field.name)
        for field in fields(HwConfig)
        if field.name != "name"
        and (field.name in FOLLOWERS or getattr(config, field.name) != getattr(base, field.name))
    }
    return Machine(named, base.name, given), fitted.with_(name=named.name)


def _deep_enough(config: HwConfig, model_config: ModelConfig, embedding_bits: int) -> HwConfig:
    """Return the machine with memories deep enough for the trits, words and gains of the model."""
    while True:
        try:
            sizes = program_sizes(model_config, config, embedding_bits)
            break
        except LuternError:
            if config.gain_fifo_words >= DEEPEST_GAINS:
                raise
            config = config.with_(gain_fifo_words=2 * config.gain_fifo_words)
    if config.memory == "host":
        return config
    if config.source == "resident":
        return config.with_(trit_beats=_rounded(sizes.beats), memory_words=_rounded(sizes.words))
    if config.memory == "port":
        needed = sizes.words + config.streams * state_words(model_config, config)
        return config.with_(memory_words=_rounded(needed))
    return config  # a memory part of the board, whose size is known


def _rounded(depth: int) -> int:
    return -(-depth // DEPTH) * DEPTH


__all__ = ["Dimension", "dimensions", "machine_of"]
