"""The memory of words in DDR3 SDRAM: ``WordMemory`` over the controller of its part.

Row latency, one clock for both domains: 22 cycles + the read latency of DFI to an open page, at most 2 bursts, a group
of refreshes and tRP + tRCD more.
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.ddr3_controller import Ddr3Controller
from lutern.hw.memory.ddr3_part import Ddr3Timings
from lutern.hw.memory.ports import client_bits
from lutern.hw.memory.words import WordMemory
from lutern.model_ref.errors import LuternError


def ddr3_memory(config: HwConfig, timings: Ddr3Timings) -> WordMemory:
    """``timings`` of the part at the clock of domain ``memory``, whose bursts are words as wide as ``config``'s.

    Its members: those of ``WordMemory``; ``dfi`` to the PHY.
    """
    if timings.word_bits != config.word_bits:
        raise LuternError(
            f"HwConfig {config.name} has words of {config.word_bytes} bytes, a burst of the memory part has "
            f"{timings.word_bits // 8}; choose a preset of {timings.word_bits // 8}-byte words."
        )
    if timings.words < config.memory_words:
        raise LuternError(
            f"HwConfig {config.name} has {config.memory_words:,} words of memory, the memory part has "
            f"{timings.words:,}; choose a smaller memory_words or a larger part."
        )
    return WordMemory(config, Ddr3Controller(timings, client_bits(config)))


__all__ = ["ddr3_memory"]
