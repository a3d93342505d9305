"""``HwConfig``: how the network is computed. One frozen description from which every width and depth follows.

A bitstream's limits (widest vector, state words, memory) are part of it; what is computed is ``ModelConfig``, and
travels in the image. Presets are data, and are the choices of the command line.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from lutern.model_ref.errors import LuternError

TRITS_PER_BYTE = 5


@dataclass(frozen=True)
class HwConfig:
    """Shape of the machine.

    rows, columns
        the ternary unit takes ``rows * columns = lanes`` trits a cycle: ``columns`` codes against ``rows`` rows.
    results_per_cycle
        sums that leave the ternary unit in a cycle, width of the elementwise path (divides ``rows``).
    codes_per_cycle
        codes that the quantiser makes in a cycle (divides ``columns``; a multiple of ``results_per_cycle``).
    memory_words
        depth of the image memory, in words of ``word_bytes``.
    max_width, max_state, max_vocab
        longest vector (hidden or intermediate size), state words (layers * hidden size), tokens.
    trit_fifo_words, gain_fifo_words
        words of trits and of gains that wait behind the router: it runs ahead during a barrier, so that the words
        that are no trits pass then.
    clock_hz
        the clock that tokens per second are stated for, below what the decoder routes to (`lutern cost decoder
        --routed`); what a board reaches is its build's report.
    debug_tap
        adds the ports with which the simulated board shows h, S, codes and sums.
    """

    name: str
    rows: int = 4
    columns: int = 16
    results_per_cycle: int = 1
    codes_per_cycle: int = 4
    memory_words: int = 1 << 16
    max_width: int = 512
    max_state: int = 2048
    max_vocab: int = 256
    trit_fifo_words: int = 64
    gain_fifo_words: int = 64
    clock_hz: int = 75_000_000
    debug_tap: bool = True

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise LuternError(f"HwConfig {self.name}: {name} is {value}; give a number above 0.")
        for small, large in (("results_per_cycle", "rows"), ("codes_per_cycle", "columns"),
                             ("results_per_cycle", "codes_per_cycle")):
            if getattr(self, large) % getattr(self, small):
                raise LuternError(
                    f"HwConfig {self.name}: {large} is {getattr(self, large)}, no multiple of "
                    f"{small} {getattr(self, small)}; choose one."
                )
        for name, value, lowest, highest in (
            ("rows / results_per_cycle", self.rows // self.results_per_cycle, 1, 255),
            ("memory_words", self.memory_words, 1, 1 << 24),
            ("max_width", self.max_width, 1, 8192),
            ("max_vocab", self.max_vocab, 1, (1 << 16) - 1),
            ("max_state / results_per_cycle", self.max_state // self.results_per_cycle, 1, 1 << 16),
            ("trit_fifo_words", self.trit_fifo_words, 4, 1 << 16),
            ("gain_fifo_words", self.gain_fifo_words, 4, 1 << 16),
        ):
            if not lowest <= value <= highest:
                raise LuternError(
                    f"HwConfig {self.name}: {name} is {value}; fields of the gateware hold {lowest} to {highest}."
                )
        for name in ("results_per_cycle", "codes_per_cycle", "columns"):
            value = getattr(self, name)
            if value & (value - 1):
                raise LuternError(f"HwConfig {self.name}: {name} is {value}; give a power of two.")

    @property
    def lanes(self) -> int:
        """Trits consumed in a cycle."""
        return self.rows * self.columns

    @property
    def word_bytes(self) -> int:
        """Bytes of a memory word: the trits of one beat, five in a byte."""
        return -(-self.lanes // TRITS_PER_BYTE)

    @property
    def word_bits(self) -> int:
        """Bits of a memory word."""
        return 8 * self.word_bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the description in canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def with_(self, **changes: object) -> HwConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


PRESETS = {
    config.name: config
    for config in (
        HwConfig("tiny", rows=4, columns=4, codes_per_cycle=2, memory_words=1 << 13, max_width=64, max_state=128,
                 max_vocab=64, trit_fifo_words=16, gain_fifo_words=32),
        HwConfig("sim-64"),
    )
}


def preset(name: str) -> HwConfig:
    """The preset of that name."""
    if name not in PRESETS:
        raise LuternError(f"there is no preset {name}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
