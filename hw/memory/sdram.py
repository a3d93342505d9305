"""The memory of words in an SDRAM: ``WordMemory`` over the controller of its part.

Row latency, one clock for both domains: 24 + CAS latency cycles to an open page, at most 2 bursts, a refresh and
tRP + tRCD more.
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.ports import client_bits
from lutern.hw.memory.sdram_controller import SdramController
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.memory.words import WordMemory, memory_of_part


def sdram_memory(config: HwConfig, timings: SdramTimings) -> WordMemory:
    """``timings`` of the part at the clock of domain ``memory``, whose words are as wide as ``config``'s.

    Its members: those of ``WordMemory``; ``pins`` of the part.
    """
    width = f"the memory part is {timings.data_bits} bits wide"
    return memory_of_part(config, SdramController(timings, client_bits(config)), width)


__all__ = ["sdram_memory"]
