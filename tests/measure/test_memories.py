"""The list of memories is compared with the design and with the synthesized netlist."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from amaranth.hdl import Fragment, MemoryInstance, Shape

from lutern.boards.board import HOST_BLOCK_RAMS
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS
from lutern.hw.top import SerialTop
from lutern.measure import samples
from lutern.measure.cost import BAUD
from lutern.measure.memories import SMALL_BITS, ChipMemory, chip_memories

DRAWN = [row.config for row in samples.read() if row.config.name.startswith("drawn-")]
IN_MEMORY = [
    PRESETS[name].with_(name=f"{name}-{streams}-in-memory", state="memory", streams=streams)
    for name, streams in (("stream-x16", 4), ("sdram-x32", 1))
]
CHIPS = [*PRESETS.values(), PRESETS["sdram-x16"].with_(counters=True), *DRAWN[:3], *IN_MEMORY]


def built(config: HwConfig) -> Counter[tuple[Any, ...]]:
    """Return the memories of the elaborated chip that may become block RAM: shape, number of reads, whether constant,
    and requested style."""
    found: Counter[tuple[Any, ...]] = Counter()

    def walk(fragment: Any, name: str = "") -> None:
        if not isinstance(fragment, MemoryInstance):
            for child, its_name, _ in fragment.subfragments:
                walk(child, its_name)
            return
        if name == "storage" and fragment._read_ports[0]._domain == "comb":
            return  # a FIFO that is read in the same cycle, which block RAM cannot do
        contents, attributes = fragment._data, fragment._attrs
        bits, style = Shape.cast(contents.shape).width, attributes.get("ram_style", attributes.get("rom_style", ""))
        if contents.depth * bits > SMALL_BITS and style not in ("logic", "distributed"):
            found[contents.depth, bits, len(fragment._read_ports), not fragment._write_ports, style] += 1

    walk(Fragment.get(SerialTop(config.with_(debug_tap=False, cells="ecp5"), config.clock_hz // BAUD), None))
    return found


def listed(config: HwConfig) -> Counter[tuple[Any, ...]]:
    """Return the same memories from the list."""
    found: Counter[tuple[Any, ...]] = Counter()
    for one in chip_memories(config):
        if one.words * one.bits > SMALL_BITS and one.style not in ("logic", "distributed"):
            found[one.words, one.bits, one.reads, one.constant, one.style] += one.copies
    return found


@pytest.mark.parametrize("config", CHIPS, ids=lambda config: f"{config.name}{'-counted' * config.counters}")
def test_every_memory_of_the_chip(config: HwConfig) -> None:
    assert listed(config) == built(config)


@pytest.mark.parametrize("row", samples.read(), ids=lambda row: row.config.name)
def test_blocks_equal_to_the_synthesis(row: samples.Row) -> None:
    assert sum(memory.blocks for memory in chip_memories(row.config)) == row.block_rams


def test_blocks_of_machines_without_weights() -> None:
    found = {name: sum(memory.blocks for memory in chip_memories(PRESETS[name])) for name in HOST_BLOCK_RAMS}
    assert found == HOST_BLOCK_RAMS


def test_blocks_by_hand() -> None:
    """512 x 36 bits take one block, and 16,384 x 8 bits take eight. A third read port of a table takes a second block.
    A memory that is small, or that must be in LUTs, takes none."""
    for words, bits, reads, constant, style, blocks in (
        (512, 36, 1, False, "", 1),
        (16384, 8, 1, False, "", 8),
        (1024, 18, 3, True, "", 2),
        (512, 18, 1, False, "", 1),
        (2048, 27, 1, False, "", 3),
        (16, 32, 1, False, "", 0),
        (4096, 8, 1, False, "distributed", 0),
        (16, 8, 1, False, "block", 1),
    ):
        memory = ChipMemory("any", words, bits, reads=reads, constant=constant, style=style)
        assert memory.blocks == blocks, memory
