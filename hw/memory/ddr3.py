"""The memory of words in DDR3 SDRAM: ``WordMemory`` over the controller of the DDR3 part.

Row latency, with one clock for both domains: 22 cycles + the read latency of DFI, if the page is open. It can be longer
by 2 bursts, a group of refreshes and tRP + tRCD.
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.ddr3_controller import Ddr3Controller
from lutern.hw.memory.ddr3_part import Ddr3Timings
from lutern.hw.memory.ports import client_bits
from lutern.hw.memory.words import WordMemory, memory_of_part


def ddr3_memory(config: HwConfig, timings: Ddr3Timings) -> WordMemory:
    """Return the memory over a DDR3 part with these ``timings`` at the clock of domain ``memory``.

    A burst of the part must be as wide as a word of ``config``. The memory has the members of ``WordMemory``, and the
    member ``dfi``, which connects to the PHY.
    """
    width = f"a burst of the memory part has {timings.word_bits // 8}"
    return memory_of_part(config, Ddr3Controller(timings, client_bits(config)), width)


__all__ = ["ddr3_memory"]
