"""The memory of words in an SDRAM: ``WordMemory`` over the controller of the SDRAM part.

Row latency, with one clock for both domains: 24 + CAS latency cycles, if the page is open. It can be longer by 2
bursts, a refresh and tRP + tRCD.
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.ports import client_bits
from lutern.hw.memory.sdram_controller import SdramController
from lutern.hw.memory.sdram_part import SdramTimings
from lutern.hw.memory.words import WordMemory, memory_of_part


def sdram_memory(config: HwConfig, timings: SdramTimings) -> WordMemory:
    """Return the memory over an SDRAM part with these ``timings`` at the clock of domain ``memory``.

    The part must be as wide as a word of ``config``. The memory has the members of ``WordMemory``, and the member
    ``pins`` with the pins of the part.
    """
    width = f"the memory part is {timings.data_bits} bits wide"
    return memory_of_part(config, SdramController(timings, client_bits(config)), width)


__all__ = ["sdram_memory"]
