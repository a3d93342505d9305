"""``HwConfig`` describes how the network is computed. Every width and depth of the gateware follows from it.

The limits of a bitstream (widest vector, state words, memory) are part of ``HwConfig``. ``ModelConfig`` describes the
network, and is part of the image. Presets are data (hw/presets.py), and are the choices of the command line.
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
"""The host's word addresses from this one on belong to the memory of trits: ``TRIT_MEMORY | beat << part_bits |
part``."""


SOURCES = ("resident", "streamed")
MEMORIES = ("block", "sdram", "ddr3", "host", "port", "axi")
OUTSIDE = ("sdram", "ddr3", "port", "axi")
"""Memories outside the chip. They have the march test."""
AXI_PORTS = (1, 2, 4, 8, 16)
AXI_DATA_BITS = (64, 128, 256, 512)
STATES = ("block", "memory")
CELLS = ("generic", "ecp5")
STATE_BASE_BITS = 20
"""Bits of an operation's field ``state_base``, which names a beat of the memory of states."""
HOST_CHUNKS = 4
"""Chunks of the link that a chip must have room for if the host sends its words."""
RENAMED = {"tokens": "streams"}
"""The present name of each field that was renamed."""
RENAMED_SOURCES = {"stream": "streamed"}
"""The present name of each value of ``source`` that was renamed."""


def renamed_or_known(name: str, known: Sequence[str]) -> str:
    """Return the end of an error message about an unknown name: which name to write instead.

    Parameters
    ----------
    name : str
        The unknown name.
    known : sequence of str
        Names of the fields.
    """
    return f"it is called {RENAMED[name]} now" if name in RENAMED else f"choose one of {', '.join(known)}"


@dataclass(frozen=True)
class HwConfig:
    """Describes the shape of a machine.

    Letters in other documents: R ``rows``, C ``columns``, T ``streams``, P ``results_per_cycle``, Q
    ``codes_per_cycle``. C, T, P and Q are powers of two, because an index is split by its bits.

    Parameters
    ----------
    name : str
        The name of the machine.
    rows : int
        Rows of a beat of trits; a multiple of ``results_per_cycle``. The ternary unit takes ``rows * columns`` trits a
        cycle, one for each lane.
    columns : int
        Codes that are applied to each row of a beat.
    streams : int
        Activation vectors that every trit is applied to. A run has at most this many streams, which are conversations
        that share a pass.
    results_per_cycle : int
        Sums that leave the ternary unit in a cycle, and elements that the elementwise path takes in a cycle.
    codes_per_cycle : int
        Codes that the quantiser makes in a cycle. It divides ``columns`` and is a multiple of ``results_per_cycle``.
    source : str
        "resident": trits are in block RAM and come a beat a cycle; operations and gains are in a separate memory of
        words. "streamed": one memory of words holds everything and gives at most one word a cycle.
    memory : str
        Where the words are. All but "block" need source "streamed".

        - "block": block RAM of the chip.
        - "sdram" or "ddr3": a DRAM part of the board.
        - "host": the host sends them over the link for every token.
        - "port": a memory of the user at a port of the top level, see hw/memory/word_source.py.
        - "axi": a memory of the user at AXI4 ports, see hw/memory/axi.py.
    memory_ports : int
        Memory "axi": AXI4 masters that a word is striped over, each of 64 to 512 bits.
    memory_hz : int
        Memory "ddr3": clock of the memory's controller, half the clock of the part. A word comes every two cycles.
    state : str
        Where S is. "block": in block RAM. "memory": after the words in their memory; it is read before each layer and
        written after it (hw/state_dma.py). "memory" is not possible where the host sends the words.
    words_in_flight : int
        Memory "port" or "axi": words that are requested ahead, to hide the latency of that memory in cycles.
    word_bytes : int
        Bytes of a word of memory. The host writes words, and the record stream consists of words.
    memory_words : int
        Depth of the memory of words. Memory "host": number of words that the chip buffers. It is a power of two times
        the words of a chunk of the link.
    trit_beats : int
        Source "resident": depth of the memory of trits, in beats. The embedding table follows the trits.
    max_width : int
        Longest vector: hidden or intermediate size.
    max_state : int
        Largest number of words of state: layers * hidden size * streams. With state "memory" it is not used: the free
        words of that memory decide how many states fit.
    max_vocab : int
        Largest number of tokens of a vocabulary.
    trit_fifo_words : int
        Source "streamed": words of trits that are buffered after the router, which runs ahead during a barrier.
    gain_fifo_words : int
        Words of gains that are buffered after the router.
    gain_fifo_groups : int
        Groups of gains, each for P elements, that are unpacked from those words and buffered. Results come a beat a
        cycle. If a group takes several words, many groups must be buffered before the results come.
    lut_ram_depth : int
        Source "resident": memories of vectors and tables up to this depth are built of LUTs, because the block RAMs are
        full of trits.
    top_k : int
        Number of largest logits that are kept for the host; 0 keeps all logits.
    clock_hz : int
        Clock in Hz from which tokens per second are computed. The report of a build gives the clock that a board
        reaches.
    cells : str
        "ecp5" builds lanes of CCU2C cells. "generic" leaves them to the synthesis; simulations use it.
    debug_tap : bool
        Adds the ports with which the simulated board shows h, S, codes and sums.
    counters : bool
        Adds counters of the waits of lanes and record stream, phase by phase (hw/counters.py).
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
            ("gain_fifo_groups", self.gain_fifo_groups, 2, 1 << 12),
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
        """Refuse words that no AXI4 ports can carry."""
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
        """Trits that are consumed in a cycle."""
        return self.rows * self.columns

    @property
    def beat_bytes(self) -> int:
        """Bytes of the trits of one beat, with five trits in a byte."""
        return -(-self.lanes // TRITS_PER_BYTE)

    @property
    def beat_bits(self) -> int:
        """Bits of the trits of one beat."""
        return 8 * self.beat_bytes

    @property
    def word_bits(self) -> int:
        """Bits of a memory word."""
        return 8 * self.word_bytes

    @property
    def address_bits(self) -> int:
        """Bits of a word address in readers and link; on a resident machine it covers both memories."""
        words = 2 * TRIT_MEMORY if self.source == "resident" else self.memory_words
        return max(16, (words - 1).bit_length())

    @property
    def parts(self) -> int:
        """Words in which the host writes a resident beat; the last one may be cut short."""
        return -(-self.beat_bytes // self.word_bytes)

    @property
    def part_bits(self) -> int:
        """Low bits of an address in the memory of trits, which name the part of a beat."""
        return (self.parts - 1).bit_length()

    @property
    def stream_bits(self) -> int:
        """Bits that name one of ``streams`` streams. For a single stream it is 1 bit, which is always 0."""
        return max(1, (self.streams - 1).bit_length())

    @property
    def state_beats(self) -> int:
        """Words of the memory of states, P elements each."""
        return -(-self.max_state // self.results_per_cycle)

    @property
    def state_bits(self) -> int:
        """Bits that name one of ``state_beats``. With state "memory" it is 1, and no operation names a beat."""
        return 1 if self.state == "memory" else max(1, (self.state_beats - 1).bit_length())

    @property
    def base_bits(self) -> int:
        """Bits that name the start of a stream's state: a beat of the memory of states, or a word."""
        return self.address_bits if self.state == "memory" else self.state_bits

    @property
    def index_bits(self) -> int:
        """Bits that name a beat of P elements of a vector (or of logits)."""
        beats = -(-max(self.max_width, self.max_vocab) // self.results_per_cycle)
        return max(1, (beats - 1).bit_length())

    @property
    def counted_phases(self) -> int:
        """Phases of a token that the table of counters holds; 0 without counters.

        A token has 7 phases for each layer, and 3 more. The table of 512 rows is block RAM and holds 72 layers. The
        program memory of a resident machine is built of LUTs and holds 17 layers.
        """
        if not self.counters:
            return 0
        return 128 if self.source == "resident" else 512

    @property
    def digest(self) -> str:
        """SHA-256 of the description as canonical JSON, in hexadecimal. Fields that were added later count only where
        they are used."""
        values = asdict(self)
        for name, unused in (("counters", False), ("state", "block")):
            if values[name] == unused:
                del values[name]
        for name, memories in (
            ("words_in_flight", ("port", "axi")),
            ("memory_hz", ("ddr3",)),
            ("memory_ports", ("axi",)),
        ):
            if self.memory not in memories:
                del values[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

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
            A name is not that of a field. For an old name, the message gives the new one.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise LuternError(f"{name!r} is no field of a machine; {renamed_or_known(name, known)}.")
        return cls(**values)

    def with_(self, **changes: object) -> HwConfig:
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
