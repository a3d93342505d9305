"""The memories that a machine's words come from: block RAM, SDR SDRAM, the host over the link, or a port of the chip.

memory_for(config) ─► ResidentMemory | StreamedMemory | HostMemory | WordMemory over a word source:
                                          SDRAM controller, block RAM (with state "memory"), a port of the top
                         all with ``memory_members(config)``, some with more
"""

from __future__ import annotations

from amaranth.hdl import DomainRenamer

from lutern.hw.config import HwConfig
from lutern.hw.memory.block import ResidentMemory, StreamedMemory
from lutern.hw.memory.block_source import BlockSource, block_shape
from lutern.hw.memory.ddr3 import ddr3_memory
from lutern.hw.memory.ddr3_clocks import Ddr3Clocks, Ddr3Start
from lutern.hw.memory.ddr3_controller import Ddr3Controller
from lutern.hw.memory.ddr3_levels import Ddr3Levels, LevelSettings
from lutern.hw.memory.ddr3_modes import Ddr3Modes
from lutern.hw.memory.ddr3_part import Ddr3Part, Ddr3Timings
from lutern.hw.memory.ddr3_phy import Ddr3Phy
from lutern.hw.memory.dfi import Dfi
from lutern.hw.memory.host import HostMemory
from lutern.hw.memory.ports import client_bits, has_word_source, source_shape, state_request_layout
from lutern.hw.memory.sdram import sdram_memory
from lutern.hw.memory.sdram_controller import SdramPins, sdram_shape
from lutern.hw.memory.sdram_part import SdramPart, SdramTimings, any_part
from lutern.hw.memory.sdram_phase import PhaseStepper
from lutern.hw.memory.source_side import fifo_depth
from lutern.hw.memory.source_watch import Fault
from lutern.hw.memory.word_source import Client, PortSource, SourceShape, WordPort
from lutern.hw.memory.words import WordMemory, connect_member

Memory = ResidentMemory | StreamedMemory | HostMemory | WordMemory


def timings_for(config: HwConfig) -> SdramTimings | None:
    """``any_part`` for the machine ``config``; None if its words are not in SDRAM."""
    return any_part(config.word_bits) if config.memory == "sdram" else None


def client_fifos(config: HwConfig) -> tuple[int, int]:
    """Words of a client's FIFO, and how many clients the word source of a machine has; 0 and 0 without one."""
    timings, bits = timings_for(config), client_bits(config)
    shape = source_shape(config)
    if timings is not None:
        shape = sdram_shape(timings, bits)
    elif has_word_source(config) and shape is None:
        shape = block_shape(config.word_bits, config.address_bits, bits)
    return (0, 0) if shape is None else (fifo_depth(shape), len(shape.clients))


def memory_for(config: HwConfig, timings: SdramTimings | None) -> Memory:
    """The memory of the machine ``config``; ``timings`` are those of its SDRAM part, if it has one."""
    if config.source == "resident":
        return ResidentMemory(config)
    if timings is not None:
        return sdram_memory(config, timings)
    shape = source_shape(config)
    if shape is not None:
        return WordMemory(config, PortSource(shape))
    if config.memory == "host":
        return HostMemory(config)
    if config.state == "memory":
        source = BlockSource(config.word_bits, config.address_bits, config.memory_words, client_bits(config))
        return DomainRenamer({"memory": "sync"})(WordMemory(config, source))
    return StreamedMemory(config)


__all__ = [
    "BlockSource",
    "Client",
    "Ddr3Clocks",
    "Ddr3Controller",
    "Ddr3Levels",
    "Ddr3Modes",
    "Ddr3Part",
    "Ddr3Phy",
    "Ddr3Start",
    "Ddr3Timings",
    "Dfi",
    "Fault",
    "HostMemory",
    "LevelSettings",
    "Memory",
    "PhaseStepper",
    "PortSource",
    "ResidentMemory",
    "SdramPart",
    "SdramPins",
    "SdramTimings",
    "SourceShape",
    "StreamedMemory",
    "WordMemory",
    "WordPort",
    "any_part",
    "client_fifos",
    "connect_member",
    "ddr3_memory",
    "has_word_source",
    "memory_for",
    "sdram_memory",
    "source_shape",
    "state_request_layout",
    "timings_for",
]
