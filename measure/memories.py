"""Lists the memories of a chip from its description, and the block RAMs that the synthesis uses for each.

    HwConfig ─► chip_memories ─► words x bits, ports ─► the cheapest of yosys' ways ─► block RAMs
                                                        logic │ distributed │ DP16KD │ PDPW16KD

Yosys (`memory_libmap` with the library of `synth_ecp5`) computes the cost of each way, and chooses the cheapest:

    block RAM    128 for each of (words / deep) x (bits / wide) blocks, in the cheapest shape deep x wide of ``Block``
    distributed  4 for each DPR16X4, 16 words of 4 bits
    logic        1 per bit; 1/16 per bit of a table
    added        1/2 for each bit that a multiplexer selects among blocks, 1/2 for the enable of each block, 2 per
                 read port, and 12 for a read port that must see the old word while it is written

Memories of at most ``SMALL_BITS`` bits are not listed, because they never become block RAMs. The list takes
less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lutern.hw.activation import BASE_BITS, SEGMENT_BITS, SLOPE_BITS, table_attributes
from lutern.hw.code_memory import LUT_RAM_WORDS
from lutern.hw.config import HwConfig
from lutern.hw.counters import ROW_BITS, table_style
from lutern.hw.gains import PART_BITS as GROUP_PART_BITS
from lutern.hw.gate_memory import GATE_BITS
from lutern.hw.head import NOISE_BITS, TABLE_PORTS, TABLE_WORDS
from lutern.hw.layouts import (
    CODE_BITS,
    ITEM_BITS,
    STATE_BITS,
    TUPLE_GAINS,
    VALUE_BITS,
    codes_payload,
    row_fifo_words,
    values_payload,
    x_payload,
)
from lutern.hw.memory import client_fifos, has_word_source, source_shape
from lutern.hw.memory.axi import fifo_words
from lutern.hw.memory.readers import FETCHED
from lutern.hw.memory.trit_parts import BANK_BEATS, chunk_bits
from lutern.hw.memory.words import REQUESTS
from lutern.hw.norm.statistics import U_BITS, U_COUNT
from lutern.hw.pipeline import CREDITS, FIFO_BITS, in_luts, place_count
from lutern.hw.protocol import RUN_TOKENS
from lutern.hw.scale import PART_BITS
from lutern.hw.state_dma import unit_shape
from lutern.model_ref.fixed import MANTISSA_BITS
from lutern.model_ref.ternary import SUM_BITS

SMALL_BITS = 512


@dataclass(frozen=True)
class ChipMemory:
    """``copies`` memories of ``words`` x ``bits``, each with ``reads`` read ports and one write port.

    ``unused_bits`` of each word are always 0, and are removed. ``style`` is the style that the memory's attribute
    requests, or "". If ``checked``, a read of the word that is being written must return the old word. ``chunk_bits``
    is the number of bits that are written separately from the other bits, by a port that shares one of the read ports.
    0 means that a separate port writes all bits.
    """

    name: str
    words: int
    bits: int
    copies: int = 1
    reads: int = 1
    constant: bool = False
    style: str = ""
    checked: bool = False
    unused_bits: int = 0
    chunk_bits: int = 0

    @property
    def used_bits(self) -> int:
        """Number of bits of a word that are not always 0."""
        return self.bits - self.unused_bits

    @property
    def blocks(self) -> int:
        """Number of block RAMs of all copies."""
        return self._cells("block")

    @property
    def distributed_rams(self) -> int:
        """Number of DPR16X4 of all copies."""
        return self._cells("distributed")

    @property
    def table_bits(self) -> int:
        """Number of bits of tables that are built of LUTs."""
        return self.words * self.bits * self.copies * (self.constant and not self.blocks)

    def _cells(self, kind: str) -> int:
        way = _cheapest(self)
        return way.cells * self.copies if way.kind == kind else 0


@dataclass(frozen=True)
class Block:
    """A kind of block RAM.

    ``widths`` are the possible bits of a word. Entry k is 2^k times the narrowest width, plus parity bits from width 9
    on. ``shared_ports`` is the number of ports that can each read or write, or 0 if reading and writing have separate
    ports. ``narrowest_log2`` is the index of the narrowest width that can be written.
    """

    widths: tuple[int, ...]
    shared_ports: int
    narrowest_log2: int


BLOCKS = (Block((1, 2, 4, 9, 18), 2, 0), Block((1, 2, 4, 9, 18, 36), 0, 3))
"""DP16KD has two ports that read and write. PDPW16KD has a port that reads, and a port that writes 36 bits or bytes of
them."""
BLOCK_WORDS_LOG2 = 14
BYTE_BITS = 9
BLOCK_COST, DISTRIBUTED_COST, TABLE_BITS = 128, 4, 16
DISTRIBUTED_WORDS, DISTRIBUTED_BITS = 16, 4


@dataclass(frozen=True)
class Way:
    """One way to build a copy: ``kind`` is "logic", "distributed" or "block", ``cells`` is the number of cells of this
    kind, and ``cost`` is the cost as yosys computes it.
    """

    kind: str
    cells: int
    cost: float


def _cheapest(memory: ChipMemory) -> Way:
    """Return the way that yosys chooses."""
    bits = memory.used_bits
    ways = []
    if memory.style in ("", "logic"):
        ways.append(Way("logic", 0, memory.words * bits / (TABLE_BITS if memory.constant else 1)))
    if memory.style in ("", "distributed") and not memory.constant:
        deep = -(-memory.words // DISTRIBUTED_WORDS)
        cells = deep * -(-bits // DISTRIBUTED_BITS) * memory.reads
        ways.append(Way("distributed", cells, DISTRIBUTED_COST * cells + _around(memory, deep, bits, checked=False)))
    if memory.style in ("", "block"):
        ways.append(min((_of_block(memory, bits, block) for block in BLOCKS), key=lambda way: way.cost))
    best = ways[0]
    for way in ways[1:]:
        if way.cost < int(best.cost):  # rounded down, as yosys keeps it
            best = way
    return best


def _of_block(memory: ChipMemory, bits: int, block: Block) -> Way:
    """Return block RAMs of one kind, in the shape that yosys chooses."""
    if block.shared_ports:
        copies = -(-(memory.reads - bool(memory.chunk_bits)) // (block.shared_ports - (not memory.constant)))
    else:
        copies = memory.reads
    chosen: Way | None = None
    for log2, wide in enumerate(block.widths):
        if log2 < block.narrowest_log2 and not memory.constant:
            continue
        byte = 1 if memory.constant else min(BYTE_BITS, wide)
        deep = -(-memory.words // (1 << BLOCK_WORDS_LOG2 - log2))
        chunk = memory.chunk_bits or bits
        bytes_ = -(-bits // chunk) * -(-chunk // byte)
        count = -(-(deep * bytes_ * byte) // wide) * copies  # parts of different words share a block
        cost = BLOCK_COST * count + _around(memory, deep, bits, memory.checked)
        if chosen is None or cost < int(chosen.cost):
            chosen = Way("block", count, cost)
    assert chosen is not None
    return chosen


def _around(memory: ChipMemory, deep: int, bits: int, checked: bool) -> float:
    """Return the cost of the logic around a memory that is ``deep`` blocks deep."""
    choice = (deep - 1) * bits * memory.reads
    enables = deep if deep > 1 and not memory.constant else 0
    return (choice + enables) / 2 + 2 * memory.reads + (6 + 6 * memory.reads if checked else 0)


def chip_memories(config: HwConfig) -> list[ChipMemory]:
    """Return the memories of a chip with a serial line."""
    return [*_link(config), *_source(config), *_vectors(config), *_head(config), *_norm(config), *_fifos(config)]


def _link(config: HwConfig) -> Iterator[ChipMemory]:
    yield ChipMemory("frames", 1024, 8, checked=True)
    token_bits = (config.max_vocab - 1).bit_length()
    yield ChipMemory("tokens of a run", RUN_TOKENS, 16, unused_bits=16 - token_bits, checked=True)
    if config.memory == "host":
        yield ChipMemory("answers", 1023, 8, checked=True)
    if config.counters:
        yield ChipMemory("counters", config.counted_phases, ROW_BITS, style=table_style(config))


def _source(config: HwConfig) -> Iterator[ChipMemory]:
    """Yield memories of trits and words."""
    if config.source == "resident":
        bank, chunk = min(BANK_BEATS, config.trit_beats), chunk_bits(config)
        for first in range(0, config.trit_beats, bank):
            beats = min(bank, config.trit_beats - first)
            full, rest = divmod(config.beat_bits, config.word_bits)
            yield ChipMemory("trits", beats, config.word_bits, copies=full, reads=2, chunk_bits=chunk)
            if rest:
                bits = -(-rest // chunk) * chunk
                yield ChipMemory("trits", beats, bits, reads=2, unused_bits=bits - rest, chunk_bits=chunk)
        for name, bits in (("beats ahead", config.beat_bits), ("words ahead", config.word_bits)):
            yield from _credits(name, bits)
    if config.memory == "block":
        if not has_word_source(config):
            yield ChipMemory("row ahead", FETCHED, config.word_bits, style="distributed")
        yield ChipMemory("words", config.memory_words, config.word_bits)
    elif config.memory == "host":
        yield ChipMemory("words", config.memory_words - 1, config.word_bits, checked=True)
    if has_word_source(config):
        depth, clients = client_fifos(config)
        request_bits = 1 + config.address_bits + max(config.word_bits, config.address_bits + 1)  # of request_layout
        yield ChipMemory("requests", REQUESTS, request_bits, copies=clients - 1)
        yield ChipMemory("words asked for", depth, config.word_bits, copies=clients)
    shape = source_shape(config)
    if config.memory == "axi" and shape is not None:
        ports, depth = config.memory_ports, fifo_words(shape)
        length_bits = shape.burst.bit_length()
        yield ChipMemory("bursts asked for", depth // 2 - 1, shape.client_bits + length_bits, checked=True)
        if ports > 1:
            yield ChipMemory("beats of a port", depth - 1, config.word_bits // ports, copies=ports, checked=True)


def _vectors(config: HwConfig) -> Iterator[ChipMemory]:
    """Yield memories of h, of S and z (``hw/mlgru.py``), and of gates."""
    lanes, streams = config.results_per_cycle, config.streams
    width = -(-config.max_width // lanes)
    beats = place_count(config, width)

    def style(words: int) -> str:
        return "distributed" if in_luts(config, words) else ""

    if config.state == "block":
        states = -(-config.max_state // lanes)
        yield ChipMemory("state S", states, lanes * STATE_BITS, style=style(states))
    else:
        whole = unit_shape(config)[0]
        places = place_count(config, -(-width // whole) * whole)
        yield ChipMemory("window of S", places, lanes * STATE_BITS, style=style(places))
    for name, bits in (("z and gates", GATE_BITS), ("h", VALUE_BITS)):
        yield ChipMemory(name, beats, lanes * bits, style=style(beats))
    if streams > 1 and config.state == "block":
        yield ChipMemory("newest S", beats, lanes * STATE_BITS, style=style(beats))
    yield ChipMemory(
        "sigmoid",
        1 << SEGMENT_BITS,
        BASE_BITS + SLOPE_BITS,
        reads=lanes,
        constant=True,
        style=table_attributes(config).get("rom_style", ""),
    )


def _head(config: HwConfig) -> Iterator[ChipMemory]:
    """Yield memories of logits for the host, and of noise."""
    lanes, streams = config.results_per_cycle, config.streams
    if config.top_k:
        places = streams << max(1, (config.top_k - 1).bit_length()) if streams > 1 else config.top_k
        token_bits = max(1, (config.max_vocab - 1).bit_length())
        yield ChipMemory("largest logits", places, SUM_BITS + token_bits, checked=True)
    else:
        beats = -(-config.max_vocab // lanes)
        places = streams << max(1, (beats - 1).bit_length()) if streams > 1 else beats
        yield ChipMemory("logits", places, lanes * SUM_BITS, checked=True)
    is_logic = in_luts(config, len(TABLE_WORDS))
    reads = 1 if is_logic else min(TABLE_PORTS, lanes)
    style = "logic" if is_logic else ""
    copies = lanes // reads
    yield ChipMemory("noise", len(TABLE_WORDS), NOISE_BITS, copies=copies, reads=reads, constant=True, style=style)


def _norm(config: HwConfig) -> Iterator[ChipMemory]:
    """Yield the table of square roots and reciprocals, and the memories of u and of codes."""
    lanes = config.results_per_cycle
    yield ChipMemory("roots", 1024, MANTISSA_BITS, constant=True)
    places = config.streams * -(-config.max_width // config.codes_per_cycle)
    yield ChipMemory(
        "u",
        places,
        lanes * U_COUNT * U_BITS,
        copies=config.codes_per_cycle // lanes,
        checked=True,
        style="distributed" if in_luts(config, places) else "",
    )
    places = 2 * -(-config.max_width // config.columns)
    yield ChipMemory(
        "codes",
        places,
        config.codes_per_cycle * CODE_BITS,
        copies=config.streams * config.columns // config.codes_per_cycle,
        style="distributed" if places <= LUT_RAM_WORDS else "block",
    )


def _fifos(config: HwConfig) -> Iterator[ChipMemory]:
    """Yield memories of FIFOs. The last word of a FIFO is in a register, except in FIFOs at the ends of pipelines."""
    group_bits = config.results_per_cycle * TUPLE_GAINS * ITEM_BITS
    yield ChipMemory("gains", config.gain_fifo_words - 1, config.word_bits, checked=True)
    for first in range(0, group_bits, GROUP_PART_BITS):
        bits = min(GROUP_PART_BITS, group_bits - first)
        yield ChipMemory("groups of gains", config.gain_fifo_groups - 1, bits, checked=True)
    if config.streams > 1:
        yield ChipMemory("ring of gains", -(-config.max_width // config.results_per_cycle), group_bits)
    if config.source == "streamed":
        yield ChipMemory("words of trits", config.trit_fifo_words - 1, config.word_bits + 1, checked=True)
        yield ChipMemory("row", row_fifo_words(config) - 1, config.word_bits, checked=True)
    yield from _credits("codes ahead of the lanes", codes_payload(config).size)
    yield from _credits("values", values_payload(config).size, PART_BITS)
    for block in ("mlgru", "glu", "residual"):
        yield from _credits(f"x of {block}", x_payload(config).size)


def _credits(name: str, bits: int, part_bits: int = FIFO_BITS) -> Iterator[ChipMemory]:
    """Yield memories of a FIFO with credits (``hw/pipeline/credits.py``)."""
    for first in range(0, bits, part_bits):
        yield ChipMemory(name, CREDITS, min(part_bits, bits - first), style="distributed")


__all__ = ["SMALL_BITS", "ChipMemory", "chip_memories"]
