"""``HwConfig`` describes how the network is computed. Its fields decide every width and depth of the gateware.

``HwConfig`` also contains the limits of a bitstream: the widest vector, the size of the state and the memory.
``ModelConfig`` describes the network and is part of the image. hw/presets.py lists the machines with a name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lutern.hw.protocol import CHUNK_BYTES
from lutern.model_ref.errors import LuternError
from lutern.model_ref.signature import SLICE, WIDE

TRITS_PER_BYTE = 5
TRIT_MEMORY = 1 << 23
"""The first word address of the memory of trits. The host addresses a word of this memory as ``TRIT_MEMORY | beat <<
part_bits | part``."""


SOURCES = ("resident", "streamed")
MEMORIES = ("block", "sdram", "ddr3", "host", "port", "axi")
OUTSIDE = ("sdram", "ddr3", "port", "axi")
"""Memories outside the chip. The gateware has a march test for these memories."""
AXI_PORTS = (1, 2, 4, 8, 16)
AXI_DATA_BITS = (64, 128, 256, 512)
STATES = ("block", "memory")
CELLS = ("generic", "ecp5")
STATE_BASE_BITS = 20
"""Number of bits of the field ``state_base`` of an operation. This field names a beat of the memory of states."""
HOST_CHUNKS = 4
"""Number of chunks of ``CHUNK_BYTES`` that a chip must be able to store if the host sends the words."""
RENAMED = {"tokens": "streams"}
"""The present name of each field that was renamed."""
RENAMED_SOURCES = {"stream": "streamed"}
"""The present name of each value of ``source`` that was renamed."""


def renamed_or_known(name: str, known: Sequence[str]) -> str:
    """Return the advice that ends an error message about an unknown name: the present name, or all known names.

    Parameters
    ----------
    name : str
        The unknown name.
    known : sequence of str
        Names of the fields.
    """
    return f"it is called {RENAMED[name]} now" if name in RENAMED else f"choose one of {', '.join(known)}"


def _digest_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class HwConfig:
    """Describes the shape of a machine.

    Letters in other documents: R ``rows``, C ``columns``, T ``streams``, P ``results_per_cycle``, Q
    ``codes_per_cycle``. C, T, P and Q are powers of two, because the gateware splits an index into fields of bits.

    Parameters
    ----------
    name : str
        The name of the machine.
    rows : int
        Number of rows of a beat of trits, a multiple of ``results_per_cycle``. The ternary unit uses ``rows * columns``
        trits per cycle, one for each lane.
    columns : int
        Number of columns of a beat of trits. Each row of a beat uses this many codes.
    streams : int
        Number of activation vectors to which every trit is applied. A run has at most this many streams. One pass
        computes a token of each stream.
    results_per_cycle : int
        Number of sums that leave the ternary unit per cycle. The elementwise path accepts this many elements per cycle.
    codes_per_cycle : int
        Number of codes that the quantiser computes per cycle. This number divides ``columns`` and is a multiple of
        ``results_per_cycle``.
    source : str
        "resident": trits are in block RAM, which supplies one beat per cycle. Operations and gains are in a separate
        memory of words. "streamed": one memory of words holds everything and supplies at most one word per cycle.
    memory : str
        The memory that stores the words. Every choice except "block" needs source "streamed".

        - "block": block RAM of the chip.
        - "sdram" or "ddr3": a DRAM chip of the board.
        - "host": the host sends the words over the link for every token.
        - "port": a memory that the user connects to a port of the top level, see hw/memory/word_source.py.
        - "axi": a memory that the user connects to AXI4 ports, see hw/memory/axi.py.
    memory_ports : int
        Memory "axi": number of AXI4 masters. Each word is divided among these masters, which have 64 to 512 bits each.
    memory_hz : int
        Memory "ddr3": clock of the memory controller in Hz, which is half the clock of the DRAM chip. The memory
        supplies one word every two cycles of this clock.
    state : str
        The memory that stores S. "block": S is in block RAM. "memory": S is stored after the model in the memory of
        words. The S of a layer is loaded before the operation I of the layer, and saved after this operation
        (hw/state_dma.py). State "memory" is not possible with source "resident" or memory "host".
    words_in_flight : int
        Memory "port" or "axi": largest number of words that are requested and have not arrived yet. With this number of
        words in flight, a memory latency of about as many cycles costs no time.
    word_bytes : int
        Bytes of a word of memory. The host writes words, and the record stream consists of words.
    memory_words : int
        Depth of the memory of words. Memory "host": number of words that the chip buffers, which is a power of two
        times the number of words in ``CHUNK_BYTES``.
    trit_beats : int
        Source "resident": depth of the memory of trits, in beats. This memory stores the embedding table after the
        trits.
    max_width : int
        Largest number of elements of a vector (hidden size or intermediate size).
    max_state : int
        Largest number of elements of state: layers * hidden size * streams. State "memory" does not use ``max_state``,
        because the free words of the memory limit the number of states.
    max_vocab : int
        Largest number of tokens of a vocabulary.
    trit_fifo_words : int
        Source "streamed": depth of the FIFO of trits after the router, in words. The router fills this FIFO during a
        barrier.
    gain_fifo_words : int
        Depth of the FIFO of gains after the router, in words.
    gain_fifo_groups : int
        Depth of the FIFO of unpacked gains, in groups of P elements, at least 3. Results arrive at one beat per cycle.
        If a group has several words, many groups must therefore be in the FIFO before the results arrive.
    lut_ram_depth : int
        Source "resident": a memory of a vector or a table is built of LUTs if its depth is at most this number, because
        the trits fill the block RAMs.
    top_k : int
        Number of largest logits that are stored for the host. If it is 0, all logits are stored.
    clock_hz : int
        Clock in Hz from which tokens per second are computed. The report of a build states the clock that the bitstream
        reaches.
    any_clock : bool
        Constants that depend on ``clock_hz`` are LUT4s without inputs. The netlists of two clocks then differ only in
        the tables of these LUT4s and in the dividers of the PLL, so the same route serves both clocks. Only machines
        with cells "ecp5" have such LUT4s.
    cells : str
        "ecp5" builds lanes of CCU2C cells. "generic" lets the synthesis choose the cells. Simulations use "generic".
    debug_tap : bool
        Adds the ports on which the simulated board reads h, S and codes.
    counters : bool
        Adds counters of the cycles in which the lanes or the record stream wait, for each phase of a token
        (hw/counters.py).
    """

    name: str
    rows: int = 4
    columns: int = 16
    streams: int = 1
    results_per_cycle: int = 1
    codes_per_cycle: int = 4
    source: str = "resident"
    memory: str = "block"
    memory_ports: int = 1
    memory_hz: int = 75_000_000
    state: str = "block"
    words_in_flight: int = 256
    word_bytes: int = 8
    memory_words: int = 1 << 14
    trit_beats: int = 1 << 15
    max_width: int = 512
    max_state: int = 2048
    max_vocab: int = 256
    trit_fifo_words: int = 64
    gain_fifo_words: int = 64
    gain_fifo_groups: int = 4
    lut_ram_depth: int = 64
    top_k: int = 0
    clock_hz: int = 75_000_000
    any_clock: bool = False
    cells: str = "generic"
    debug_tap: bool = True
    counters: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            lowest = 0 if name == "top_k" else 1
            if isinstance(value, int) and not isinstance(value, bool) and value < lowest:
                raise LuternError(f"HwConfig {self.name}: {name} is {value}; give a number from {lowest} on.")
        for name, choices in (("source", SOURCES), ("memory", MEMORIES), ("state", STATES), ("cells", CELLS)):
            if getattr(self, name) not in choices:
                now = RENAMED_SOURCES.get(getattr(self, name)) if name == "source" else None
                advice = f"it is called {now} now" if now else f"choose one of {', '.join(choices)}"
                raise LuternError(f"HwConfig {self.name}: {name} is {getattr(self, name)!r}; {advice}.")
        for small, large in (
            ("results_per_cycle", "rows"),
            ("codes_per_cycle", "columns"),
            ("results_per_cycle", "codes_per_cycle"),
        ):
            if getattr(self, large) % getattr(self, small):
                raise LuternError(
                    f"HwConfig {self.name}: {large} is {getattr(self, large)}, which is not a multiple of "
                    f"{small} {getattr(self, small)}; give a multiple."
                )
        if self.any_clock and self.memory in ("sdram", "ddr3"):
            raise LuternError(
                f"HwConfig {self.name}: any_clock is true, but the timings of memory {self.memory!r} depend on its "
                "clock; choose any_clock false."
            )
        if self.source == "resident" and self.memory != "block":
            raise LuternError(
                f"HwConfig {self.name}: source resident keeps its weights in block RAM, but memory is {self.memory!r}; "
                "choose source streamed."
            )
        if self.source == "streamed" and self.beat_bytes % self.word_bytes:
            raise LuternError(
                f"HwConfig {self.name}: a beat of trits has {self.beat_bytes} bytes, which is not a multiple of "
                f"word_bytes {self.word_bytes}; give a word_bytes that divides the beat."
            )
        if self.state == "memory":
            self._check_state()
        if self.memory == "axi":
            self._check_ports()
        if self.source == "streamed" and self.word_bits > WIDE and self.word_bits % SLICE:
            raise LuternError(
                f"HwConfig {self.name}: word_bytes is {self.word_bytes}; above {WIDE // 8} bytes, give a multiple of "
                f"{SLICE // 8}."
            )
        least = HOST_CHUNKS * (CHUNK_BYTES // self.word_bytes)
        if self.memory == "host" and self.memory_words < least:
            raise LuternError(
                f"HwConfig {self.name}: memory_words is {self.memory_words}; with memory host give {least} or more, so "
                "that the link stays busy while words are used."
            )
        for name, value, lowest, highest in (
            ("rows / results_per_cycle", self.rows // self.results_per_cycle, 1, 255),
            ("streams", self.streams, 1, 16),
            ("word_bytes", self.word_bytes, 2, 512),
            ("memory_words", self.memory_words, 1, TRIT_MEMORY if self.source == "resident" else (1 << 32) - 1),
            ("trit_beats << part_bits", self.trit_beats << self.part_bits, 1, TRIT_MEMORY),
            ("max_width", self.max_width, 1, 8192),
            ("max_vocab", self.max_vocab, 1, (1 << 16) - 1),
            ("max_state / results_per_cycle", self.state_beats, 1, 1 << STATE_BASE_BITS),
            ("trit_fifo_words", self.trit_fifo_words, 4, 1 << 16),
            ("gain_fifo_words", self.gain_fifo_words, 4, 1 << 16),
            ("gain_fifo_groups", self.gain_fifo_groups, 3, 1 << 12),
            ("lut_ram_depth", self.lut_ram_depth, 1, 1 << 12),
            ("top_k", self.top_k, 0, 128),
        ):
            if not lowest <= value <= highest:
                raise LuternError(
                    f"HwConfig {self.name}: {name} is {value}; fields of the gateware hold {lowest} to {highest}."
                )
        for name in ("results_per_cycle", "codes_per_cycle", "columns", "streams"):
            value = getattr(self, name)
            if value & (value - 1):
                raise LuternError(f"HwConfig {self.name}: {name} is {value}; give a power of two.")

    def _check_state(self) -> None:
        """Refuse a machine whose state in memory cannot be read or written."""
        if self.source == "resident" or self.memory == "host":
            kept = "source resident" if self.source == "resident" else "memory host"
            raise LuternError(
                f"HwConfig {self.name}: state is 'memory', but with {kept} no memory of words can hold it; "
                "choose state block."
            )
        if self.word_bytes & (self.word_bytes - 1) or self.word_bytes > 4 * self.max_width:
            raise LuternError(
                f"HwConfig {self.name}: state is 'memory', and word_bytes is {self.word_bytes}; give a power of two up "
                f"to {4 * self.max_width}, the bytes of a vector of max_width {self.max_width}."
            )

    def _check_ports(self) -> None:
        """Refuse words that AXI4 ports cannot carry."""
        bits = self.word_bits // self.memory_ports
        if (
            self.memory_ports not in AXI_PORTS
            or bits not in AXI_DATA_BITS
            or bits * self.memory_ports != self.word_bits
        ):
            raise LuternError(
                f"HwConfig {self.name}: words of {self.word_bytes} bytes do not fit {self.memory_ports} AXI4 ports; "
                f"give memory_ports {', '.join(map(str, AXI_PORTS))}, "
                f"of {', '.join(map(str, AXI_DATA_BITS))} bits each."
            )

    @property
    def lanes(self) -> int:
        """Number of trits that the lanes use per cycle."""
        return self.rows * self.columns

    @property
    def beat_bytes(self) -> int:
        """Number of bytes of the trits of one beat, with five trits in a byte."""
        return -(-self.lanes // TRITS_PER_BYTE)

    @property
    def beat_bits(self) -> int:
        """Number of bits of the trits of one beat."""
        return 8 * self.beat_bytes

    @property
    def word_bits(self) -> int:
        """Number of bits of a memory word."""
        return 8 * self.word_bytes

    @property
    def address_bits(self) -> int:
        """Number of bits of a word address in readers and link. On a resident machine an address names a word of the
        memory of words or of the memory of trits."""
        words = 2 * TRIT_MEMORY if self.source == "resident" else self.memory_words
        return max(16, (words - 1).bit_length())

    @property
    def parts(self) -> int:
        """Number of words in which the host writes a resident beat. The beat may end within the last word."""
        return -(-self.beat_bytes // self.word_bytes)

    @property
    def part_bits(self) -> int:
        """Number of low bits of an address in the memory of trits that name the part of a beat."""
        return (self.parts - 1).bit_length()

    @property
    def stream_bits(self) -> int:
        """Number of bits that name one of ``streams`` streams. A machine of one stream has 1 bit, which is always 0."""
        return max(1, (self.streams - 1).bit_length())

    @property
    def state_beats(self) -> int:
        """Depth of the memory of states, in beats of P elements."""
        return -(-self.max_state // self.results_per_cycle)

    @property
    def state_bits(self) -> int:
        """Number of bits that name one of ``state_beats`` beats. If the state is "memory", the result is 1, because no
        operation names a beat."""
        return 1 if self.state == "memory" else max(1, (self.state_beats - 1).bit_length())

    @property
    def base_bits(self) -> int:
        """Number of bits that name the start of a stream's state. The start is a beat of the memory of states, or a
        word if the state is "memory"."""
        return self.address_bits if self.state == "memory" else self.state_bits

    @property
    def index_bits(self) -> int:
        """Number of bits that name a beat of P elements of a vector (or of logits)."""
        beats = -(-max(self.max_width, self.max_vocab) // self.results_per_cycle)
        return max(1, (beats - 1).bit_length())

    @property
    def counted_phases(self) -> int:
        """Number of phases of a token that the table of counters can store, or 0 without counters.

        A token has 7 phases for each layer, and 3 phases for the embedding's row, lm_head and the choice. A table of
        512 rows in block RAM is large enough for 72 layers. The table of a resident machine is built of LUTs, and its
        128 rows are enough for 17 layers.
        """
        if not self.counters:
            return 0
        return 128 if self.source == "resident" else 512

    @property
    def has_clock_tables(self) -> bool:
        """Whether constants that depend on the clock are tables of LUT4s."""
        return self.any_clock and self.cells == "ecp5"

    @property
    def digest(self) -> str:
        """SHA-256 of the fields as canonical JSON, in hexadecimal. A field that was added later is included only if the
        machine uses the field."""
        return _digest_of(self._used_fields)

    @property
    def chip_digest(self) -> str:
        """The digest that the chip reports. If constants that depend on the clock are tables, this digest is the same
        for all clocks."""
        used = self._used_fields
        return _digest_of({name: used[name] for name in used if name != "clock_hz" or not self.has_clock_tables})

    @property
    def _used_fields(self) -> dict[str, Any]:
        values = asdict(self)
        for name, unused in (("counters", False), ("state", "block"), ("any_clock", False)):
            if values[name] == unused:
                del values[name]
        for name, memories in (
            ("words_in_flight", ("port", "axi")),
            ("memory_hz", ("ddr3",)),
            ("memory_ports", ("axi",)),
        ):
            if self.memory not in memories:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HwConfig:
        """Return a machine from the fields of its JSON.

        Parameters
        ----------
        values : mapping
            Values by field.

        Raises
        ------
        LuternError
            A name is not the name of a field. If the field was renamed, the message contains the present name.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise LuternError(f"{name!r} is no field of a machine; {renamed_or_known(name, known)}.")
        return cls(**values)

    def with_(self, **changes: object) -> HwConfig:
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
