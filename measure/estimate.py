"""Estimates a machine with a model without simulation or synthesis: cycles, bytes, tokens/s, resources.

    ModelConfig, HwConfig ─► cycle model ───────────────────► cycles          as the RTL counts; DRAM: word_rate.py
                         ├─► sizes of the program ──────────► bytes, bound    exact
                         ├─► memories, one by one ──────────► block RAM       exact
                         └─► formula of ``resources.py`` ───► LUT, FF

    ModelConfig, Device ──► max(bytes / bandwidth, trits / (lanes x clock)) + barriers      any memory and any lanes

The estimate takes as long as the cycle model: a fifth of a second for the demo, seconds for the released models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lutern.firmware.host_weights import LINE_BITS
from lutern.firmware.limits import check_fit, sizes_of
from lutern.firmware.schedule import program_sizes
from lutern.hw.config import TRITS_PER_BYTE, HwConfig
from lutern.measure.cycles import token_cycles
from lutern.measure.resources import Resources, resources
from lutern.measure.word_rate import mean_word_hz, pass_cycles, peak_word_hz
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.quantise import vectors_of

BARRIER_CYCLES = 60
"""Cycles from the last beat of a vector to the first beat of the next vector, at 1,024 lanes (docs/engine.md,
"Cycles")."""
TRIT_SHARE = 0.98
"""Fraction of the read bytes that contain trits, for widths from 1,024 on, as `lutern bench` measures it with the
random model."""

NO_GAIN = 0.0005
"""If more lanes gain less than this fraction of the speed, no gain is reported, because it would print as 0.0 %."""
MEMORY_BOUND = 0.95
"""If a machine takes a smaller fraction of the words that its memory can return, it waits for something other than the
memory.
"""


@dataclass(frozen=True)
class Estimate:
    """The estimate of a pass of ``streams`` tokens. All speeds are tokens/s of all streams together.

    ``cycles`` is None if the link limits the speed. ``bound`` is the speed that the lanes allow if trits are resident,
    else the speed that the bytes of the memory or of the line allow. ``refreshed`` is the bound that remains if a DRAM
    also refreshes.
    """

    cycles: int | None
    bytes_read: int
    trits: int
    streams: int
    tokens_per_second: float
    bound: float
    refreshed: float
    resources: Resources

    @property
    def share(self) -> float:
        """``tokens_per_second`` divided by the bound."""
        return self.tokens_per_second / self.bound

    @property
    def trit_share(self) -> float:
        """Fraction of the read bytes that contain trits of the model."""
        return self.trits / (TRITS_PER_BYTE * self.bytes_read)


def estimate(
    model_config: ModelConfig,
    hw_config: HwConfig,
    *,
    streams: int = 1,
    baud: int,
    embedding_bits: int = WIDE_BITS,
    share: float = 1.0,
) -> Estimate:
    """Estimate a model on a machine.

    ``baud`` is the baud rate of the link, which limits the speed if the host sends the weights. ``share`` is the mean
    number of words that a memory at a port returns per cycle. Raises ``LuternError`` if the model does not fit the
    machine.
    """
    check_fit(model_config, hw_config, embedding_bits)
    sizes = program_sizes(model_config, hw_config, embedding_bits)
    words = sizes.pass_words(streams)
    bytes_read = words * hw_config.word_bytes + sizes.trit_beats * hw_config.beat_bytes
    found = resources(hw_config)
    if hw_config.memory == "host":
        bound = streams * baud / LINE_BITS / bytes_read
        return Estimate(None, bytes_read, model_config.trits, streams, bound, bound, bound, found)
    cycles = token_cycles(model_config, hw_config, streams, embedding_bits=embedding_bits).cycles
    if hw_config.source == "resident":
        bound = refreshed = hw_config.lanes * hw_config.clock_hz / model_config.trits
    else:
        cycles = pass_cycles(hw_config, cycles, words, share)
        bound, refreshed = peak_word_hz(hw_config) / words, mean_word_hz(hw_config, share) / words
    rate, bound, refreshed = (streams * one for one in (hw_config.clock_hz / cycles, bound, refreshed))
    return Estimate(cycles, bytes_read, model_config.trits, streams, rate, bound, refreshed, found)


def lane_use(hw_config: HwConfig, found: Estimate) -> float:
    """Return the fraction of the time in which the lanes of a machine work on trits."""
    return found.trits * found.tokens_per_second / found.streams / (hw_config.lanes * hw_config.clock_hz)


def limit_sentence(model_config: ModelConfig, hw_config: HwConfig, found: Estimate) -> str:
    """Return a sentence that says what limits a machine, in what fraction of the time, and the gain of more lanes."""
    used = f"{lane_use(hw_config, found):.1%}"
    if hw_config.source == "resident":
        return f"The lanes are the limit: they work in {used} of the cycles; in the others they wait for codes."
    if hw_config.memory == "host":
        return f"The line is the limit: the lanes work in {used} of the cycles, and more lanes would give nothing."
    if found.tokens_per_second < MEMORY_BOUND * found.refreshed:
        return f"{_other_limit(model_config, hw_config, found)}; the lanes work in {used}."
    twice = hw_config.with_(columns=2 * hw_config.columns)
    fewer = _words(model_config, hw_config, found.streams) / _words(model_config, twice, found.streams)  # less padding
    gain = fewer * found.refreshed / found.tokens_per_second - 1
    slots = "its slots" if hw_config.memory == "ddr3" else "the cycles"
    more = "nothing" if gain < NO_GAIN else f"at most {gain:.1%}"
    return (
        f"The memory is the limit: words come in {found.share:.1%} of {slots}, the lanes work in "
        f"{used}; twice as many lanes would give {more}."
    )


def _other_limit(model_config: ModelConfig, hw_config: HwConfig, found: Estimate) -> str:
    """Return a clause that says what limits a machine that does not take all words that its memory could give."""
    leave = math.ceil(hw_config.rows * found.streams / hw_config.results_per_cycle)
    beats = math.ceil(model_config.hidden_size / hw_config.columns)
    takes = f"words are taken in {found.share:.1%} of the cycles"
    if leave > beats:
        return (
            f"The sums are the limit: the sums of a row group leave in {leave} cycles at results_per_cycle "
            f"{hw_config.results_per_cycle}, but the trits of the shortest row group take {beats} beats, so {takes}"
        )
    return f"Barriers are the limit: the lanes wait for codes of new vectors, so {takes}"


def _words(model_config: ModelConfig, hw_config: HwConfig, streams: int) -> int:
    """Return the number of words that a pass reads."""
    sizes = sizes_of(model_config, hw_config)
    return sizes.record_words + streams * sizes.row_words


@dataclass(frozen=True)
class Device:
    """A chip for which no machine has been built, with the ``bandwidth`` of its memory in bytes/s.

    ``lanes`` is the number of lanes that the memory can feed at 1.6 bits per trit and ``clock_hz``. These lanes fill
    only a fraction of the chip.
    """

    name: str
    bandwidth: float
    lanes: int
    clock_hz: float
    source: str


DEVICES = (
    Device("Stratix 10 (D5005)", 76.8e9, 2048, 200e6, "four channels of DDR4-2400, Intel D5005 data sheet"),
    Device("Alveo U250", 77e9, 1280, 300e6, "four channels of DDR4-2400, AMD DS962"),
    Device("Alveo U280", 460e9, 7680, 300e6, "HBM2, AMD DS963"),
)
"""Lanes times clock times 1.6 bits equal the bandwidth of the memory, or a little more."""


def device_tokens_per_second(model_config: ModelConfig, device: Device) -> float:
    """Estimate the tokens/s of one stream. The times of memory and lanes overlap, and barriers add to them."""
    bytes_read = model_config.trits / TRITS_PER_BYTE / TRIT_SHARE
    barriers = len(vectors_of(model_config)) + 1  # one wait for each vector, one for the choice of the token
    seconds = max(bytes_read / device.bandwidth, model_config.trits / (device.lanes * device.clock_hz))
    return 1 / (seconds + barriers * BARRIER_CYCLES / device.clock_hz)


__all__ = ["DEVICES", "Device", "Estimate", "device_tokens_per_second", "estimate", "lane_use", "limit_sentence"]
