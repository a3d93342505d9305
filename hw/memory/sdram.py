"""The memory of words in an SDRAM: ``WordMemory`` over the controller of its part.

Row latency, one clock for both domains: 24 + CAS latency cycles to an open page, at most 2 bursts, a refresh and
tRP + tRCD more.
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.ports import client_bits
from lutern.hw.memory.sdram_controller import SdramController
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.memory.words import WordMemory
from lutern.model_ref.errors import LuternError


def sdram_memory(config: HwConfig, timings: SdramTimings) -> WordMemory:
    """``timings`` of the part at the clock of domain ``memory``, whose words are as wide as ``config``'s.

    Its members: those of ``WordMemory``; ``pins`` of the part.
    """
    if timings.data_bits != config.word_bits:
        raise LuternError(
            f"HwConfig {config.name} has words of {config.word_bytes} bytes, the memory part is "
            f"{timings.data_bits} bits wide; choose a preset of {timings.data_bits // 8}-byte words."
        )
    if timings.words < config.memory_words:
        raise LuternError(
            f"HwConfig {config.name} has {config.memory_words:,} words of memory, the memory part has "
            f"{timings.words:,}; choose a smaller memory_words or a larger part."
        )
    return WordMemory(config, SdramController(timings, client_bits(config)))


__all__ = ["sdram_memory"]
