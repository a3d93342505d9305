"""The memories that supply a machine's words: block RAM, DRAM, the host over the link, or a port of the chip.

    memory_for(config) ─► ResidentMemory | StreamedMemory | HostMemory | WordMemory over a word source:
                                              DRAM controller, AXI4, block RAM (with state "memory"), a port of the top

Every memory has the members ``memory_members(config)``, and some memories have further members.
"""

from __future__ import annotations

from amaranth.hdl import DomainRenamer

from lutern.hw.config import HwConfig
from lutern.hw.memory.axi import AxiSource, bus_members
from lutern.hw.memory.block import ResidentMemory, StreamedMemory
from lutern.hw.memory.block_source import BlockSource, block_shape
from lutern.hw.memory.ddr3 import ddr3_memory
from lutern.hw.memory.ddr3_clocks import Ddr3Clocks, Ddr3Start
from lutern.hw.memory.ddr3_controller import Ddr3Controller
from lutern.hw.memory.ddr3_levels import Ddr3Levels, HostLevels, LevelSettings
from lutern.hw.memory.ddr3_modes import Ddr3Modes
from lutern.hw.memory.ddr3_part import MOST_POSTPONED, Ddr3Part, Ddr3Timings, any_ddr3_part
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
from lutern.hw.memory.trit_parts import side_steps
from lutern.hw.memory.word_source import Client, PortSource, SourceShape, WordPort
from lutern.hw.memory.words import WordMemory, connect_member

Memory = ResidentMemory | StreamedMemory | HostMemory | WordMemory


Timings = SdramTimings | Ddr3Timings


def timings_for(config: HwConfig, modes: Ddr3Modes | None = None) -> Timings | None:
    """Return the timings of a machine's DRAM, computed from ``any_part`` or ``any_ddr3_part``.

    The result is None if the machine does not use a DRAM.

    Parameters
    ----------
    config : HwConfig
        The machine.
    modes : Ddr3Modes | None
        The mode registers of DDR3; None for the default values.
    """
    if config.memory == "ddr3":
        part = any_ddr3_part(config.memory_words)
        return part.timings(config.memory_hz, MOST_POSTPONED, modes)
    return any_part(config.word_bits) if config.memory == "sdram" else None


def client_fifos(config: HwConfig) -> tuple[int, int]:
    """Return how many words the FIFO of a client holds, and how many clients the word source has.

    Both numbers are 0 for a machine without a word source.
    """
    timings, bits = timings_for(config), client_bits(config)
    shape = source_shape(config)
    if isinstance(timings, Ddr3Timings):
        shape = timings.source_shape(bits)
    elif timings is not None:
        shape = sdram_shape(timings, bits)
    elif has_word_source(config) and shape is None:
        shape = block_shape(config.word_bits, config.address_bits, bits)
    return (0, 0) if shape is None else (fifo_depth(shape), len(shape.clients))


def memory_for(config: HwConfig, timings: Timings | None) -> Memory:
    """Return the memory of a machine.

    Parameters
    ----------
    config : HwConfig
        The machine.
    timings : Timings | None
        The timings of the machine's DRAM part; None if the machine has no DRAM.
    """
    if config.source == "resident":
        return ResidentMemory(config)
    if isinstance(timings, Ddr3Timings):
        return ddr3_memory(config, timings)
    if timings is not None:
        return sdram_memory(config, timings)
    shape = source_shape(config)
    if shape is not None and config.memory == "axi":
        return DomainRenamer({"memory": "sync"})(WordMemory(config, AxiSource(shape, config.memory_ports)))
    if shape is not None:
        return WordMemory(config, PortSource(shape))
    if config.memory == "host":
        return HostMemory(config)
    if config.state == "memory":
        source = BlockSource(config.word_bits, config.address_bits, config.memory_words, client_bits(config))
        return DomainRenamer({"memory": "sync"})(WordMemory(config, source))
    return StreamedMemory(config)


__all__ = [
    "AxiSource",
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
    "HostLevels",
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
    "Timings",
    "WordMemory",
    "WordPort",
    "any_ddr3_part",
    "any_part",
    "bus_members",
    "client_fifos",
    "connect_member",
    "ddr3_memory",
    "has_word_source",
    "memory_for",
    "sdram_memory",
    "side_steps",
    "source_shape",
    "state_request_layout",
    "timings_for",
]
