"""``HwConfig``: how the network is computed. One frozen description from which every width and depth follows.

A bitstream's limits (widest vector, state words, memory) are part of it; what is computed is ``ModelConfig``, and
travels in the image. Presets are data, and are the choices of the command line.
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
"""Word address from which on the host writes the memory of trits: ``TRIT_MEMORY | beat << part_bits | part``."""


SOURCES = ("resident", "streamed")
MEMORIES = ("block", "sdram", "ddr3", "host", "port", "axi")
OUTSIDE = ("sdram", "ddr3", "port", "axi")
"""Memories beside the chip: they have the march test."""
AXI_PORTS = (1, 2, 4, 8, 16)
AXI_DATA_BITS = (64, 128, 256, 512)
STATES = ("block", "memory")
CELLS = ("generic", "ecp5")
STATE_BASE_BITS = 20
"""Bits of an operation that name a beat of the memory of states."""
HOST_CHUNKS = 4
"""Chunks of the link that must have room on a chip whose words the host sends."""
RENAMED = {"tokens": "streams"}
"""Old names of fields, and the names that they have now."""
RENAMED_SOURCES = {"stream": "streamed"}
"""Old values of ``source``, and the values that they have now."""


def renamed_or_known(name: str, known: Sequence[str]) -> str:
    """What to write in place of a name that no field has: the end of a sentence."""
    return f"it is called {RENAMED[name]} now" if name in RENAMED else f"choose one of {', '.join(known)}"


@dataclass(frozen=True)
class HwConfig:
    """Shape of the machine.

    rows, columns
        the ternary unit takes ``rows * columns = lanes`` trits a cycle: ``columns`` codes against ``rows`` rows.
        ``columns``, ``streams``, ``results_per_cycle`` and ``codes_per_cycle`` are powers of two, for an index is split
        by its bits; ``rows`` is any multiple of ``results_per_cycle``.
    streams
        activation vectors that every trit is applied to, most streams of a run: conversations that share a pass.
    results_per_cycle
        sums that leave the ternary unit in a cycle, width of the elementwise path (divides ``rows``).
    codes_per_cycle
        codes that the quantiser makes in a cycle (divides ``columns``; a multiple of ``results_per_cycle``).
    source
        "resident": trits in block RAM, a beat a cycle, operations and gains beside them in a memory of words.
        "streamed": one memory of words holds everything, and delivers a word a cycle at best.
    memory
        where the words are: "block" RAM of the chip; "sdram" or "ddr3" of the board; "host": sent over the link every
        token; "port": a memory of the user's at a port of the top, see hw/memory/word_source.py; "axi": the same
        through AXI4, see hw/memory/axi.py (all for source "streamed").
    memory_ports
        "axi": masters that a word is striped over, each of 64 to 512 bits.
    memory_hz
        "ddr3": the clock of the memory's controller, half the part's; a word comes every two cycles.
    state
        where S is: "block" RAM of the chip; "memory": behind the words, read before a layer and written after it
        (hw/state_dma.py; not where the host sends the words).
    words_in_flight
        "port", "axi": words that are asked for ahead, to hide the latency of that memory in cycles.
    word_bytes
        bytes of a word of memory: what the host writes, and what the record stream consists of.
    memory_words
        depth of the memory of words; "host": words that wait on the chip, a power of two of chunks of the link.
    trit_beats
        resident: depth of the memory of trits, in beats; the embedding table follows the trits.
    max_width, max_state, max_vocab
        longest vector (hidden or intermediate size), state words (layers * hidden size * streams), tokens. With state
        "memory" ``max_state`` limits nothing: the states of as many streams fit as there are words left for.
    trit_fifo_words, gain_fifo_words
        words of trits (source "streamed") and of gains that wait after the router, which runs ahead during a barrier.
    gain_fifo_groups
        groups of gains (of P elements each) that wait after those words; many where a group takes several words and
        results come a beat a cycle.
    lut_ram_depth
        resident, where block RAMs are full of trits: memories of vectors and tables up to this depth are built of LUTs.
    top_k
        the largest logits that are kept for the host; 0 keeps all of them.
    clock_hz
        the clock that tokens per second are stated for; what a board reaches is its build's report.
    cells
        "ecp5" builds lanes of CCU2C cells; "generic" leaves them to the synthesis, and is what is simulated.
    counters
        adds the counters of what lanes and record stream wait for, phase by phase (hw/counters.py).
    debug_tap
        adds the ports with which the simulated board shows h, S, codes and sums.
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
                    f"HwConfig {self.name}: {large} is {getattr(self, large)}, no multiple of "
                    f"{small} {getattr(self, small)}; choose one."
                )
        if self.source == "resident" and self.memory != "block":
            raise LuternError(
                f"HwConfig {self.name}: source resident keeps its weights in block RAM, memory is {self.memory!r}; "
                "choose source streamed."
            )
        if self.source == "streamed" and self.beat_bytes % self.word_bytes:
            raise LuternError(
                f"HwConfig {self.name}: a beat of trits has {self.beat_bytes} bytes, no multiple of word_bytes "
                f"{self.word_bytes}; choose a word that beats consist of."
            )
        if self.state == "memory":
            self._check_state()
        if self.memory == "axi":
            self._check_ports()
        if self.source == "streamed" and self.word_bits > WIDE and self.word_bits % SLICE:
            raise LuternError(
                f"HwConfig {self.name}: word_bytes is {self.word_bytes}; words of more than {WIDE // 8} bytes are "
                f"multiples of {SLICE // 8}."
            )
        least = HOST_CHUNKS * (CHUNK_BYTES // self.word_bytes)
        if self.memory == "host" and self.memory_words < least:
            raise LuternError(
                f"HwConfig {self.name}: {self.memory_words} words wait on the chip; give memory_words {least} or more, "
                "so that the link goes on while they are used."
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
                f"HwConfig {self.name}: state is 'memory', and with {kept} there is no memory of words that holds it; "
                "choose state block."
            )
        if self.word_bytes & (self.word_bytes - 1) or self.word_bytes > 4 * self.max_width:
            raise LuternError(
                f"HwConfig {self.name}: state is 'memory', and word_bytes is {self.word_bytes}; give a power of two "
                f"that a vector of max_width {self.max_width} fills."
            )

    def _check_ports(self) -> None:
        """Refuse words that no AXI4 ports carry."""
        bits = self.word_bits // self.memory_ports
        if (
            self.memory_ports not in AXI_PORTS
            or bits not in AXI_DATA_BITS
            or bits * self.memory_ports != self.word_bits
        ):
            raise LuternError(
                f"HwConfig {self.name}: words of {self.word_bytes} bytes over {self.memory_ports} AXI4 ports; give "
                f"memory_ports {', '.join(map(str, AXI_PORTS))}, of {', '.join(map(str, AXI_DATA_BITS))} bits each."
            )

    @property
    def lanes(self) -> int:
        """Trits consumed in a cycle."""
        return self.rows * self.columns

    @property
    def beat_bytes(self) -> int:
        """Bytes of the trits of one beat, five in a byte."""
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
        """Bits of an address of the memory of words, as readers and link hold it; resident: of both memories."""
        words = 2 * TRIT_MEMORY if self.source == "resident" else self.memory_words
        return max(16, (words - 1).bit_length())

    @property
    def parts(self) -> int:
        """Words that a resident beat is written in; the last one may be cut short."""
        return -(-self.beat_bytes // self.word_bytes)

    @property
    def part_bits(self) -> int:
        """Low bits of a trit memory's address that name the part of a beat."""
        return (self.parts - 1).bit_length()

    @property
    def stream_bits(self) -> int:
        """Bits that name one of ``streams`` streams; 1 for a single stream, always 0."""
        return max(1, (self.streams - 1).bit_length())

    @property
    def state_beats(self) -> int:
        """Words of the memory of states, P elements each."""
        return -(-self.max_state // self.results_per_cycle)

    @property
    def state_bits(self) -> int:
        """Bits that name one of ``state_beats``; with state "memory" no operation names one."""
        return 1 if self.state == "memory" else max(1, (self.state_beats - 1).bit_length())

    @property
    def base_bits(self) -> int:
        """Bits that name where the state of a stream begins: a beat of the memory of states, or a word."""
        return self.address_bits if self.state == "memory" else self.state_bits

    @property
    def index_bits(self) -> int:
        """Bits that name a beat of P elements of a vector (or of logits)."""
        beats = -(-max(self.max_width, self.max_vocab) // self.results_per_cycle)
        return max(1, (beats - 1).bit_length())

    @property
    def counted_phases(self) -> int:
        """Phases of a token that the table of counters holds, 7 a layer and 3; 0 without counters.

        Its block RAMs are 512 rows deep, for 72 layers. A resident machine's table is built of LUTs, for 17 layers.
        """
        if not self.counters:
            return 0
        return 128 if self.source == "resident" else 512

    @property
    def digest(self) -> str:
        """SHA-256 of the description in canonical JSON, in hexadecimal; later fields count where they are used."""
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
        """A machine from the fields of its JSON. An old name is refused with the one that it has now."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise LuternError(f"{name!r} is no field of a machine; {renamed_or_known(name, known)}.")
        return cls(**values)

    def with_(self, **changes: object) -> HwConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
