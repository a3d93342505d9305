"""The memories that a machine's words come from: block RAM, SDR SDRAM, or the host over the link.

memory_for(config) ─► ResidentMemory | StreamedMemory | SdramMemory | HostMemory
                         all with ``memory_members(config)``, some with more
"""

from __future__ import annotations

from lutern.hw.config import HwConfig
from lutern.hw.memory.block import ResidentMemory, StreamedMemory
from lutern.hw.memory.host import HostMemory
from lutern.hw.memory.sdram import SdramMemory
from lutern.hw.memory.sdram_controller import SdramPins
from lutern.hw.memory.sdram_part import SdramPart, SdramTimings, any_part
from lutern.hw.memory.sdram_phase import PhaseStepper

Memory = ResidentMemory | StreamedMemory | SdramMemory | HostMemory


def memory_for(config: HwConfig, timings: SdramTimings) -> Memory:
    """The memory of the machine ``config``; ``timings`` are those of its SDRAM part, if it has one."""
    if config.source == "resident":
        return ResidentMemory(config)
    if config.memory == "sdram":
        return SdramMemory(config, timings)
    return HostMemory(config) if config.memory == "host" else StreamedMemory(config)


__all__ = [
    "HostMemory",
    "Memory",
    "PhaseStepper",
    "ResidentMemory",
    "SdramMemory",
    "SdramPart",
    "SdramPins",
    "SdramTimings",
    "StreamedMemory",
    "any_part",
    "memory_for",
]
